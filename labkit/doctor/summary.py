"""All findings: as a table in a notebook, as text in a terminal or in a bug report."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from importlib import metadata
from typing import TYPE_CHECKING

from helpers.connection.settings import on_colab
from helpers.paths import ROOT
from labkit.doctor import folders, machine, network, servers
from labkit.doctor.finding import GAP, Finding, private

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = {
    "machine": machine.findings,
    "folders": folders.findings,
    "network": network.findings,
    "keys": servers.check_keys,
    "servers": servers.check_servers,
}
# Of these a bug report names the versions, beside those that differ from the tested ones.
PACKAGES = (
    *("torch", "transformers", "bitsandbytes", "openai", "numpy", "pandas"),
    *("ipykernel", "ipywidgets", "jupyterlab"),
)


def examine() -> dict[str, list[Finding]]:
    """The findings of each section. No text has a key, a home folder or a user's name."""
    return {
        section: [Finding(*map(private, finding)) for finding in findings()]
        for section, findings in SECTIONS.items()
    }


def report() -> pd.DataFrame:
    """The findings for a notebook: index `check`; columns `status` and `finding`."""
    import pandas as pd

    rows = [
        (
            f"server {finding.check}" if section == "servers" else finding.check,
            finding.status,
            said(finding),
        )
        for section, found in examine().items()
        for finding in found
    ]
    return pd.DataFrame(rows, columns=["check", "status", "finding"]).set_index("check")


def said(finding: Finding) -> str:
    """The detail, and what to do about it."""
    return " → ".join(filter(None, [finding.detail, finding.advice]))


def text(sections: dict[str, list[Finding]], width: int | None = 80) -> str:
    """The findings in lines of at most `width` characters; one line each if None."""
    indent, lines = " " * 24, []
    for section, found in sections.items():
        lines += ["", section.upper()]
        for finding in found:
            head = f"  {finding.status:<5} {finding.check:<15} "
            if width is None:
                lines.append(head + said(finding))
                continue
            if len(head) > len(indent):
                lines.append(head.rstrip())
                head = indent
            for start, paragraph in ((head, finding.detail), (f"{indent}→ ", finding.advice)):
                if paragraph:
                    lines += textwrap.wrap(
                        paragraph,
                        width,
                        initial_indent=start,
                        subsequent_indent=indent,
                        break_long_words=False,
                        break_on_hyphens=False,
                    )
    return "\n".join(lines[1:])


def gaps(sections: dict[str, list[Finding]]) -> int:
    """How many findings are gaps."""
    return sum(finding.status == GAP for found in sections.values() for finding in found)


def bug_report(sections: dict[str, list[Finding]]) -> str:
    """What to paste into a bug report: versions, platform, findings."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    place = "Colab" if on_colab() else "a notebook" if "ipykernel" in sys.modules else "a terminal"
    head = [
        f"mistral-small-lab {_version('mistral-small-lab')}, {_commit()}",
        f"Python {platform.python_version()} ({platform.python_implementation()}) in {place}",
        f"{platform.platform()}, {os.cpu_count()} cores",
        *textwrap.wrap(versions, 80),
    ]
    return private("\n".join(head)) + "\n\n" + text(sections)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _commit() -> str:
    """The kit's state in Git: a commit, and how many of its files were changed."""
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True
            ).stdout
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "not from Git"
    return f"commit {commit.strip()}, {len(changed.splitlines())} files changed"

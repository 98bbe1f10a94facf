"""Colab's packages, as Google publishes them, and what the kit's set-up would change there.

The list in `data/colab` is a dated copy of `pip-freeze.txt` in googlecolab/backend-info.
`python -m helpers check --colab-list FILE` renews it.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from helpers.paths import DATA, ROOT, write_text
from labkit import colab

FOLDER = DATA / "colab"
PYTHON = "3.13"
# Without these a file is no list of Colab's packages.
EXPECTED = ("ipykernel", "ipywidgets", "numpy", "pandas", "torch")
# Of the right size, so that a list cut in half is refused.
FEWEST = 300


def list_file() -> Path:
    """The newest list in `data/colab`."""
    return max(FOLDER.glob("packages-*.txt"))


def packages() -> dict[str, str]:
    """Colab's version of each package, by name."""
    return colab.pins(list_file().read_text(encoding="utf-8"))


def renew(file: Path, folder: Path = FOLDER, today: date | None = None) -> Path:
    """Replace the list by `file`, whose lines are `name==version`; returns the new list's path.

    Args:
        file: the list. A date in its name is the list's date, else it is of today.

    Raises:
        ValueError: the file is not such a list. Nothing is changed.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    # torch comes from an address of its own, and with CUDA: `torch @ https://…/torch-2.11.0%2Bcu…`.
    torch = re.search(r"^torch @ \S+/torch-([\d.]+)", text, re.M)
    pins = colab.pins(text) | ({"torch": torch[1]} if torch else {})
    missing = [name for name in EXPECTED if name not in pins]
    if len(pins) < FEWEST or missing:
        raise ValueError(
            f"{file} is not a list of Colab's packages: it has {len(pins)} lines such as "
            f"name==version, and lacks {', '.join(missing) or 'nothing of the usual'}. "
            "Take pip-freeze.txt of googlecolab/backend-info on GitHub."
        )
    day = re.search(r"\d{4}-\d\d-\d\d", file.name)
    target = folder / f"packages-{day[0] if day else today or date.today()}.txt"
    head = "# Packages on Colab, as published in googlecolab/backend-info; pinned entries only.\n"
    text = head + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    older = [path for path in folder.glob("packages-*.txt") if path != target]
    write_text(target, text)
    for path in older:
        path.unlink()
    return target


@dataclass
class Resolution:
    """What pip would change on Colab.

    Attributes:
        replaced: name, and the versions before and after.
        added: name and version.
    """

    replaced: dict[str, tuple[str, str]]
    added: dict[str, str]

    def __str__(self) -> str:
        pairs = [f"{name} {old} → {new}" for name, (old, new) in sorted(self.replaced.items())]
        added = [f"{name} {version}" for name, version in sorted(self.added.items())]
        lines = {"Replaced on Colab": pairs, "Added": added}
        return "\n".join(f"{what}: {len(x)} ({', '.join(x)})" for what, x in lines.items())


class ResolutionError(RuntimeError):
    """pip found no versions that fit together; the message says which and what to do."""


def resolve(present: dict[str, str], requirements: Path | None = None) -> Resolution:
    """What the set-up would replace and add on a Colab with the packages `present`.

    pip resolves as the set-up lets it, for Colab's version of Python, and installs nothing. An
    empty package takes the place of torch, which is large and stays as it is.

    Raises:
        ResolutionError: no versions fit together.
        ConnectionError: no package index can be reached.
    """
    requirements = requirements or ROOT / "requirements-colab.txt"
    tested = colab.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    wanted = colab.constraints(present, tested)
    with tempfile.TemporaryDirectory() as folder:
        torch = _empty_wheel(Path(folder), "torch", wanted.pop("torch"))
        pinned, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        lines = [f"{name}=={version}" for name, version in wanted.items()]
        pinned.write_text("\n".join([*lines, f"torch @ {torch.as_uri()}"]))
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        pip += ["--dry-run", "--report", str(report), "--target", str(Path(folder, "target"))]
        pip += ["--python-version", PYTHON, "--only-binary=:all:"]
        pip += ["-c", str(pinned), "-r", str(requirements)]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            if "after connection broken" in done.stderr:
                raise ConnectionError("pip reached no package index")
            cause = done.stdout.partition("The conflict is caused by:")[2].partition("\n\n")[0]
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
            raise ResolutionError(
                "pip finds no versions that fit these packages of Colab: change the ranges in "
                f"{requirements.name} or the pins in constraints.txt. {cause or errors}"
            )
        chosen = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    versions = {colab.canonical(each["name"]): each["version"] for each in chosen}
    versions.pop("torch", None)
    return Resolution(
        replaced={
            name: (present[name], version)
            for name, version in versions.items()
            if present.get(name, version) != version
        },
        added={name: version for name, version in versions.items() if name not in present},
    )


def _empty_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with a name, a version and nothing else."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return path

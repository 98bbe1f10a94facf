"""Faults of the measured figures: bad files, unknown ids, figures in texts that name no id.

The folders are those of `labkit.audit.measurements`; a test can point them at a kit of its own.
"""

import json
import re
from collections.abc import Iterator

from labkit.audit import measurements

REFERENCE = re.compile(
    r"""measurements\.(?:load|verify)\(\s*["']([^"']*)["']|measured:\s`([^`]*)`"""
)
FIGURE = re.compile(r"\d\s*(tokens/s|tokens per second|ms|s|seconds|minutes|[KMGT]i?B|%|×)(?!\w)")


def text_problems(text: str, prose: bool = True) -> list[str]:
    """What is wrong with the measured figures of a text: unknown ids and, in prose, missing ids.

    A paragraph lacks an id if it says "measured", shows a figure with a unit and names no id.
    """
    known = measurements.ids()
    named = [match[1] or match[2] or "" for match in REFERENCE.finditer(text)]
    problems = [f"no measured figure is called {name!r}" for name in named if name not in known]
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*|])", text) if prose else []:
        says_measured = re.search(r"\bmeasured\b", paragraph) and FIGURE.search(paragraph)
        if says_measured and not REFERENCE.search(paragraph):
            problems.append(f"a measured figure without an id: {paragraph.strip()[:80]!r}")
    return problems


def documents() -> Iterator[tuple[str, str, bool]]:
    """Where figures may be: (place, text, whether it is prose)."""
    for path in sorted((measurements.ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            text = "".join(cell["source"])
            yield f"{path.name}, cell {number}", text, cell["cell_type"] == "markdown"
    for path in (*sorted(measurements.ROOT.glob("*.md")), measurements.DATA / "claims.yaml"):
        yield path.name, path.read_text(encoding="utf-8"), True
    for package in measurements.PACKAGES:
        for path in sorted((measurements.ROOT / package).rglob("*.py")):
            yield str(path.relative_to(measurements.ROOT)), path.read_text(encoding="utf-8"), False


def problems() -> list[str]:
    """Everything that is wrong with the files of the figures and the texts that use them."""
    problems = []
    for figure_id in measurements.ids():
        try:
            script = measurements.load(figure_id).command.split()[1]
        except ValueError as error:
            problems.append(str(error))
            continue
        if script.endswith(".py") and not (measurements.ROOT / script).exists():
            problems.append(f"data/measurements/{figure_id}.json: there is no {script}")
    for place, text, prose in documents():
        problems += [f"{place}: {problem}" for problem in text_problems(text, prose)]
    return problems

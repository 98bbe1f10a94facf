"""What must hold of every committed notebook: small functions, each returning its complaints.

`python -m helpers check` runs the table CHECKS; `tests/test_notebook_checks.py` plants one fault
for each entry and sees it found.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nbformat import NotebookNode

from labkit import freshness, notebooks

MEDIAN_LINES = 12
MAX_LINES = 30


@dataclass
class Context:
    """One notebook, its file, and its neighbours in reading order."""

    path: Path
    notebook: NotebookNode

    @cached_property
    def code(self) -> list[NotebookNode]:
        """The code cells that are not empty."""
        return notebooks.code_cells(self.notebook)

    @cached_property
    def prose(self) -> list[str]:
        """The Markdown cells, fenced code removed."""
        cells = (cell for cell in self.notebook.cells if cell.cell_type == "markdown")
        return [re.sub(r"^```.*?^```", "", cell.source, flags=re.M | re.S) for cell in cells]

    @cached_property
    def own_code(self) -> list[NotebookNode]:
        """The code cells without the generated set-up cell."""
        return [cell for cell in self.code if notebooks.COLAB_TAG not in notebooks.tags(cell)]

    def outputs(self) -> Iterator[tuple[int, NotebookNode]]:
        """Each output with the number of its code cell, counted from one."""
        for number, cell in enumerate(self.code, 1):
            for output in cell.outputs:
                yield number, output

    def texts(self) -> Iterator[tuple[str, str]]:
        """Everything a reader or a search could see: (where, text), metadata included."""
        yield "notebook metadata", json.dumps(self.notebook.metadata)
        for number, cell in enumerate(self.notebook.cells):
            yield f"cell {number}", cell.source
            yield f"metadata of cell {number}", json.dumps(cell.metadata)
            for output in cell.get("outputs", []):
                yield f"output of cell {number}", notebooks.output_text(output)
                if output.get("metadata"):
                    yield f"output metadata of cell {number}", json.dumps(output.metadata)


def execution_counts(context: Context) -> list[str]:
    """Code cells were executed once each, in order: a null count is never compared by nbval."""
    counts = [cell.execution_count for cell in context.code]
    expected = list(range(1, len(counts) + 1))
    return [] if counts == expected else [f"execution counts are {counts}, not 1..{len(counts)}"]


def heading(context: Context) -> list[str]:
    """The first cell holds the only H1 `# NN · Title`, the badge, and the three-row table."""
    problems = []
    first = context.notebook.cells[0]
    source = first.source if first.cell_type == "markdown" else ""
    lines = [line for line in source.splitlines() if line.strip()]
    if not lines or not re.match(rf"# {context.path.name[:2]} · \S", lines[0]):
        problems.append(f"the first line is not `# {context.path.name[:2]} · Title`")
    headings = sum(len(re.findall(r"^# ", text, re.M)) for text in context.prose)
    if headings != 1:
        problems.append(f"{headings} level-one headings, not one")
    rows = [line.split("|")[1].lower() for line in lines if line.startswith("|")]
    for what, pattern in [
        ("what you will be able to do", "able to"),
        ("what you need", "need"),
        ("how long it takes", "long|time|takes"),
    ]:
        if not any(re.search(pattern, row) for row in rows):
            problems.append(f"the table in the first cell has no row on {what}")
    return problems


def badge(context: Context) -> list[str]:
    """The line under the title is this notebook's own Colab badge."""
    lines = [line for line in context.notebook.cells[0].source.splitlines() if line.strip()]
    right = lines[1:2] == [notebooks.badge(context.path)]
    return [] if right else ["no right Colab badge under the title (`check --fix` sets it)"]


def colab_cell(context: Context) -> list[str]:
    """The first code cell is the generated set-up cell, to the letter."""
    first = context.code[0] if context.code else None
    if first is None or notebooks.COLAB_TAG not in notebooks.tags(first):
        return ["the first code cell is not the one tagged `colab` (`check --fix` sets it)"]
    if first.source != notebooks.COLAB_CELL:
        return ["the `colab` cell differs from labkit.notebooks (`check --fix` sets it)"]
    return []


def parameters(context: Context) -> list[str]:
    """One cell is tagged `parameters`, sets BACKEND to "pocket", and comments on each line."""
    cells = [cell for cell in context.code if "parameters" in notebooks.tags(cell)]
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged `parameters`, not one"]
    source = cells[0].source
    problems = []
    if not re.search(r'^BACKEND = "pocket"', source, re.M):
        problems.append('the parameters cell does not say BACKEND = "pocket"')
    for line in source.splitlines():
        if re.match(r"\w+\s*=", line) and "#" not in line:
            problems.append(f"a parameter has no comment: {line}")
    return problems


def exercises(context: Context) -> list[str]:
    """There is an Exercises section with a folded solution and a check."""
    sources = [cell.source for cell in context.notebook.cells]
    starts = [i for i, text in enumerate(sources) if re.search(r"^## .*Exercises", text, re.M)]
    if not starts:
        return ["no `## Exercises` section"]
    rest = context.notebook.cells[starts[0] :]
    problems = []
    if not any("<details>" in cell.source for cell in rest if cell.cell_type == "markdown"):
        problems.append("no exercise has a folded solution (<details>)")
    if not any(re.search(r"\bcheck\w*\(", cell.source) for cell in rest if "outputs" in cell):
        problems.append("no exercise calls a check")
    return problems


def ending(context: Context) -> list[str]:
    """It ends with "What you learned" and links to the previous and the next notebook."""
    problems = []
    if not any(re.search(r"^## What you learned", text, re.M) for text in context.prose):
        problems.append("no `## What you learned` section")
    shelf = [path.name for path in notebooks.available(context.path.parent)]
    place = shelf.index(context.path.name)
    last = context.prose[-1] if context.prose else ""
    for word, neighbours in [("previous", shelf[:place][-1:]), ("next", shelf[place + 1 :][:1])]:
        for name in neighbours:
            if f"]({name})" not in last:
                problems.append(f"the last Markdown cell has no link to the {word}, {name}")
    return problems


def links(context: Context) -> list[str]:
    """Relative links lead to files that exist."""
    problems = []
    for text in context.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
            link = (target[0] or target[1]).split("#")[0]
            outside = re.match(r"[a-z][a-z0-9+.-]*:", link) or link == ""
            if not outside and not (context.path.parent / link).exists():
                problems.append(f"broken link: {link}")
    return problems


def no_errors(context: Context) -> list[str]:
    """No output is an error, except where the cell is tagged `raises-exception`."""
    return [
        f"code cell {number} ended in {output.ename}: {output.evalue}"
        for number, output in context.outputs()
        if output.output_type == "error"
        and "raises-exception" not in notebooks.tags(context.code[number - 1])
    ]


# detect-secrets knows most providers' keys by shape. These are the ones that this kit deals with,
# or that it lacks. Its entropy and keyword guesses stay off: they take model ids for keys.
SECRETS = {
    "OpenRouter key": r"sk-or-v1-[0-9a-f]{8}",
    "OpenAI-style key": r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{20}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{20}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{30}",
    "Together or Fireworks key": r"\b(?:tgp_v1_|fw_)[A-Za-z0-9_-]{16}",
    "bearer token": r"(?i)\bbearer\s+[A-Za-z0-9_\-.=]{20}",
    "key in an assignment": r"(?i)api_?key[\"']?\]?\s*[=:]\s*[\"'](?=\w*\d)[A-Za-z0-9_-]{20}",
}
GUESSES = {"Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector"}


def secrets(context: Context) -> list[str]:
    """Nothing in sources, outputs, tracebacks or metadata looks like a key; none is repeated."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    problems = []
    with default_settings() as settings:
        settings.disable_plugins(*GUESSES, "IPPublicDetector")
        for where, text in context.texts():
            kinds = [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]
            kinds += [found.type for line in text.splitlines() for found in scan_line(line)]
            problems += [f"{where} holds what looks like a secret ({kind})" for kind in kinds]
    return problems


MACHINE_PATH = re.compile(
    r"(?<![\w./:-])/(?:home|root|Users|tmp|var/folders)/[\w.-]+|\b[A-Za-z]:\\+Users\\+\w+"
)


def machine_paths(context: Context) -> list[str]:
    """No path of the machine that a notebook was written on."""
    return [
        f"{where} names a path of one machine: {path}"
        for where, text in context.texts()
        for path in MACHINE_PATH.findall(text)
    ]


def widget_state(context: Context) -> list[str]:
    """No saved widget state: GitHub refuses to show a notebook that has it."""
    return ["metadata.widgets is present"] if "widgets" in context.notebook.metadata else []


def cell_length(context: Context) -> list[str]:
    """Cells are short: the median, and each but those tagged `lesson`."""
    lengths = [len(cell.source.splitlines()) for cell in context.own_code]
    problems = []
    if lengths and (median := statistics.median(lengths)) > MEDIAN_LINES:
        problems.append(f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}")
    for cell, length in zip(context.own_code, lengths, strict=True):
        if length > MAX_LINES and "lesson" not in notebooks.tags(cell):
            first = cell.source.splitlines()[0]
            problems.append(f"a code cell has {length} lines, more than {MAX_LINES}: {first}")
    return problems


TIMED = re.compile(r"perf_counter|monotonic|elapsed|seconds|ttft|tpot|\w_(?:s|ms)$|per_second")


def timed_checks(context: Context) -> list[str]:
    """No `assert` depends on how fast this machine is."""
    problems = []
    for cell in context.code:
        for node in ast.walk(notebooks.syntax_tree(cell)):
            if not isinstance(node, ast.Assert):
                continue
            names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(node.test) if isinstance(n, ast.Attribute)}
            if any(TIMED.search(name) for name in names):
                problems.append(f"an assertion depends on timing: {ast.unparse(node)}")
    return problems


def stale(context: Context) -> list[str]:
    """The outputs are no older than the sources, helpers and data that they came from."""
    recorded = freshness.recorded(context.path.parent).get(context.path.name)
    if recorded == freshness.fingerprint(context.path):
        return []
    return [f"outputs are older than the code: python -m helpers notebooks {context.path.name[:2]}"]


CHECKS: list[Callable[[Context], list[str]]] = [
    execution_counts,
    heading,
    badge,
    colab_cell,
    parameters,
    exercises,
    ending,
    links,
    no_errors,
    secrets,
    machine_paths,
    widget_state,
    cell_length,
    timed_checks,
    stale,
]


def check(path: Path) -> list[str]:
    """Every complaint about the notebook at `path`, each beginning with the check's name."""
    context = Context(path, notebooks.read(path))
    return [f"{one.__name__}: {problem}" for one in CHECKS for problem in one(context)]


def main(paths: list[Path], *, fix: bool = False) -> int:
    """Print each notebook's problems; with `fix`, first set badge and set-up cell. 1 if any."""
    total = 0
    for path in paths:
        if fix:
            notebook = notebooks.read(path)
            if notebooks.fix(notebook, path):
                notebooks.write(notebook, path)
                print(f"{path.name}: badge or set-up cell renewed")
        problems = check(path)
        total += len(problems)
        for problem in problems:
            print(f"{path.name}: {problem}")
    print(f"{len(paths)} notebooks, {total} problems")
    return 1 if total else 0

"""The rules for every committed notebook: small functions that yield problems.

`python -m helpers check` runs the functions in CHECKS. A test plants a fault for each of them.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile
from pathlib import Path

from nbformat import NotebookNode

from labkit import freshness, notebooks, vocabulary

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

    def texts(self) -> Iterator[tuple[str, str]]:
        """Everything that a person or a search can see: (where, text), metadata included."""
        yield "notebook metadata", json.dumps(self.notebook.metadata)
        for number, cell in enumerate(self.notebook.cells):
            yield f"cell {number}", cell.source
            yield f"metadata of cell {number}", json.dumps(cell.metadata)
            for output in cell.get("outputs", []):
                yield f"output of cell {number}", notebooks.output_text(output)
                if output.get("metadata"):
                    yield f"output metadata of cell {number}", json.dumps(output.metadata)


def execution_counts(context: Context) -> Iterator[str]:
    """Code cells were executed once each, in order; nbval never compares a cell without a count."""
    counts = [cell.execution_count for cell in context.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, not 1..{len(counts)}"


def heading(context: Context) -> Iterator[str]:
    """The first cell has the only H1, `# NN · Title`, and the table of three rows."""
    first = context.notebook.cells[0]
    source = first.source if first.cell_type == "markdown" else ""
    lines = [line for line in source.splitlines() if line.strip()]
    if not lines or not re.match(rf"# {context.path.name[:2]} · \S", lines[0]):
        yield f"the first line is not `# {context.path.name[:2]} · Title`"
    headings = sum(len(re.findall(r"^# ", text, re.M)) for text in context.prose)
    if headings != 1:
        yield f"{headings} level-one headings, not one"
    rows = [line.split("|")[1].lower() for line in lines if line.startswith("|")]
    wanted = {"what you will be able to do": "able to", "what you need": "need"}
    for topic, pattern in (wanted | {"how long it takes": "long|time|takes"}).items():
        if not any(re.search(pattern, row) for row in rows):
            yield f"the table in the first cell has no row on {topic}"


def badge(context: Context) -> Iterator[str]:
    """The line under the title is this notebook's own Colab badge."""
    lines = [line for line in context.notebook.cells[0].source.splitlines() if line.strip()]
    if lines[1:2] != [notebooks.badge(context.path)]:
        yield "the Colab badge under the title is missing or wrong (`check --fix` sets it)"


def colab_cell(context: Context) -> Iterator[str]:
    """The first code cell is exactly the generated set-up cell, and folded."""
    first = context.code[0] if context.code else None
    if first is None or notebooks.COLAB_TAG not in notebooks.tags(first):
        yield "the first code cell is not tagged `colab` (`check --fix` sets it)"
    elif first.source != notebooks.COLAB_CELL:
        yield "the `colab` cell differs from labkit/colab_cell.py.j2 (`check --fix` sets it)"
    elif first.metadata | notebooks.COLAB_FOLDED != first.metadata:
        yield "the `colab` cell is not folded (`check --fix` sets it)"


def parameters(context: Context) -> Iterator[str]:
    """One cell is tagged `parameters`, sets BACKEND to "pocket", and has a comment on each line."""
    cells = [cell for cell in context.code if "parameters" in notebooks.tags(cell)]
    if len(cells) != 1:
        yield f"{len(cells)} cells are tagged `parameters`, not one"
    source = cells[0].source if cells else ""
    if not re.search(r'^BACKEND = "pocket"', source, re.M):
        yield 'the parameters cell does not say BACKEND = "pocket"'
    for line in source.splitlines():
        if re.match(r"\w+\s*=", line) and "#" not in line:
            yield f"a parameter has no comment: {line}"


def exercises(context: Context) -> Iterator[str]:
    """There is a section "Exercises" with a folded solution and a check."""

    def before(cell: NotebookNode) -> bool:
        return not re.search(r"^## .*Exercises", cell.source, re.M)

    rest = list(dropwhile(before, context.notebook.cells))
    if not rest:
        yield "no `## Exercises` section"
    if not any("<details>" in cell.source for cell in rest if cell.cell_type == "markdown"):
        yield "no exercise has a folded solution (<details>)"
    if not any(re.search(r"\bcheck\w*\(", cell.source) for cell in rest if "outputs" in cell):
        yield "no exercise calls a check"


def ending(context: Context) -> Iterator[str]:
    """It ends with "What you learned" and links to the previous and the next notebook."""
    if not any(re.search(r"^## What you learned", text, re.M) for text in context.prose):
        yield "no `## What you learned` section"
    names = [path.name for path in notebooks.available(context.path.parent)]
    index = names.index(context.path.name)
    last = context.prose[-1] if context.prose else ""
    for side, neighbors in {"previous": names[:index][-1:], "next": names[index + 1 :][:1]}.items():
        for name in neighbors:
            if f"]({name})" not in last:
                yield f"the last Markdown cell has no link to the {side}, {name}"


def glossary(context: Context) -> Iterator[str]:
    """It links to the glossary."""
    if not any("](../GLOSSARY.md" in text for text in context.prose):
        yield "no link to the glossary, ../GLOSSARY.md"


def links(context: Context) -> Iterator[str]:
    """Relative links lead to files that exist."""
    for text in context.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
            link = (target[0] or target[1]).split("#")[0]
            external = re.match(r"[a-z][a-z0-9+.-]*:", link) or link == ""
            if not external and not (context.path.parent / link).exists():
                yield f"broken link: {link}"


def no_errors(context: Context) -> Iterator[str]:
    """No output is an error, except where the cell is tagged `raises-exception`."""
    for number, cell in enumerate(context.code, 1):
        for output in cell.outputs if "raises-exception" not in notebooks.tags(cell) else []:
            if output.output_type == "error":
                yield f"code cell {number} ended in {output.ename}: {output.evalue}"


# detect-secrets knows the keys of most providers. These are the keys that this kit uses, or that
# detect-secrets lacks. Its entropy and keyword detectors are off: they report model ids as keys.
SECRETS = {
    "OpenRouter key": r"sk-or-v1-[0-9a-f]{8}",
    "OpenAI-style key": r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{20}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{20}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{30}",
    "Together or Fireworks key": r"\b(?:tgp_v1_|fw_)[A-Za-z0-9_-]{16}",
    "bearer token": r"(?i)\bbearer\s+[A-Za-z0-9_\-.=]{20}",
    "key in an assignment": r"(?i)api_?key[\"']?\]?\s*[=:]\s*[\"'](?=\w*\d)[A-Za-z0-9_-]{20}",
}
DISABLED = (
    "Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector", "IPPublicDetector",
)  # fmt: skip


def secrets(context: Context) -> Iterator[str]:
    """Nothing in sources, outputs, tracebacks or metadata looks like a key. No key is printed."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    with default_settings() as settings:
        settings.disable_plugins(*DISABLED)
        for where, text in context.texts():
            kinds = [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]
            kinds += [secret.type for line in text.splitlines() for secret in scan_line(line)]
            for kind in kinds:
                yield f"{where} has what looks like a secret ({kind})"


MACHINE_PATH = re.compile(
    r"(?<![\w./:-])/(?:home|root|Users|tmp|var/folders)/[\w.-]+|\b[A-Za-z]:\\+Users\\+\w+"
)


def machine_paths(context: Context) -> Iterator[str]:
    """No path of the machine on which the notebook ran."""
    for where, text in context.texts():
        for path in MACHINE_PATH.findall(text):
            yield f"{where} names a path of one machine: {path}"


def widget_state(context: Context) -> Iterator[str]:
    """No saved widget state: GitHub does not show a notebook that has it."""
    if "widgets" in context.notebook.metadata:
        yield "metadata.widgets is present"


def cell_length(context: Context) -> Iterator[str]:
    """Cells are short: the median, and each cell that is not tagged `lesson`."""
    lengths = [len(cell.source.splitlines()) for cell in context.own_code]
    if lengths and (median := statistics.median(lengths)) > MEDIAN_LINES:
        yield f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}"
    for cell, length in zip(context.own_code, lengths, strict=True):
        if length > MAX_LINES and "lesson" not in notebooks.tags(cell):
            first = cell.source.splitlines()[0]
            yield f"a code cell has {length} lines, more than {MAX_LINES}: {first}"


TIMED = re.compile(r"perf_counter|monotonic|elapsed|seconds|ttft|tpot|\w_(?:s|ms)$|per_second")


def timed_checks(context: Context) -> Iterator[str]:
    """No `assert` depends on how fast this machine is."""
    for cell in context.code:
        for node in ast.walk(notebooks.syntax_tree(cell)):
            if not isinstance(node, ast.Assert):
                continue
            parts = list(ast.walk(node.test))
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            names += [part.attr for part in parts if isinstance(part, ast.Attribute)]
            if any(map(TIMED.search, names)):
                yield f"an assertion depends on timing: {ast.unparse(node)}"


CLOSES_LAB = re.compile(
    r"\blab\.close\(|\bwith .* as lab\b|\bfor (\w+) in [^:]*\blab\b[^:]*:\s+\1\.close\("
)


def lab_stays_open(context: Context) -> Iterator[str]:
    """No cell closes `lab`: the exercises need it, and the lease ends with the kernel."""
    for cell in context.code:
        if match := CLOSES_LAB.search(cell.source):
            yield f"a cell closes `lab`, which later cells may need: {match[0]}"


def dialect(context: Context) -> Iterator[str]:
    """Prose and comments use the terms of the field."""
    comments = [vocabulary.comments(notebooks.python(cell)) for cell in context.code]
    for text in [*context.prose, *comments]:
        yield from vocabulary.problems(text)


def stale(context: Context) -> Iterator[str]:
    """The outputs are not older than the code and data that they depend on."""
    recorded = freshness.recorded(context.path.parent).get(context.path.name)
    if recorded != freshness.fingerprint(context.path):
        yield f"outputs are older than the code: python -m helpers notebooks {context.path.stem}"


CHECKS: list[Callable[[Context], Iterator[str]]] = [
    execution_counts,
    heading,
    badge,
    colab_cell,
    parameters,
    exercises,
    ending,
    glossary,
    dialect,
    links,
    no_errors,
    secrets,
    machine_paths,
    widget_state,
    cell_length,
    timed_checks,
    lab_stays_open,
    stale,
]


def check(path: Path) -> list[str]:
    """Every problem of the notebook at `path`, each beginning with the check's name."""
    context = Context(path, notebooks.read(path))
    return [f"{rule.__name__}: {problem}" for rule in CHECKS for problem in rule(context)]

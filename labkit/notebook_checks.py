"""The rules for every committed notebook: small functions that return a list of problems.

`python -m helpers check` runs the functions in CHECKS. A test plants a fault for each of them.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

from nbformat import NotebookNode

from helpers.paths import ROOT
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
        """Everything that a person or a search can see: (where, text), metadata included."""
        yield "notebook metadata", json.dumps(self.notebook.metadata)
        for number, cell in enumerate(self.notebook.cells):
            yield f"cell {number}", cell.source
            yield f"metadata of cell {number}", json.dumps(cell.metadata)
            for output in cell.get("outputs", []):
                yield f"output of cell {number}", notebooks.output_text(output)
                if output.get("metadata"):
                    yield f"output metadata of cell {number}", json.dumps(output.metadata)


def execution_counts(context: Context) -> list[str]:
    """Code cells were executed once each, in order; nbval never compares a cell without a count."""
    counts = [cell.execution_count for cell in context.code]
    expected = list(range(1, len(counts) + 1))
    return [] if counts == expected else [f"execution counts are {counts}, not 1..{len(counts)}"]


def heading(context: Context) -> list[str]:
    """The first cell has the only H1, `# NN · Title`, and the table of three rows."""
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
    wanted = {"what you will be able to do": "able to", "what you need": "need"}
    for topic, pattern in (wanted | {"how long it takes": "long|time|takes"}).items():
        if not any(re.search(pattern, row) for row in rows):
            problems.append(f"the table in the first cell has no row on {topic}")
    return problems


def badge(context: Context) -> list[str]:
    """The line under the title is this notebook's own Colab badge."""
    lines = [line for line in context.notebook.cells[0].source.splitlines() if line.strip()]
    right = lines[1:2] == [notebooks.badge(context.path)]
    return (
        []
        if right
        else ["the Colab badge under the title is missing or wrong (`check --fix` sets it)"]
    )


def colab_cell(context: Context) -> list[str]:
    """The first code cell is exactly the generated set-up cell."""
    first = context.code[0] if context.code else None
    if first is None or notebooks.COLAB_TAG not in notebooks.tags(first):
        return ["the first code cell is not tagged `colab` (`check --fix` sets it)"]
    if first.source != notebooks.COLAB_CELL:
        return ["the `colab` cell differs from labkit.notebooks (`check --fix` sets it)"]
    return []


def parameters(context: Context) -> list[str]:
    """One cell is tagged `parameters`, sets BACKEND to "pocket", and has a comment on each line."""
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
    """There is a section "Exercises" with a folded solution and a check."""
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
    names = [path.name for path in notebooks.available(context.path.parent)]
    index = names.index(context.path.name)
    last = context.prose[-1] if context.prose else ""
    for side, neighbors in {"previous": names[:index][-1:], "next": names[index + 1 :][:1]}.items():
        for name in neighbors:
            if f"]({name})" not in last:
                problems.append(f"the last Markdown cell has no link to the {side}, {name}")
    return problems


def glossary(context: Context) -> list[str]:
    """It links to the glossary."""
    linked = any("](../GLOSSARY.md" in text for text in context.prose)
    return [] if linked else ["no link to the glossary, ../GLOSSARY.md"]


def links(context: Context) -> list[str]:
    """Relative links lead to files that exist."""
    problems = []
    for text in context.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
            link = (target[0] or target[1]).split("#")[0]
            external = re.match(r"[a-z][a-z0-9+.-]*:", link) or link == ""
            if not external and not (context.path.parent / link).exists():
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


def secrets(context: Context) -> list[str]:
    """Nothing in sources, outputs, tracebacks or metadata looks like a key. No key is printed."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    problems = []
    with default_settings() as settings:
        settings.disable_plugins(*DISABLED)
        for where, text in context.texts():
            kinds = [kind for kind, pattern in SECRETS.items() if re.search(pattern, text)]
            kinds += [secret.type for line in text.splitlines() for secret in scan_line(line)]
            problems += [f"{where} has what looks like a secret ({kind})" for kind in kinds]
    return problems


MACHINE_PATH = re.compile(
    r"(?<![\w./:-])/(?:home|root|Users|tmp|var/folders)/[\w.-]+|\b[A-Za-z]:\\+Users\\+\w+"
)


def machine_paths(context: Context) -> list[str]:
    """No path of the machine on which the notebook ran."""
    return [
        f"{where} names a path of one machine: {path}"
        for where, text in context.texts()
        for path in MACHINE_PATH.findall(text)
    ]


def widget_state(context: Context) -> list[str]:
    """No saved widget state: GitHub does not show a notebook that has it."""
    return ["metadata.widgets is present"] if "widgets" in context.notebook.metadata else []


def cell_length(context: Context) -> list[str]:
    """Cells are short: the median, and each cell that is not tagged `lesson`."""
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


# Words of an earlier, private vocabulary, and the usual terms. Each is wrong wherever it stands:
# words with a second, correct use are not listed.
DIALECT = {
    r"eyes?": "vision encoder, or: accepts images",
    r"wish(?:es|ed)?": "tool call, request or option",
    r"befalls?|befell": "affects",
    r"exams?|examinations?": "evaluation or test set",
    r"cuts? (?:\w+ )?into tokens": "tokenize",
    r"tokens (?:read|written)": "prompt tokens, completion tokens",
    r"by lot": "at random",
    r"graphics cards?": "GPU",
    r"(?<!model )(?<!model's )(?<!graphics )cards?": "GPU, or in full: model card",
    r"(?<!logits )(?<!image )processors?": "CPU",
    r"(?:the|one|many|more|each|every) readers?": "user, request or sequence",
    r"dear(?:er|est)?": "expensive",
    r"stands(?! for| out)": "is",
    r"whoever": "if you",
    r"told on": "forwarded",
    r"mend(?:s|ed|ing)?": "fix",
    r"on a stick": "copy it to the machine",
    r"word predictor": "output layer (`lm_head`)",
    r"stopwatch(?:es)?": "timer or benchmark",
    r"goes on|go on": "continues or resumes",
}
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "GLOSSARY.md", "data/pocket/README.md")


def dialect_problems(text: str) -> list[str]:
    """The words of DIALECT in a Markdown text or a comment, each with its plain replacement."""
    text = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    text = " ".join(text.split())
    return [
        f'"{match[0]}" in "{text[max(0, match.start() - 25) : match.end() + 25]}": write {plain}'
        for pattern, plain in DIALECT.items()
        for match in re.finditer(rf"\b(?:{pattern})\b", text)
    ]


def comments(source: str) -> list[str]:
    """The comments of Python source."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def dialect(context: Context) -> list[str]:
    """Prose and comments use the terms of the field."""
    texts = [*context.prose, *(text for cell in context.code for text in comments(cell.source))]
    return [problem for text in texts for problem in dialect_problems(text)]


def stale(context: Context) -> list[str]:
    """The outputs are not older than the code and data that they depend on."""
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
    glossary,
    dialect,
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
    """Every problem of the notebook at `path`, each beginning with the check's name."""
    context = Context(path, notebooks.read(path))
    return [f"{rule.__name__}: {problem}" for rule in CHECKS for problem in rule(context)]


def check_documents() -> list[str]:
    """Every word of DIALECT in the documents, each beginning with the file's name."""
    return [
        f"{name}: dialect: {problem}"
        for name in DOCUMENTS
        for problem in dialect_problems((ROOT / name).read_text(encoding="utf-8"))
    ]

"""Words that are not the field's own, and what to write instead.

The list keeps an earlier, private vocabulary out of prose and comments. Words that also have a
correct use are not in it.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from helpers.paths import ROOT
from labkit.freshness import PACKAGES

# Each pattern matches whole words, in small or capital letters.
DIALECT = {
    r"eyes?": "vision encoder, or: accepts images",
    r"wish(?:es|ed)?": "tool call, request or option",
    r"befalls?|befell": "affects",
    r"exams?|examinations?": "evaluation or test set",
    r"cuts? (?:\w+ )?into tokens": "tokenize",
    r"tokens (?:read|written)": "prompt tokens, completion tokens",
    r"by lot": "at random",
    r"graphics cards?": "GPU",
    r"(?<!model )(?<!model's )(?<!graphics )(?<!-)cards?": "GPU, or in full: model card",
    r"(?<!logits )(?<!image )processors?": "CPU",
    r"(?:the|one|many|more|each|every) readers?": "user, request or sequence",
    r"(?-i:dear(?:er|est)?)": "expensive",
    r"stands(?! for| out)": "is",
    r"whoever": "if you",
    r"told on": "forwarded",
    r"mend(?:s|ed|ing)?": "fix",
    r"on a stick": "copy it to the machine",
    r"word predictor": "output layer (`lm_head`)",
    r"stopwatch(?:es)?": "timer or benchmark",
}
DOCUMENTS = (
    *("README.md", "SERVERS.md", "WORKSHOP.md", "CONTRIBUTING.md", "GLOSSARY.md"),
    "data/pocket/README.md",
)


def problems(text: str) -> Iterator[str]:
    """The words of DIALECT in a Markdown text or a comment, code left out, each with advice."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    text = " ".join(text.split())
    for pattern, advice in DIALECT.items():
        for match in re.finditer(rf"\b(?:{pattern})\b", text, re.IGNORECASE):
            context = text[max(0, match.start() - 25) : match.end() + 25]
            yield f'"{match[0]}" in "{context}": write {advice}'


def comments(source: str) -> str:
    """The comments and docstrings of Python source."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    texts = [token.string for token in tokens if token.type == tokenize.COMMENT]
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    return "\n\n".join([*texts, *filter(None, map(ast.get_docstring, nodes))])


def check_files(root: Path = ROOT) -> Iterator[str]:
    """The problems of the documents, and of comments and docstrings in the code."""
    for file in [root / name for name in DOCUMENTS]:
        for problem in problems(file.read_text(encoding="utf-8")):
            yield f"{file.relative_to(root)}: dialect: {problem}"
    folders = (*PACKAGES, "benchmarks")
    for file in sorted(file for folder in folders for file in (root / folder).rglob("*.py")):
        for problem in problems(comments(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(root)}: dialect: {problem}"

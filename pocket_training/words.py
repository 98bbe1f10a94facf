"""The words that cases are generated from: `data/pocket/words/*.yaml`, checked when they are read.

A file is read when one of its words is first used. Drawing a picture reads none of them, and a
question about a picture does not read those about tools.
"""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, PlainValidator, PositiveInt, ValidationError

FOLDER = Path(__file__).parent.parent / "data" / "pocket" / "words"

Pool = Literal["person", "city", "country", "product", "topic", "currency", "event"]
# Made up by `tool_schemas` from the other lists.
Generated = Literal[
    *("phrase", "message", "sentence", "state", "sky", "measure", "flag"),
    *("date", "time", "code", "email", "expression"),
]
KINDS = (*get_args(Pool), *get_args(Generated))


class WordsError(ValueError):
    """A file of words breaks a rule; the message names the file, the line and the key."""


class _Checked(BaseModel, extra="forbid", frozen=True):
    """Refuses unknown keys."""


T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Split(_Checked, Generic[T]):
    """The training's version of something, and the evaluation's."""

    train: T
    held_out: T

    def __getitem__(self, split: str) -> T:
        return getattr(self, split)


class _Repeated(_Checked):
    times: PositiveInt
    of: list[str]


def _expanded(entries: list[str | _Repeated]) -> list[str]:
    lists = [e.of * e.times if isinstance(e, _Repeated) else [e] for e in entries]
    return [text for texts in lists for text in texts]


Words = Annotated[list[str | _Repeated], AfterValidator(_expanded)]


def _held(value: Any) -> Any:
    """What a parameter or a field holds, as `tool_schemas.draw_value` takes it."""
    match value:
        case "boolean":
            return bool
        case list():
            return value
        case {"integer": [int(low), int(high)]} if len(value) == 1:
            return range(low, high + 1)
        case {"number": [float(low), float(high)]} if len(value) == 1:
            return (low, high)
    if value not in KINDS:
        forms = "{integer: [low, high]}, {number: [low.0, high.0]} nor a list"
        raise ValueError(f"{value!r} is none of boolean, {', '.join(KINDS)}, {forms}")
    return value


# bool, a range of integers, two bounds of numbers, a list (an enum), or one of `KINDS`.
Holds = Annotated[Any, PlainValidator(_held)]


class KnownParameter(_Checked):
    holds: Holds
    description: str | None = None


class KnownTool(_Checked):
    """A tool that both splits know; without `required` its schema has no such key."""

    description: str
    parameters: dict[str, KnownParameter]
    required: list[str] | None = None
    questions: Split[Words]
    fields: dict[str, Holds]
    results: Split[list[str | dict[str, str]]]
    answers: Words


class TwoValues(_Checked):
    """Requests that name two values of one parameter."""

    parameter: str
    questions: Split[Words]


class ToolWords(_Checked):
    """`tools.yaml`, whose comments explain each list."""

    pools: dict[Pool, Split[Words]]
    further_names: Words
    further_words: Words
    syllables: list[Words]
    measures: Split[list[Words]]
    phrases: Split[list[Words]]
    messages: Split[list[Words]]
    sentences: Split[list[Words]]
    states: Split[Words]
    skies: Split[Words]
    years: Split[list[int]]
    verbs: Split[Words]
    nouns: Split[Words]
    parameters: Split[dict[str, Holds]]
    opaque_tools: Split[Words]
    opaque_parameters: Split[Words]
    descriptions: Split[Words]
    parameter_descriptions: Split[Words]
    questions: Split[Words]
    bare_questions: Split[Words]
    single_questions: Split[Words]
    mentions: Split[Words]
    sentence_mentions: Split[Words]
    twice_questions: Split[Words]
    conjunctions: Split[Words]
    result_fields: Split[dict[str, Holds]]
    result_questions: Split[Words]
    errors: Split[Words]
    error_reply: str
    known: dict[str, KnownTool]
    pairs: dict[str, TwoValues]
    follow_ups: Split[Words]
    country_namings: Split[dict[str, str]]
    no_tool: Split[Words]
    unserved_requests: Split[Words]
    chat: Split[dict[str, str]]


def _list_held(value: Any) -> Any:
    """What a command's parameter holds: as `_held`, or a list, a pool of its own, a switch."""
    if isinstance(value, dict) and set(value) == {"list"}:
        return {"list": _list_held(value["list"])}
    return value if isinstance(value, str) and value not in KINDS else _held(value)


class ActionParameter(_Checked):
    """A parameter of a command: the names that its schema can give it.

    Attributes:
        within: the name of the object that it is part of.
    """

    holds: Annotated[Any, PlainValidator(_list_held)]
    names: list[str]
    optional: bool = False
    within: str | None = None


class Action(_Checked):
    """What a tool can do, and how it is asked for: `do` is an imperative, `say` anything else."""

    names: list[str]
    descriptions: list[str]
    parameters: dict[str, ActionParameter]
    do: list[str]
    say: list[str]


class CommandWords(_Checked):
    """`commands.yaml`, whose comments explain each list."""

    pools: dict[str, Split[Words]]
    frames: Split[Words]
    joined: Split[Words]
    corrections: Split[Words]
    done: Split[Words]
    parameter_descriptions: Split[Words]
    extras: Split[dict[str, Holds]]
    actions: Split[dict[str, list[Action]]]


class PictureWords(_Checked):
    """`pictures.yaml`: the grammar, the legends of maps, and what no scene has."""

    rules: dict[str, Split[Words] | Words]
    legends: Split[Words]
    countries: Split[Words]
    absent_things: Split[Words]


class Told(_Checked):
    """Ways to tell a fact, and to ask for it."""

    tell: Words
    ask: Words


class ChatWords(_Checked):
    """`chats.yaml`: ordinary questions, facts to remember, and system prompts."""

    open: Split[Words]
    rules: dict[str, Words]
    told: list[Told]
    noted: Words
    shortened: dict[str, str]

    subjects: Split[Words]
    phrasings: Split[Words]
    other_questions: Split[Words]
    system_prompts: Split[Words]
    mixed_system_prompts: Split[Words]


class Courtesies(_Checked):
    """`courtesies.yaml`: what people say before and after a request."""

    openings: Words
    closings: Words


def load(path: Path, model: type[M]) -> M:
    """A file's words, checked.

    Raises:
        WordsError: no YAML, an unknown or missing key, an entry of a wrong type, or one that is
            there twice (`{times: 2, of: [entry]}` says that it is meant).
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        content = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise WordsError(f"{path.name}, line {line}: {error.problem}") from error
    lines: dict[tuple, int] = {(): 1}
    mistakes: list[tuple[tuple, str]] = []
    for key, node, repeated in _entries(root):
        lines[key] = node.start_mark.line + 1
        if repeated:
            mistakes.append((key, f"{node.value!r} is there twice"))
    try:
        words = model.model_validate(content)
    except ValidationError as error:
        mistakes += [(each["loc"], each["msg"]) for each in error.errors()]
    if mistakes:
        texts = []
        for key, reason in mistakes:
            # A missing key has no line: take that of the innermost key that is there.
            line = next(lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in lines)
            texts.append(f"{path.name}, line {line}: {'.'.join(map(str, key))}: {reason}")
        raise WordsError("\n".join(texts))
    return words


def _entries(node: yaml.Node, path: tuple = ()) -> Iterator[tuple[tuple, yaml.Node, bool]]:
    """Every key and list entry: its path, its node, and whether the same was there before it."""
    children = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, value, value) for index, value in enumerate(node.value)]
    seen = set()
    for key, name, value in children:
        text = name.value if isinstance(name, yaml.ScalarNode) else None
        yield (*path, key), name, text in seen
        seen |= set() if text is None else {text}
        yield from _entries(value, (*path, key))


# A file is read at its first use, and once.
tools = cache(partial(load, FOLDER / "tools.yaml", ToolWords))
pictures = cache(partial(load, FOLDER / "pictures.yaml", PictureWords))
commands = cache(partial(load, FOLDER / "commands.yaml", CommandWords))
chats = cache(partial(load, FOLDER / "chats.yaml", ChatWords))
courtesies = cache(partial(load, FOLDER / "courtesies.yaml", Courtesies))

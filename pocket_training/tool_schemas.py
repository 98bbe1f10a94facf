"""The tools of the synthetic conversations: known ones, invented ones, and values for arguments."""

import string
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

from pocket_training import words

NOVEL_SHARE = 0.6  # of the training values from pools: words that no pool has


@dataclass(frozen=True)
class Parameter:
    key: str  # its field in templates; stays when the schema's name is swapped
    name: str  # in the schema
    holds: Any  # what it takes, as in `words.Holds`
    description: str | None
    required: bool

    @property
    def schema(self) -> dict:
        numbers = isinstance(self.holds, list) and isinstance(self.holds[0], int)
        if self.holds is bool or self.holds == "flag":
            schema = {"type": "boolean"}
        elif isinstance(self.holds, range) or numbers:
            schema = {"type": "integer"}
        else:
            schema = {"type": "number" if isinstance(self.holds, tuple) else "string"}
        if self.description:
            schema["description"] = self.description
        return schema | ({"enum": self.holds} if isinstance(self.holds, list) else {})


@dataclass(frozen=True)
class Tool:
    key: str
    name: str
    description: str
    parameters: tuple[Parameter, ...]
    has_required_key: bool = True  # the model card's `rewrite` has no "required"
    verb: str = ""  # invented tools only
    noun: str = ""

    @property
    def schema(self) -> dict:
        """The tool in OpenAI's form."""
        properties = {p.name: p.schema for p in self.parameters}
        parameters = {"type": "object", "properties": properties}
        if self.has_required_key:
            parameters["required"] = [p.name for p in self.parameters if p.required]
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@cache
def known_tools() -> dict[str, Tool]:
    """The tools that both splits know, by name."""
    tools = {}
    for name, tool in words.tools().known.items():
        parameters = tuple(
            Parameter(key, key, p.holds, p.description, key in (tool.required or ()))
            for key, p in tool.parameters.items()
        )
        tools[name] = Tool(name, name, tool.description, parameters, tool.required is not None)
    return tools


# --- values -----------------------------------------------------------------------------------


def draw_value(holds: Any, rng: Random, split: str) -> Any:
    """A value for what a parameter or a result's field holds."""
    if holds is bool:
        return rng.random() < 0.5
    if isinstance(holds, range | list):
        return rng.choice(holds)
    if isinstance(holds, tuple):
        low, high = holds
        number = round(rng.uniform(low, high), rng.choice([0, 1, 1, 2]))
        # 0 after rounding would be a value nobody asks for; whole numbers are written as such
        number = number or high
        return int(number) if number == int(number) else number
    if holds in words.tools().pools:
        if split == "train" and rng.random() < NOVEL_SHARE:
            return _novel_value(holds, rng)
        return rng.choice(words.tools().pools[holds][split])
    return _GENERATORS[holds](rng, split)


def draw_other_value(holds: Any, taken, rng: Random, split: str) -> Any:
    """A value that is not among `taken`."""
    while (value := draw_value(holds, rng, split)) in taken:
        pass
    return value


def draw_values(parameters: list[Parameter], rng: Random, split: str) -> dict:
    """A value for each parameter's key; two values of one kind differ."""
    units = list(rng.choice(words.tools().measures[split]))
    rng.shuffle(units)
    values = {}
    for p in parameters:
        if p.holds == "measure":
            values[p.key] = units.pop()
        else:
            taken = () if p.holds is bool else values.values()
            values[p.key] = draw_other_value(p.holds, taken, rng, split)
    return values


def _novel_value(pool: str, rng: Random) -> str:
    """A value that no pool has, written as the pool's are: only copying gets it right.

    Half of the words do not exist. The others are common. The text after a space has them as
    one token, and the JSON after a quotation mark has them in pieces.
    """
    if pool == "currency":
        return "".join(rng.choices(string.ascii_uppercase, k=3))
    proper = pool in ("person", "city", "country")
    lists = words.tools()
    if rng.random() < 0.5:
        word = rng.choice(lists.further_names if proper else lists.further_words)
    else:
        syllables = range(rng.randint(1, 3))
        word = "".join(rng.choice(part) for _ in syllables for part in lists.syllables)
    if proper:
        return word.capitalize()
    other = rng.choice(_phrase(rng, "train").split())
    both = rng.choice([word, f"{word} {other}", f"{other} {word}"])
    return both.capitalize() if pool == "event" else both


def _phrase(rng: Random, split: str) -> str:
    if split == "train" and rng.random() < 0.4:
        return " ".join(rng.sample(words.tools().further_words, 2))
    return _join_parts(words.tools().phrases[split], rng)


def _join_parts(parts: list[list[str]], rng: Random) -> str:
    return " ".join(rng.choice(part) for part in parts)


def _date(rng: Random, split: str) -> str:
    year = rng.choice(words.tools().years[split])
    return f"{year}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: Random, split: str) -> str:
    minute = rng.choice((0, 10, 30, 50) if split == "train" else (5, 15, 25, 45))
    return f"{rng.randint(6, 23):02}:{minute:02}"


def _code(rng: Random, split: str) -> str:
    a, b = rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=2)
    if split == "train":
        return f"{a}{b}-{rng.randint(10, 9999)}"
    return f"{a}{rng.randint(10, 99)}{b}{rng.randint(10, 99)}"


def _email(rng: Random, split: str) -> str:
    name = rng.choice(words.tools().pools["person"][split]).lower()
    return f"{name}@{rng.choice(['post.org', 'mail.com', 'work.net'])}"


def _expression(rng: Random, split: str) -> str:
    a, b, c = (rng.randint(2, rng.choice([12, 99, 999])) for _ in range(3))
    op, op_2 = rng.choice("+-*/"), rng.choice("+-*")
    long = [f"{a} {op} {b} {op_2} {c}", f"({a} {op_2} {b}) {op} {c}"]
    return rng.choice([f"{a} {op} {b}"] * 2 + long)


_GENERATORS = {
    "phrase": _phrase,
    "message": lambda rng, split: _join_parts(words.tools().messages[split], rng),
    "sentence": lambda rng, split: _join_parts(words.tools().sentences[split], rng) + ".",
    "state": lambda rng, split: rng.choice(words.tools().states[split]),
    "sky": lambda rng, split: rng.choice(words.tools().skies[split]),
    "flag": lambda rng, split: True,
    "date": _date,
    "time": _time,
    "code": _code,
    "email": _email,
    "expression": _expression,
}


# --- invented tools ---------------------------------------------------------------------------


def invented_tool(
    rng: Random, split: str, avoid: set[str], *, odd_names: bool = True, described: bool = False
) -> Tool:
    """A new tool whose noun is not in `avoid`.

    Args:
        odd_names: some tools and parameters get names that say nothing, so that the
            descriptions have to be read.
        described: give every parameter a description.
    """
    lists = words.tools()
    verb = rng.choice(lists.verbs[split])
    noun = rng.choice([n for n in lists.nouns[split] if n not in avoid])
    name, style = _tool_name(verb, noun, rng)
    description = rng.choice(lists.descriptions[split]).format(**noun_slots(verb, noun))

    kinds = lists.parameters[split]
    count = rng.choices([0, 1, 2, 3, 4], [8, 34, 32, 18, 8])[0]
    chosen = rng.sample(sorted(kinds), count)
    talkative = described or rng.random() < 0.25
    optional = rng.choice(chosen) if chosen and rng.random() < 0.35 else None
    parameters = []
    for phrase in chosen:
        holds, about = kinds[phrase], None
        if talkative:
            about = rng.choice(lists.parameter_descriptions[split])
            about = about.format(words=phrase, noun=noun)
        if isinstance(holds, list):
            if split == "train" and rng.random() < 0.5:
                holds = lists.further_words
            holds = rng.sample(holds, min(len(holds), rng.randint(2, 4)))
        parameter_name = _styled(phrase.split(), "camel" if style == "camel" else "snake")
        key = phrase.replace(" ", "_")
        parameters.append(Parameter(key, parameter_name, holds, about, phrase != optional))
    tool = Tool(name, name, description, tuple(parameters), verb=verb, noun=noun)
    if odd_names and rng.random() < 0.2:
        tool = replace(tool, name=other_tool_name(rng, split, {noun, *avoid}))
    if odd_names and talkative and parameters and rng.random() < 0.5:
        key = rng.choice(parameters).key
        tool = with_parameter_renamed(tool, key, other_parameter_name(tool, rng, split))
    return tool


def odd_known_tool(rng: Random, split: str, avoid: set[str]) -> Tool:
    """A known tool under a name that is not its own."""
    tool = rng.choice([tool for tool in known_tools().values() if tool.parameters])
    return replace(tool, name=other_tool_name(rng, split, avoid))


def noun_slots(verb: str, noun: str) -> dict[str, str]:
    """What the templates of an invented tool can say about it."""
    a_noun = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return {"verb": verb, "Verb": verb.capitalize(), "noun": noun, "a_noun": a_noun}


def nouns_of(tools: list[Tool], split: str) -> set[str]:
    """The nouns that the tools are about, or are named after."""
    plain = [tool.name.lower().replace("_", "").replace("-", "") for tool in tools]
    nouns = words.tools().nouns[split]
    named = {n for n in nouns if any(n.replace(" ", "") in name for name in plain)}
    return named | {tool.noun for tool in tools}


def other_tool_name(rng: Random, split: str, nouns: set[str]) -> str:
    """A name that has nothing to do with what the tool does, nor with any of the `nouns`."""
    lists = words.tools()
    if rng.random() < 0.6:
        name = rng.choice(lists.opaque_tools[split])
        return rng.choice([name, f"{name}_{rng.randint(1, 99)}"])
    noun = rng.choice([n for n in lists.nouns[split] if n not in nouns])
    return _tool_name(rng.choice(lists.verbs[split]), noun, rng)[0]


def other_parameter_name(tool: Tool, rng: Random, split: str) -> str:
    """A name that has nothing to do with what a parameter holds, and that the tool lacks."""
    taken = {p.name for p in tool.parameters} | {p.key for p in tool.parameters}
    choices = words.tools().opaque_parameters[split]
    if rng.random() < 0.4:
        choices = [phrase.replace(" ", "_") for phrase in words.tools().parameters[split]]
    return rng.choice([name for name in choices if name not in taken])


def with_parameter_renamed(tool: Tool, key: str, name: str) -> Tool:
    parameters = tuple(replace(p, name=name) if p.key == key else p for p in tool.parameters)
    return replace(tool, parameters=parameters)


def _tool_name(verb: str, noun: str, rng: Random) -> tuple[str, str]:
    """A name and its style."""
    style = rng.choices(["snake", "camel", "kebab"], [70, 20, 10])[0]
    parts = [verb, *noun.split()]
    if rng.random() < 0.1:
        parts = [*noun.split(), verb]
    return _styled(parts, style), style


def _styled(parts: list[str], style: str) -> str:
    if style == "camel":
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return ("-" if style == "kebab" else "_").join(parts)

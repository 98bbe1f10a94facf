"""TODO."""

import string
from dataclasses import dataclass, replace
from random import Random

from pocket_training import tool_words as words

UNLISTED_SHARE = 0.6  # of the training values from pools: words that no pool has


@dataclass(frozen=True)
class _Parameter:
    key: str  # stands for it in templates, and stays when the schema's name is swapped
    name: str  # in the schema
    schema: dict
    holds: object  # what it takes, as in tool_words.PARAMETERS
    required: bool


@dataclass(frozen=True)
class _Tool:
    key: str
    name: str
    description: str
    parameters: tuple[_Parameter, ...]
    says_required: bool = True  # the model card's `rewrite` has no "required"
    verb: str = ""  # invented tools only
    noun: str = ""

    @property
    def schema(self) -> dict:
        parameters = {
            "type": "object",
            "properties": {p.name: p.schema for p in self.parameters},
        }
        if self.says_required:
            parameters["required"] = [p.name for p in self.parameters if p.required]
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": parameters,
        }
        return {"type": "function", "function": function}


def _known_tool(name: str) -> _Tool:
    function = words.KNOWN[name]["schema"]["function"]
    required = function["parameters"].get("required")
    parameters = tuple(
        _Parameter(key, key, schema, words.KNOWN[name]["holds"][key], key in (required or ()))
        for key, schema in function["parameters"]["properties"].items()
    )
    says_required = required is not None
    return _Tool(name, name, function["description"], parameters, says_required)


KNOWN_TOOLS = {name: _known_tool(name) for name in words.KNOWN}


def _draw(holds, rng: Random, split: str):
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
    if holds in words.POOLS:
        if split == "train" and rng.random() < UNLISTED_SHARE:
            return _unlisted(holds, rng)
        return rng.choice(words.POOLS[holds][split])
    return _GENERATORS[holds](rng, split)


def _unlisted(pool: str, rng: Random) -> str:
    """A value that no pool has, written as the pool's are: only copying gets it right.

    Half are words that do not exist. The others are common ones, which the text after a space
    holds as one token and the JSON after a quotation mark in pieces.
    """
    if pool == "currency":
        return "".join(rng.choices(string.ascii_uppercase, k=3))
    proper = pool in ("person", "city", "country")
    if rng.random() < 0.5:
        word = rng.choice(words.FURTHER_NAMES if proper else words.FURTHER_WORDS)
    else:
        word = "".join(
            rng.choice(part) for _ in range(rng.randint(1, 3)) for part in words.SYLLABLE
        )
    if proper:
        return word.capitalize()
    other = rng.choice(_phrase(rng, "train").split())
    both = rng.choice([word, f"{word} {other}", f"{other} {word}"])
    return both.capitalize() if pool == "event" else both


def _phrase(rng: Random, split: str) -> str:
    if split == "train" and rng.random() < 0.4:
        return " ".join(rng.sample(words.FURTHER_WORDS, 2))
    return _join_parts(words.PHRASES[split], rng)


def _join_parts(parts, rng: Random) -> str:
    return " ".join(rng.choice(part) for part in parts)


def _date(rng: Random, split: str) -> str:
    return f"{rng.choice(words.YEARS[split])}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: Random, split: str) -> str:
    minute = rng.choice((0, 10, 30, 50) if split == "train" else (5, 15, 25, 45))
    return f"{rng.randint(6, 23):02}:{minute:02}"


def _code(rng: Random, split: str) -> str:
    a, b = rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=2)
    if split == "train":
        return f"{a}{b}-{rng.randint(10, 9999)}"
    return f"{a}{rng.randint(10, 99)}{b}{rng.randint(10, 99)}"


def _email(rng: Random, split: str) -> str:
    name = rng.choice(words.POOLS["person"][split]).lower()
    return f"{name}@{rng.choice(['post.org', 'mail.com', 'work.net'])}"


def _expression(rng: Random, split: str) -> str:
    a, b, c = (rng.randint(2, rng.choice([12, 99, 999])) for _ in range(3))
    op, op_2 = rng.choice("+-*/"), rng.choice("+-*")
    return rng.choice(
        [f"{a} {op} {b}", f"{a} {op} {b}", f"{a} {op} {b} {op_2} {c}", f"({a} {op_2} {b}) {op} {c}"]
    )


_GENERATORS = {
    "phrase": _phrase,
    "message": lambda rng, split: _join_parts(words.MESSAGES[split], rng),
    "sentence": lambda rng, split: _join_parts(words.SENTENCES[split], rng) + ".",
    "state": lambda rng, split: rng.choice(words.STATES[split]),
    "sky": lambda rng, split: rng.choice(words.SKIES[split]),
    "flag": lambda rng, split: True,
    "date": _date,
    "time": _time,
    "code": _code,
    "email": _email,
    "expression": _expression,
}


def _values(parameters, rng: Random, split: str) -> dict:
    """A value for each parameter's key; two of one kind differ."""
    family = list(rng.choice(words.MEASURES[split]))
    rng.shuffle(family)
    values = {}
    for p in parameters:
        if p.holds == "measure":
            values[p.key] = family.pop()
            continue
        value = _draw(p.holds, rng, split)
        while p.holds is not bool and value in values.values():
            value = _draw(p.holds, rng, split)
        values[p.key] = value
    return values


def _styled(parts: list[str], style: str) -> str:
    if style == "camel":
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return ("-" if style == "kebab" else "_").join(parts)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _noun_slots(verb: str, noun: str) -> dict:
    return {
        "verb": verb,
        "Verb": verb.capitalize(),
        "noun": noun,
        "a_noun": _with_article(noun),
    }


def _tool_name(verb: str, noun: str, rng: Random) -> tuple[str, str]:
    """A name and its style."""
    style = rng.choices(["snake", "camel", "kebab"], [70, 20, 10])[0]
    parts = [verb, *noun.split()]
    if rng.random() < 0.1:
        parts = [*noun.split(), verb]
    return _styled(parts, style), style


def _other_tool_name(rng: Random, split: str, nouns: set[str]) -> str:
    """A name that has nothing to do with what the tool does, nor with any of the `nouns`."""
    if rng.random() < 0.6:
        name = rng.choice(words.OPAQUE_TOOLS[split])
        return rng.choice([name, f"{name}_{rng.randint(1, 99)}"])
    noun = rng.choice([n for n in words.NOUNS[split] if n not in nouns])
    return _tool_name(rng.choice(words.VERBS[split]), noun, rng)[0]


def _other_parameter_name(tool: _Tool, rng: Random, split: str) -> str:
    """A name that has nothing to do with what the parameter holds, and that the tool lacks."""
    taken = {p.name for p in tool.parameters} | {p.key for p in tool.parameters}
    choices = words.OPAQUE_PARAMETERS[split]
    if rng.random() < 0.4:
        choices = [key.replace(" ", "_") for key in words.PARAMETERS[split]]
    return rng.choice([name for name in choices if name not in taken])


def _parameter_schema(holds, description: str | None) -> dict:
    if holds is bool:
        schema = {"type": "boolean"}
    elif isinstance(holds, range):
        schema = {"type": "integer"}
    elif isinstance(holds, tuple):
        schema = {"type": "number"}
    else:
        schema = {"type": "string"}
    if description:
        schema["description"] = description
    if isinstance(holds, list):
        schema["enum"] = holds
    return schema


def _with_parameter_renamed(tool: _Tool, key: str, name: str) -> _Tool:
    parameters = tuple(replace(p, name=name) if p.key == key else p for p in tool.parameters)
    return replace(tool, parameters=parameters)


def _invented_tool(
    rng: Random, split: str, avoid: set[str], *, odd_names: bool = True, described: bool = False
) -> _Tool:
    """A new tool whose noun is not in `avoid`.

    Args:
        odd_names: some tools and parameters get names that say nothing, so that the
            descriptions have to be read.
        described: give every parameter a description.
    """
    verb = rng.choice(words.VERBS[split])
    noun = rng.choice([n for n in words.NOUNS[split] if n not in avoid])
    name, style = _tool_name(verb, noun, rng)
    slots = _noun_slots(verb, noun)
    description = rng.choice(words.DESCRIPTIONS[split]).format(**slots)

    kinds = words.PARAMETERS[split]
    count = rng.choices([0, 1, 2, 3, 4], [8, 34, 32, 18, 8])[0]
    chosen = rng.sample(sorted(kinds), count)
    talkative = described or rng.random() < 0.25
    optional = rng.choice(chosen) if chosen and rng.random() < 0.35 else None
    parameters = []
    for spoken in chosen:
        holds = kinds[spoken]
        about = None
        if talkative:
            about = rng.choice(words.PARAMETER_DESCRIPTIONS[split])
            about = about.format(words=spoken, noun=noun)
        if isinstance(holds, list):
            if split == "train" and rng.random() < 0.5:
                holds = words.FURTHER_WORDS
            holds = rng.sample(holds, min(len(holds), rng.randint(2, 4)))
        parameter_name = _styled(spoken.split(), "camel" if style == "camel" else "snake")
        schema = _parameter_schema(holds, about)
        key = spoken.replace(" ", "_")
        parameters.append(_Parameter(key, parameter_name, schema, holds, spoken != optional))
    tool = _Tool(name, name, description, tuple(parameters), verb=verb, noun=noun)
    if odd_names and rng.random() < 0.2:
        tool = replace(tool, name=_other_tool_name(rng, split, {noun, *avoid}))
    if odd_names and talkative and parameters and rng.random() < 0.5:
        key = rng.choice(parameters).key
        tool = _with_parameter_renamed(tool, key, _other_parameter_name(tool, rng, split))
    return tool


def _odd_known_tool(rng: Random, split: str, avoid: set[str]) -> _Tool:
    """A known tool under a name that is not its own."""
    tool = rng.choice([tool for tool in KNOWN_TOOLS.values() if tool.parameters])
    return replace(tool, name=_other_tool_name(rng, split, avoid))


def _nouns(tools: list[_Tool], split: str) -> set[str]:
    """The nouns that the tools are about, or are named after."""
    plain = [tool.name.lower().replace("_", "").replace("-", "") for tool in tools]
    named = {n for n in words.NOUNS[split] if any(n.replace(" ", "") in name for name in plain)}
    return named | {tool.noun for tool in tools}

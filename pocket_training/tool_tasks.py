"""Synthetic tool conversations, seeded: what the pocket model learns tools from and is tested on.

Cases come in groups that share their tools, so that the long `[AVAILABLE_TOOLS]` prefix is
computed once for several questions. Two splits: the known tools are the same in both, but the
held-out questions are worded otherwise and speak of other cities, names and numbers; invented
tools have nothing in common across the splits (verbs, nouns, parameters, enum words).
"""

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from pocket_model.call_id import new_call_id
from pocket_training import tool_words as words
from pocket_training.tool_schemas import (
    KNOWN_TOOLS,
    _draw,
    _invented_tool,
    _noun_slots,
    _nouns,
    _odd_known_tool,
    _other_parameter_name,
    _other_tool_name,
    _Parameter,
    _Tool,
    _values,
    _with_parameter_renamed,
)
from pocket_training.wording import FRAMED_SHARE, framed

SPLITS = ("train", "held_out")


SKILLS = ("known", "unseen", "none", "two", "result")


SWAPS = ("result", "name", "parameter", "value")


@dataclass(frozen=True)
class ToolCase:
    """One conversation and the right answer to it.

    Attributes:
        skill: one of `SKILLS`, or "counterfactual".
        messages: OpenAI chat messages up to where the assistant must answer.
        tools: OpenAI tool schemas, equal for a whole group.
        reply: the right assistant message, with `tool_calls` or `content`.
        must_contain: strings that an answer from a tool's result has to contain.
        counterpart: in the first case of a counterfactual pair, the second.
        swapped: in a counterfactual pair, what differs: one of `SWAPS`.
    """

    skill: str
    messages: list[dict]
    tools: list[dict]
    reply: dict
    must_contain: tuple[str, ...] = ()
    counterpart: "ToolCase | None" = None
    swapped: str | None = None


@dataclass(frozen=True)
class _Request:
    """A wish for one call: a template with the tool's parameter keys as fields, and values."""

    tool: _Tool
    template: str
    values: dict

    @property
    def text(self) -> str:
        spoken = {key: _spoken(key, value) for key, value in self.values.items()}
        return self.template.format(**spoken)

    def call(self, call_id: str) -> dict:
        arguments = {
            p.name: self.values[p.key] for p in self.tool.parameters if p.key in self.values
        }
        function = {
            "name": self.tool.name,
            "arguments": json.dumps(arguments, ensure_ascii=False),
        }
        return {"id": call_id, "type": "function", "function": function}


def _spoken(key: str, value) -> str:
    if isinstance(value, bool):
        # a known tool's flag is an adjective: "an urgent message"
        return key if key == "urgent" else str(value).lower()
    return str(value)


def _fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def ask(tool: _Tool, rng: Random, split: str) -> _Request:
    """One request for the tool, in the split's words."""
    if not tool.verb:
        template = rng.choice(words.KNOWN[tool.key][split])
    else:
        template = _invented_question(tool, rng, split)
    if split == "train" and rng.random() < FRAMED_SHARE:
        template = framed(template, rng)
    return _fill(tool, template, rng, split)


def _fill(tool: _Tool, template: str, rng: Random, split: str) -> _Request:
    named = _fields(template)
    asked = [p for p in tool.parameters if p.key in named]
    return _Request(tool, template, _values(asked, rng, split))


def _mentioned(tool: _Tool, rng: Random) -> list[_Parameter]:
    """The parameters a question gives: all the required ones, an optional one half the time."""
    given = [p for p in tool.parameters if p.required or rng.random() < 0.5]
    rng.shuffle(given)
    return given


def _details(given: list[_Parameter], rng: Random, split: str, *, sentence: bool = False) -> str:
    """The values to come, as fields: "guests {guests} and date {date}"."""
    mentions = words.MENTIONS[split] + (words.SENTENCE_MENTIONS[split] if sentence else [])
    mention = rng.choice(mentions)
    parts = [mention.format(words=p.key.replace("_", " "), value="{" + p.key + "}") for p in given]
    if len(parts) > 1 and rng.random() < 0.5:
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    return ", ".join(parts)


def _invented_question(tool: _Tool, rng: Random, split: str) -> str:
    slots = _noun_slots(tool.verb, tool.noun)
    given = _mentioned(tool, rng)
    if not given:
        return rng.choice(words.BARE_QUESTIONS[split]).format(**slots)
    only = len(tool.parameters) == 1 and given[0].holds is not bool
    if only and rng.random() < 0.4:
        template = rng.choice(words.SINGLE_QUESTIONS[split])
        return template.format(**slots, value="{" + given[0].key + "}")
    template = rng.choice(words.QUESTIONS[split])
    details = _details(given, rng, split, sentence="{Details}" in template)
    return template.format(**slots, details=details, Details=details[0].upper() + details[1:])


def _call_id(rng: Random) -> str:
    # As `rng.choices` draws: the seeded cases must not change.
    return new_call_id(lambda size: int(rng.random() * size))


def call(name: str, arguments: dict, rng: Random) -> dict:
    """A tool call in OpenAI's form, with a random id."""
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": _call_id(rng), "type": "function", "function": function}


def _user(text: str) -> dict:
    return {"role": "user", "content": text}


def _says(text: str) -> dict:
    return {"role": "assistant", "content": text}


def _calls(calls: list[dict]) -> dict:
    return {"role": "assistant", "tool_calls": calls}


def _result_message(call: dict, content: str) -> dict:
    name = call["function"]["name"]
    return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}


def _known_tools(rng: Random, *, first: str | None = None, limit: int = 4) -> list[_Tool]:
    count = min(limit, rng.choices([1, 2, 3, 4], [42, 38, 16, 4])[0])
    names = rng.sample([name for name in KNOWN_TOOLS if name != first], count)
    if first:
        names[0] = first
    # a question without arguments has few wordings: some other tool has to make up the group
    if all(not KNOWN_TOOLS[name].parameters for name in names):
        names[0] = "get_weather"
    rng.shuffle(names)
    return [KNOWN_TOOLS[name] for name in names]


def _invented_tools(rng: Random, split: str, *, known: float = 0.0, **options) -> list[_Tool]:
    """One to three tools; with the share `known`, a known one under another name is among them."""
    tools = []
    for _ in range(rng.choices([1, 2, 3], [45, 40, 15])[0]):
        tools.append(_invented_tool(rng, split, _nouns(tools, split), **options))
    if rng.random() < known:
        place = rng.randrange(len(tools))
        tools[place] = _odd_known_tool(rng, split, _nouns(tools, split))
    # calls without arguments have few wordings: some tool has to make up the group
    if _same_names(tools) or not any(p.required for tool in tools for p in tool.parameters):
        return _invented_tools(rng, split, known=known, **options)
    return tools


def _same_names(tools: list[_Tool]) -> bool:
    return len({tool.name for tool in tools}) < len(tools)


def _pick(tools: list[_Tool], rng: Random) -> _Tool:
    """A tool to ask for; those without arguments, which have few wordings, seldom."""
    return rng.choices(tools, [4 if tool.parameters else 1 for tool in tools])[0]


class _Group:
    """What the cases of a group share: the tools, and the messages before the last question."""

    def __init__(self, split: str, skill: str, rng: Random):
        self.split, self.skill, self.rng = split, skill, rng
        self.history: list[dict] = []
        self.country: str | None = None
        kind = rng.random()
        if skill == "known" and kind < 0.1:
            self.tools = _known_tools(rng, first="get_current_population", limit=3)
            self._name_a_country()
        elif skill == "known" or (skill != "unseen" and kind < 0.5):
            self.tools = _known_tools(rng)
        elif skill == "unseen":
            self.tools = _invented_tools(rng, split, known=0.15 if split == "train" else 0.0)
            if len(self.tools) < 3 and rng.random() < 0.15:
                # a known tool that nobody asks for
                self.tools.insert(rng.randint(0, 1), rng.choice(list(KNOWN_TOOLS.values())))
        else:
            self.tools = _invented_tools(rng, split)
        self.schemas = [tool.schema for tool in self.tools]

    def case(self) -> ToolCase:
        makers = {
            "known": self._one,
            "unseen": self._one,
            "none": self._none,
            "two": self._two,
            "result": self._result,
        }
        made = makers[self.skill]()
        return replace(made, messages=[*self.history, *made.messages])

    def _case(self, messages, reply, must_contain=()) -> ToolCase:
        return ToolCase(self.skill, messages, self.schemas, reply, tuple(must_contain))

    def _request(self) -> _Request:
        askable = [tool for tool in self.tools if tool.name not in KNOWN_TOOLS]
        tools = askable if self.skill == "unseen" else self.tools
        return ask(_pick(tools, self.rng), self.rng, self.split)

    # one call

    def _one(self) -> ToolCase:
        follows = self.country and self.rng.random() < 0.6
        request = self._follow_up() if follows else self._request()
        return self._case([_user(request.text)], _calls([request.call(_call_id(self.rng))]))

    def _name_a_country(self) -> None:
        """A turn before, in which the assistant names the country that is then "that country"."""
        rng, split = self.rng, self.split
        self.country = rng.choice(words.POOLS["country"][split])
        if rng.random() < 0.3:
            request = ask(KNOWN_TOOLS["rewrite"], rng, split)
            self.history += result_case(request, rng, split).exchange
        question, answer = rng.choice(words.NAMINGS[split])
        self.history += [_user(question), _says(answer.format(country=self.country))]

    def _follow_up(self) -> _Request:
        tool = KNOWN_TOOLS["get_current_population"]
        request = _fill(tool, self.rng.choice(words.FOLLOW_UPS[self.split]), self.rng, self.split)
        return replace(request, values={"country": self.country, **request.values})

    # no call

    def _none(self) -> ToolCase:
        if self.rng.random() < 0.55:
            question, answer = self.rng.choice(words.CHAT[self.split])
            return self._case([_user(question)], _says(answer))
        question = self._outside_question()
        return self._case([_user(question)], _says(self.rng.choice(words.NO_TOOL[self.split])))

    def _outside_question(self) -> str:
        """A request that another tool would serve, and none of the group's does."""
        rng, split = self.rng, self.split
        source = rng.random()
        if source < 0.4:
            return ask(_invented_tool(rng, split, _nouns(self.tools, split)), rng, split).text
        if source < 0.6:
            own = {tool.noun for tool in self.tools if tool.noun}
            errands = [e for e in words.ERRANDS[split] if not any(noun in e for noun in own)]
            return rng.choice(errands)
        names = {tool.key for tool in self.tools}
        # these two would be a way to answer the other's questions
        if names & {"list_notebooks", "search_notebooks"}:
            names |= {"list_notebooks", "search_notebooks"}
        outside = [tool for name, tool in KNOWN_TOOLS.items() if name not in names]
        return ask(rng.choice(outside), rng, split).text

    # two calls

    def _two(self) -> ToolCase:
        text, requests = self._two_requests()
        calls = [request.call(_call_id(self.rng)) for request in requests]
        return self._case([_user(text)], _calls(calls))

    def _two_requests(self) -> tuple[str, list[_Request]]:
        rng, split = self.rng, self.split
        tool = _pick(self.tools, rng)
        if rng.random() < 0.5 and tool.key in words.PAIRS:
            key, templates = words.PAIRS[tool.key]
            pair = [_fill(tool, "{" + key + "}", rng, split) for _ in range(2)]
            if pair[0].values != pair[1].values:
                text = rng.choice(templates[split])
                return text.format(*(request.values[key] for request in pair)), pair
        if rng.random() < 0.5 and tool.verb and any(p.required for p in tool.parameters):
            return self._same_tool_twice(tool)
        first, second = self._request(), self._request()
        while first.call("") == second.call(""):
            first, second = self._request(), self._request()
        joints = words.JOINTS[split]
        if not first.text.endswith((".", "?", "!", '"')) or first.template.endswith("{text}"):
            joints = [joint for joint in joints if "\n" in joint]
        return rng.choice(joints).format(first.text, second.text), [first, second]

    def _same_tool_twice(self, tool: _Tool) -> tuple[str, list[_Request]]:
        rng, split = self.rng, self.split
        given = _mentioned(tool, rng)
        details = _details(given, rng, split)
        pair = [_fill(tool, details, rng, split) for _ in range(2)]
        while pair[0].values == pair[1].values:
            pair[1] = _fill(tool, details, rng, split)
        template = rng.choice(words.TWICE_QUESTIONS[split])
        slots = _noun_slots(tool.verb, tool.noun)
        return template.format(**slots, details=pair[0].text, details_2=pair[1].text), pair

    # the answer after a result

    def _result(self) -> ToolCase:
        made = result_case(self._request(), self.rng, self.split)
        return self._case(made.exchange[:3], made.exchange[3], made.must_contain)


@dataclass(frozen=True)
class _ResultCase:
    exchange: list[dict]  # question, call, result, answer
    must_contain: tuple[str, ...]


def result_case(request: _Request, rng: Random, split: str, errors: float = 0.1) -> _ResultCase:
    return _result_pair(request, rng, split, errors)[0]


def _result_pair(
    request: _Request, rng: Random, split: str, errors: float = 0.0
) -> tuple[_ResultCase, _ResultCase]:
    """Two cases that differ in one value of the result, which the answer has to name.

    A share `errors` of the results is an error (then both cases are one and the same).
    """
    call = request.call(_call_id(rng))

    def finish(question: str, content: str, answer: str, shown) -> _ResultCase:
        exchange = [_user(question), _calls([call]), _result_message(call, content), _says(answer)]
        return _ResultCase(exchange, tuple(str(value) for value in shown))

    if rng.random() < errors:
        error = rng.choice(words.ERRORS[split])
        content = rng.choice([json.dumps({"error": error}), f"Error: {error}"])
        case = finish(request.text, content, words.ERROR_REPLY.format(error=error), [error])
        return case, case

    if request.tool.verb:
        question, content, answer, holds = _invented_result(request, rng, split)
    else:
        recipe = words.KNOWN[request.tool.key]
        question, holds = request.text, recipe["fields"]
        content = rng.choice(recipe["results"][split])
        answer = rng.choice(recipe["answers"])
    values = {}
    for field in holds:
        values[field] = _unsaid(holds[field], [question, *values.values()], rng, split)
    shown = [field for field in holds if field in _fields(answer)]
    changed = dict(values)
    field = rng.choice(shown)
    changed[field] = _unsaid(holds[field], [question, *values.values()], rng, split)
    return tuple(
        finish(
            question,
            _result_content(content, {**request.values, **facts}),
            answer.format(**{**request.values, **facts}),
            [facts[field] for field in shown],
        )
        for facts in (values, changed)
    )


def _unsaid(holds, said: list, rng: Random, split: str):
    """A value that is not among, or part of, what was said: it can only come from the result.

    Nor is it one character, which any answer might contain.
    """
    said = [str(text) for text in said]
    while True:
        value = _draw(holds, rng, split)
        new = len(str(value)) > 1 and not any(str(value) in s or s in str(value) for s in said)
        if new:
            return value


def _result_content(content: dict | str, facts: dict) -> str:
    if isinstance(content, str):
        return content.format(**facts)
    # a field that is no fact ("started") is said as it is
    filled = {key: facts.get(field, field) for key, field in content.items()}
    return json.dumps(filled, ensure_ascii=False)


def _invented_result(request: _Request, rng: Random, split: str) -> tuple[str, object, str, dict]:
    """Question, content, answer and what the result's fields hold."""
    fields = words.RESULT_FIELDS[split]
    free = [key for key in fields if key not in {p.key for p in request.tool.parameters}]
    keys = rng.sample(free, rng.choices([1, 2, 3], [45, 40, 15])[0])
    # result fields are set apart from the parameters' keys, which the answer does not use
    holds = {f"result_{key}": fields[key] for key in keys}
    question, asked = request.text, keys
    if len(keys) == 3 or (len(keys) == 2 and rng.random() < 0.5):
        asked = [rng.choice(keys)]
        if question[-1] not in ".?!":
            question += "."
        question = rng.choice(words.RESULT_WISHES[split]).format(
            question=question, words=asked[0].replace("_", " ")
        )
    parts = [f"the {key.replace('_', ' ')} is {{result_{key}}}" for key in asked]
    answer = " and ".join(parts) + "."
    content = {key: f"result_{key}" for key in keys}
    if rng.random() < 0.2:
        content = ", ".join(f"{key}: {{result_{key}}}" for key in keys)
    return question, content, answer[0].upper() + answer[1:], holds


def tool_groups(
    split: str, skill: str, *, groups: int, per_group: int, seed: int
) -> Iterator[list[ToolCase]]:
    """Groups of cases with the same tools and different questions.

    All messages of a group's cases are equal up to the last question: a tenth of the "known"
    groups begins with turns that name a country, which questions then call "that country".
    Group i is the same whatever the number of groups.

    Args:
        split: "train" or "held_out".
        skill: one of `SKILLS`. In "train", "unseen" means invented tools of the train words.
        per_group: cases in each; up to about 30, since some tools have few wordings.

    Raises:
        ValueError: an unknown split or skill.
    """
    if split not in SPLITS or skill not in SKILLS:
        raise ValueError(f"no tool cases for split {split!r} and skill {skill!r}")
    for index in range(groups):
        # seeded by text: Random hashes it by SHA-512, alike in every process
        group = _Group(split, skill, Random(f"tools/{split}/{skill}/{seed}/{index}"))
        cases, asked = [], set()
        while len(cases) < per_group:
            case = group.case()
            question = [m["content"] for m in case.messages if m["role"] == "user"][-1]
            if question not in asked:
                asked.add(question)
                cases.append(case)
        yield cases


def counterfactual_pairs(
    split: str, *, pairs: int, seed: int
) -> Iterator[tuple[ToolCase, ToolCase]]:
    """Pairs of cases that are equal but for one thing, which the right answer follows.

    In turn: a value in a tool's result, the name of the tool asked for, the name of one of its
    parameters, a value in the question. The first case's `counterpart` is the second.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"no tool cases for split {split!r}")
    for index in range(pairs):
        rng = Random(f"tools/{split}/counterfactual/{seed}/{index}")
        swapped = SWAPS[index % len(SWAPS)]
        first, second = _pair(split, swapped, rng)
        yield replace(first, counterpart=second), second


def _pair(split: str, swapped: str, rng: Random) -> tuple[ToolCase, ToolCase]:
    # plain names first, so that the swapped one is the surprise; every parameter is described,
    # since a swapped name must be found by its description
    if rng.random() < 0.3:
        tools = _known_tools(rng, limit=3)
    else:
        tools = _invented_tools(rng, split, odd_names=False, described=swapped == "parameter")
    tool = _pick(tools, rng)
    request = ask(tool, rng, split)
    schemas = [t.schema for t in tools]

    def case(messages, schemas, reply, must_contain=()) -> ToolCase:
        return ToolCase("counterfactual", messages, schemas, reply, must_contain, swapped=swapped)

    if swapped == "result":
        made = _result_pair(request, rng, split)
        return tuple(case(m.exchange[:3], schemas, m.exchange[3], m.must_contain) for m in made)

    other = _swap(request, swapped, rng, split)
    if other is None or _same_names([other.tool, *(t for t in tools if t is not tool)]):
        return _pair(split, swapped, rng)
    call_id = _call_id(rng)
    return tuple(
        case(
            [_user(asked.text)],
            [asked.tool.schema if t is tool else t.schema for t in tools],
            _calls([asked.call(call_id)]),
        )
        for asked in (request, other)
    )


def _swap(request: _Request, swapped: str, rng: Random, split: str) -> _Request | None:
    """The request with one thing swapped, None where this one does not lend itself to it."""
    tool = request.tool
    if swapped == "name":
        return replace(request, tool=replace(tool, name=_other_tool_name(rng, split, {tool.noun})))
    if swapped == "parameter":
        # known tools partly lack descriptions; an only parameter needs none
        fit = [
            p.key
            for p in tool.parameters
            if p.key in request.values and ("description" in p.schema or len(tool.parameters) == 1)
        ]
        if not fit:
            return None
        name = _other_parameter_name(tool, rng, split)
        return replace(request, tool=_with_parameter_renamed(tool, rng.choice(fit), name))
    fit = [
        p for p in tool.parameters if p.key in request.values and p.holds not in ("flag", "measure")
    ]
    if not fit:
        return None
    parameter = rng.choice(fit)
    if parameter.holds is bool:
        value = not request.values[parameter.key]
    else:
        value = _draw(parameter.holds, rng, split)
        while value in request.values.values():
            value = _draw(parameter.holds, rng, split)
    return replace(request, values={**request.values, parameter.key: value})

"""A user's request for a tool call in words: a template, and the arguments it names."""

import string
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from pocket_training import tool_schemas, words
from pocket_training.grammar import typed
from pocket_training.messages import tool_call
from pocket_training.tool_schemas import Parameter, Tool, noun_slots


@dataclass(frozen=True)
class ToolRequest:
    """A request for one call: a template whose fields are parameter keys, and their values."""

    tool: Tool
    template: str
    values: dict

    @property
    def text(self) -> str:
        return self.template.format(**{k: _verbalize(k, v) for k, v in self.values.items()})

    def call(self, call_id: str) -> dict:
        """The call that answers it, in OpenAI's form."""
        given = [p for p in self.tool.parameters if p.key in self.values]
        return tool_call(self.tool.name, {p.name: self.values[p.key] for p in given}, call_id)


def _verbalize(key: str, value: Any) -> str:
    if isinstance(value, bool):
        # a known tool's flag is an adjective: "an urgent message"
        return key if key == "urgent" else str(value).lower()
    return str(value)


def template_fields(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def request_for(tool: Tool, rng: Random, split: str) -> ToolRequest:
    """One request for the tool, in the split's words."""
    if tool.verb:
        template = _invented_question(tool, rng, split)
    else:
        template = rng.choice(words.tools().known[tool.key].questions[split])
    return fill(tool, typed(template, split, rng), rng, split)


def fill(tool: Tool, template: str, rng: Random, split: str) -> ToolRequest:
    """A template with values for the parameters that it names."""
    named = template_fields(template)
    parameters = [p for p in tool.parameters if p.key in named]
    return ToolRequest(tool, template, tool_schemas.draw_values(parameters, rng, split))


def _mentioned_parameters(tool: Tool, rng: Random) -> list[Parameter]:
    """The parameters a question gives: all the required ones, an optional one half the time."""
    given = [p for p in tool.parameters if p.required or rng.random() < 0.5]
    rng.shuffle(given)
    return given


def _details(given: list[Parameter], rng: Random, split: str, *, sentence: bool = False) -> str:
    """The values to come, as fields: "guests {guests} and date {date}"."""
    mentions = words.tools().mentions[split]
    mention = rng.choice(mentions + sentence * words.tools().sentence_mentions[split])
    parts = [mention.format(words=p.key.replace("_", " "), value="{" + p.key + "}") for p in given]
    if len(parts) > 1 and rng.random() < 0.5:
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    return ", ".join(parts)


def _invented_question(tool: Tool, rng: Random, split: str) -> str:
    lists, slots = words.tools(), noun_slots(tool.verb, tool.noun)
    given = _mentioned_parameters(tool, rng)
    if not given:
        return rng.choice(lists.bare_questions[split]).format(**slots)
    only = len(tool.parameters) == 1 and given[0].holds is not bool
    if only and rng.random() < 0.4:
        template = rng.choice(lists.single_questions[split])
        return template.format(**slots, value="{" + given[0].key + "}")
    template = rng.choice(lists.questions[split])
    text = _details(given, rng, split, sentence="{Details}" in template)
    return template.format(**slots, details=text, Details=text[0].upper() + text[1:])


def same_tool_twice(tool: Tool, rng: Random, split: str) -> tuple[str, list[ToolRequest]]:
    """One question for two calls of an invented tool, and the two requests."""
    template = _details(_mentioned_parameters(tool, rng), rng, split)
    pair = [fill(tool, template, rng, split) for _ in range(2)]
    while pair[0].values == pair[1].values:
        pair[1] = fill(tool, template, rng, split)
    question = rng.choice(words.tools().twice_questions[split])
    slots = noun_slots(tool.verb, tool.noun)
    return question.format(**slots, details=pair[0].text, details_2=pair[1].text), pair


def swap(request: ToolRequest, swapped: str, rng: Random, split: str) -> ToolRequest | None:
    """The request with one thing swapped; None if this request has nothing to swap."""
    tool = request.tool
    given = [p for p in tool.parameters if p.key in request.values]
    if swapped == "name":
        name = tool_schemas.other_tool_name(rng, split, {tool.noun})
        return replace(request, tool=replace(tool, name=name))
    if swapped == "parameter":
        # known tools partly lack descriptions; an only parameter needs none
        fit = [p.key for p in given if p.description or len(tool.parameters) == 1]
        if not fit:
            return None
        name = tool_schemas.other_parameter_name(tool, rng, split)
        tool = tool_schemas.with_parameter_renamed(tool, rng.choice(fit), name)
        return replace(request, tool=tool)
    fit = [p for p in given if p.holds not in ("flag", "measure")]
    if not fit:
        return None
    parameter = rng.choice(fit)
    if parameter.holds is bool:
        value = not request.values[parameter.key]
    else:
        taken = request.values.values()
        value = tool_schemas.draw_other_value(parameter.holds, taken, rng, split)
    return replace(request, values={**request.values, parameter.key: value})

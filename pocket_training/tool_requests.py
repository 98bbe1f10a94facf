"""A user's request for one tool call in words, and the messages of a tool conversation."""

import json
import string
from dataclasses import dataclass
from random import Random
from typing import Any

from pocket_model.call_id import new_call_id
from pocket_training import words
from pocket_training.tool_schemas import Parameter, Tool, draw_values, noun_slots
from pocket_training.wording import with_courtesy


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
    return fill(tool, with_courtesy(template, split, rng), rng, split)


def fill(tool: Tool, template: str, rng: Random, split: str) -> ToolRequest:
    """A template with values for the parameters that it names."""
    named = template_fields(template)
    parameters = [p for p in tool.parameters if p.key in named]
    return ToolRequest(tool, template, draw_values(parameters, rng, split))


def mentioned_parameters(tool: Tool, rng: Random) -> list[Parameter]:
    """The parameters a question gives: all the required ones, an optional one half the time."""
    given = [p for p in tool.parameters if p.required or rng.random() < 0.5]
    rng.shuffle(given)
    return given


def details(given: list[Parameter], rng: Random, split: str, *, sentence: bool = False) -> str:
    """The values to come, as fields: "guests {guests} and date {date}"."""
    lists = words.tools()
    mention = rng.choice(
        lists.mentions[split] + (lists.sentence_mentions[split] if sentence else [])
    )
    parts = [mention.format(words=p.key.replace("_", " "), value="{" + p.key + "}") for p in given]
    if len(parts) > 1 and rng.random() < 0.5:
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    return ", ".join(parts)


def _invented_question(tool: Tool, rng: Random, split: str) -> str:
    lists, slots = words.tools(), noun_slots(tool.verb, tool.noun)
    given = mentioned_parameters(tool, rng)
    if not given:
        return rng.choice(lists.bare_questions[split]).format(**slots)
    only = len(tool.parameters) == 1 and given[0].holds is not bool
    if only and rng.random() < 0.4:
        template = rng.choice(lists.single_questions[split])
        return template.format(**slots, value="{" + given[0].key + "}")
    template = rng.choice(lists.questions[split])
    text = details(given, rng, split, sentence="{Details}" in template)
    return template.format(**slots, details=text, Details=text[0].upper() + text[1:])


# --- messages ---------------------------------------------------------------------------------


def call_id(rng: Random) -> str:
    # As `rng.choices` draws: other numbers would change every case that comes after.
    return new_call_id(lambda below: int(rng.random() * below))


def tool_call(name: str, arguments: dict, call_id: str) -> dict:
    """A tool call in OpenAI's form."""
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": call_id, "type": "function", "function": function}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def assistant_calls(calls: list[dict]) -> dict:
    return {"role": "assistant", "tool_calls": calls}


def tool_result(call: dict, content: str) -> dict:
    name = call["function"]["name"]
    return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": content}

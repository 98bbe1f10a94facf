"""Short commands with several values, and the tools that serve them, from `commands.yaml`.

An action has many names, descriptions and parameter names. Its family has near namesakes. A group
offers one to eight tools, and its requests are composed of the action's words and a frame.
"""

import json
import re
import string
from dataclasses import dataclass
from random import Random
from typing import Any

from pocket_training import grammar, tool_schemas, words
from pocket_training.messages import (
    assistant,
    assistant_calls,
    call_id,
    tool_call,
    tool_result,
    user,
)
from pocket_training.tool_schemas import Parameter

NOVEL_SHARE = 0.4  # of the training values from pools: words that no pool has
EXTRA_SHARE = 0.3  # of the tools: with parameters that no request mentions
TASKS = ("buy {}", "fix the {}", "clean the {}", "look for the {}", "sell the {}", "ask about {}")
SWITCHES = {"on/off": {"on": True, "off": False}, "yes/no": {"yes": True, "no": False}}


@dataclass(frozen=True)
class Slot:
    """A parameter of a command's tool.

    Attributes:
        key: its field in templates.
        name: in the schema.
        within: the name of the object that it is in, or None.
    """

    key: str
    name: str
    holds: Any
    description: str | None
    required: bool
    within: str | None

    @property
    def schema(self) -> dict:
        holds, listed = self.holds, isinstance(self.holds, dict) and "list" in self.holds
        if isinstance(holds, str) and holds in SWITCHES:
            holds = bool
        schema = Parameter(self.key, self.name, "phrase" if listed else holds, None, True).schema
        schema = {"type": "array", "items": schema} if listed else schema
        return schema | ({"description": self.description} if self.description else {})


@dataclass(frozen=True)
class Command:
    """An action under one of its names, with the schema that the model sees."""

    family: str
    action: words.Action
    name: str
    description: str
    slots: tuple[Slot, ...]

    @property
    def schema(self) -> dict:
        """The tool in OpenAI's form."""
        top: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for slot in self.slots:
            inner = top
            if slot.within:
                empty = {"type": "object", "properties": {}, "required": []}
                inner = top["properties"].setdefault(slot.within, empty)
                if slot.required and slot.within not in top["required"]:
                    top["required"].append(slot.within)
            inner["properties"][slot.name] = slot.schema
            inner["required"] += [slot.name] * slot.required
        function = {"name": self.name, "description": self.description, "parameters": top}
        return {"type": "function", "function": function}

    def arguments(self, values: dict[str, Any]) -> dict:
        """The call's arguments, in the schema's order, from values by key."""
        made: dict[str, Any] = {}
        for slot in self.slots:
            if slot.within and slot.key in values:
                made.setdefault(slot.within, {})[slot.name] = values[slot.key]
            elif slot.key in values:
                made[slot.name] = values[slot.key]
        return made


@dataclass(frozen=True)
class CommandRequest:
    """A request in words with its values: how they are said, and as arguments."""

    command: Command
    template: str  # with the values as fields
    said: dict[str, str]
    values: dict[str, Any]

    @property
    def text(self) -> str:
        text = self.template.format(**self.said)
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)

    def call(self, identifier: str) -> dict:
        return tool_call(self.command.name, self.command.arguments(self.values), identifier)


# --- values -----------------------------------------------------------------------------------


def draw_value(holds: Any, rng: Random, split: str) -> tuple[str, Any]:
    """A value for what a parameter holds: how it is said, and as an argument."""
    if isinstance(holds, str) and holds in SWITCHES:
        said = rng.choice(list(SWITCHES[holds]))
        return said, SWITCHES[holds][said]
    if isinstance(holds, dict):
        values: list[str] = []
        count = rng.choice([1, 2, 2, 3, 3, 4])
        while len(values) < count:
            value = draw_value(holds["list"], rng, split)[1]
            values += [value] * (value not in values)
        said = values[0]
        if count > 1:
            last = rng.choice([" and ", " and ", ", "])
            said = ", ".join(values[:-1]) + last + values[-1]
        return said, values
    if isinstance(holds, str) and holds in words.commands().pools:
        value = _from_pool(holds, rng, split)
    else:
        value = tool_schemas.draw_value(holds, rng, split)
    return str(value), value


def _from_pool(pool: str, rng: Random, split: str) -> str:
    """One of a pool's values; in training often one that no pool has, but of its kind."""
    if split == "train" and rng.random() < NOVEL_SHARE:
        tools = words.tools()
        if pool == "clock":
            hour, minute = rng.randint(0, 23), rng.randint(0, 59)
            half = f"{hour % 12 or 12}{rng.choice(['', f':{minute:02}'])}"
            return rng.choice([f"{hour}:{minute:02}", f"{half} {rng.choice(['am', 'pm'])}"])
        if pool == "street":
            ends = ["Street", "Road", "Lane", "Avenue", "Square"]
            return f"{rng.randint(1, 299)} {rng.choice(tools.further_names)} {rng.choice(ends)}"
        if pool[0].isupper():
            return " ".join(rng.sample(tools.further_names, rng.choice([1, 1, 2])))
        if pool == "saying":
            return tool_schemas.draw_value("message", rng, split)
        if pool == "task":
            return rng.choice(TASKS).format(rng.choice(tools.further_words))
        if pool in ("dish", "device", "food", "room", "meeting", "list"):
            return " ".join(rng.sample(tools.further_words, rng.choice([1, 1, 2])))
    return rng.choice(words.commands().pools[pool][split])


# --- tools and requests -----------------------------------------------------------------------


def make_command(family: str, action: words.Action, rng: Random, split: str) -> Command:
    """An action with a name, a description and parameter names at random."""
    described = rng.random() < 0.6
    slots, taken = [], set()

    def slot(key: str, holds: Any, name: str, required: bool, within: str | None = None) -> None:
        about = None
        if described and rng.random() < 0.8:
            about = rng.choice(words.commands().parameter_descriptions[split])
            about = about.format(words=key.replace("_", " "))
        taken.add(name)
        slots.append(Slot(key, name, holds, about, required, within))

    for key, parameter in action.parameters.items():
        name = rng.choice([name for name in parameter.names if name not in taken])
        slot(key, parameter.holds, name, not parameter.optional, parameter.within)
    if rng.random() < EXTRA_SHARE:
        extras = words.commands().extras[split]
        for name in rng.sample(sorted(extras), rng.choice([1, 2, 3])):
            if name not in taken:
                slot(f"extra_{name}", extras[name], name, required=False)
    rng.shuffle(slots)
    slots.sort(key=lambda each: each.within or "")  # what is in one object stays together
    name, description = rng.choice(action.names), rng.choice(action.descriptions)
    return Command(family, action, name, description, tuple(slots))


def request_for(command: Command, rng: Random, split: str) -> CommandRequest:
    """One request for the command, in a frame."""
    action = command.action
    if rng.random() < 0.35:
        template = grammar.choose(rng.choice(action.say), rng)
    else:
        frame = grammar.choose(rng.choice(words.commands().frames[split]), rng)
        template = _put(frame, do=grammar.choose(rng.choice(action.do), rng))
    return fill(command, grammar.typed(template, split, rng), rng, split)


def _put(frame: str, **parts: str) -> str:
    """Parts in a frame: {do} as it is, {Do} with a capital letter."""
    for key, part in parts.items():
        capital = part if part.startswith("{") else part[0].upper() + part[1:]
        frame = frame.replace(f"{{{key}}}", part).replace(f"{{{key.capitalize()}}}", capital)
    return frame


def fill(command: Command, template: str, rng: Random, split: str) -> CommandRequest:
    """A template with values for what it names; no two are the same."""
    named = [name for _, name, _, _ in string.Formatter().parse(template) if name]
    said: dict[str, str] = {}
    values: dict[str, Any] = {}
    for slot in command.slots:
        if slot.key not in named:
            continue
        while slot.key not in said:
            text, value = draw_value(slot.holds, rng, split)
            if isinstance(value, bool) or text not in said.values():
                said[slot.key], values[slot.key] = text, value
    if template.startswith("{"):  # a value that begins the request begins with a capital letter
        first = named[0]
        if isinstance(values[first], bool) and rng.random() < 0.5:
            said[first] = said[first].capitalize()
    return CommandRequest(command, template, said, values)


class CommandGroup:
    """Cases about the same tools. Skills: "command", "corrected", "two" and "none"."""

    def __init__(self, split: str, skill: str, rng: Random):
        self.split, self.skill, self.rng = split, skill, rng
        self.history: list[dict] = []
        self.before: CommandRequest | None = None
        self._choose_tools()
        while skill == "corrected" and not self._do_something():
            self._choose_tools()

    def _choose_tools(self) -> None:
        """One to eight tools; near namesakes first."""
        rng, split = self.rng, self.split
        families = words.commands().actions[split]
        everything = [(family, action) for family in families for action in families[family]]
        family = rng.choice(list(families))
        near = [pair for pair in everything if pair[0] == family]
        far = [pair for pair in everything if pair[0] != family]
        count = rng.choices([1, 2, 3, 4, 5, 6, 8], [16, 20, 20, 16, 12, 10, 6])[0]
        chosen = rng.sample(near, min(len(near), max(1, count - 1), 3))
        chosen += rng.sample(far, min(len(far), count - len(chosen)))
        self.outside = [pair for pair in far if pair not in chosen]
        while True:
            self.commands = [make_command(*pair, rng, split) for pair in chosen]
            if len({command.name for command in self.commands}) == len(chosen):
                break
        rng.shuffle(self.commands)

    @property
    def schemas(self) -> list[dict]:
        return [command.schema for command in self.commands]

    def _do_something(self) -> bool:
        """A turn before: a request, its call, the result, and that it is done.

        Returns:
            whether one of the request's values can be corrected; else nothing was done.
        """
        rng = self.rng
        self.before = request_for(rng.choice(self.commands), rng, self.split)
        if not self._correctable():
            return False
        call = self.before.call(call_id(rng))
        result = rng.choice(['{"status": "ok"}', '{"success": true}', "ok", "done"])
        done = rng.choice(words.commands().done[self.split])
        self.history = [user(self.before.text), assistant_calls([call]), tool_result(call, result)]
        self.history.append(assistant(done))
        return True

    def _correctable(self) -> list[Slot]:
        """What can be corrected by saying another value: of its kind, there is one only.

        It has many other values, so that a group has many corrections.
        """
        slots = [slot for slot in self.before.command.slots if slot.key in self.before.values]
        kinds = [json.dumps(slot.schema.get("type")) + str(slot.holds) for slot in slots]
        numbers = [slot.schema.get("type") in ("integer", "number") for slot in slots]
        return [
            slot
            for slot, kind, number in zip(slots, kinds, numbers, strict=True)
            if isinstance(slot.holds, str | range | tuple)
            and slot.holds not in SWITCHES
            and (not isinstance(slot.holds, range) or len(slot.holds) > 12)
            and kinds.count(kind) == 1
            and (not number or sum(numbers) == 1)
        ]

    def case(self) -> tuple[list[dict], dict]:
        """The messages and the right reply."""
        rng, split = self.rng, self.split
        if self.skill == "corrected":
            return self._corrected()
        if self.skill == "none":
            command = make_command(*rng.choice(self.outside), rng, split)
            text = request_for(command, rng, split).text
            return [user(text)], assistant(rng.choice(words.tools().no_tool[split]))
        if self.skill == "two":
            text, requests = self._two()
        else:
            request = request_for(rng.choice(self.commands), rng, split)
            text, requests = request.text, [request]
        calls = [request.call(call_id(rng)) for request in requests]
        return [user(text)], assistant_calls(calls)

    def _two(self) -> tuple[str, list[CommandRequest]]:
        rng, split = self.rng, self.split
        frame = rng.choice(words.commands().joined[split])
        frame = grammar.choose(frame, rng)
        made = []
        while len(made) < 2:
            command = rng.choice(self.commands)
            core = grammar.choose(rng.choice(command.action.do), rng)
            request = fill(command, core, rng, split)
            if not made or request.call("") != made[0].call(""):
                made.append(request)
        parts = {"do": made[0].text, "also": made[1].text}
        return _put(frame, **parts), made

    def _corrected(self) -> tuple[list[dict], dict]:
        rng, before = self.rng, self.before
        slot = rng.choice(self._correctable())
        said, value = before.said[slot.key], before.values[slot.key]
        while value in before.values.values():
            said, value = draw_value(slot.holds, rng, self.split)
        frame = grammar.choose(rng.choice(words.commands().corrections[self.split]), rng)
        capital = said[0].upper() + said[1:]
        text = frame.replace(
            "{Value}", "{value}" if slot.schema.get("type") == "string" else capital
        )
        text = text.format(value=said, old=before.said[slot.key])
        changed = CommandRequest(
            before.command, "", before.said, {**before.values, slot.key: value}
        )
        reply = assistant_calls([changed.call(call_id(rng))])
        return [*self.history, user(text)], reply

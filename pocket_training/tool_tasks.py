"""Synthetic tool conversations, seeded: what the pocket model learns tools from and is tested on.

Cases come in groups that share their tools, so that the long `[AVAILABLE_TOOLS]` prefix is
computed once for several questions. There are two splits. The known tools are the same in both,
but the held-out questions have other wordings, cities, names and numbers. Invented tools have
nothing in common across the splits (verbs, nouns, parameters, enum words).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from pocket_training import words
from pocket_training.command_tasks import CommandGroup
from pocket_training.messages import assistant, assistant_calls, call_id, user
from pocket_training.tool_requests import ToolRequest, fill, request_for, same_tool_twice, swap
from pocket_training.tool_results import result_case, result_pair
from pocket_training.tool_schemas import Tool, invented_tool, known_tools, nouns_of, odd_known_tool

SPLITS = ("train", "held_out")
SKILLS = ("known", "unseen", "command", "none", "two", "result", "corrected")
COMMAND_SHARE = {"command": 1.0, "corrected": 1.0, "none": 0.5, "two": 0.5}  # of the groups
TRIES = 20  # for each case, before other tools are chosen
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


Pair = tuple[ToolCase, ToolCase]


def _choose_known_tools(rng: Random, *, first: str | None = None, limit: int = 4) -> list[Tool]:
    tools = known_tools()
    count = min(limit, rng.choices([1, 2, 3, 4], [42, 38, 16, 4])[0])
    names = rng.sample([name for name in tools if name != first], count)
    if first:
        names[0] = first
    # a question without arguments has few wordings: some other tool has to make up the group
    if all(not tools[name].parameters for name in names):
        names[0] = "get_weather"
    rng.shuffle(names)
    return [tools[name] for name in names]


def _invent_tools(rng: Random, split: str, *, known: float = 0.0, **options) -> list[Tool]:
    """One to three tools; with the share `known`, a known one under another name is among them."""
    tools: list[Tool] = []
    for _ in range(rng.choices([1, 2, 3], [45, 40, 15])[0]):
        tools.append(invented_tool(rng, split, nouns_of(tools, split), **options))
    if rng.random() < known:
        index = rng.randrange(len(tools))
        tools[index] = odd_known_tool(rng, split, nouns_of(tools, split))
    # calls without arguments have few wordings: some tool has to make up the group
    if _share_a_name(tools) or not any(p.required for tool in tools for p in tool.parameters):
        return _invent_tools(rng, split, known=known, **options)
    return tools


def _share_a_name(tools: list[Tool]) -> bool:
    return len({tool.name for tool in tools}) < len(tools)


def _pick(tools: list[Tool], rng: Random) -> Tool:
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
            self.tools = _choose_known_tools(rng, first="get_current_population", limit=3)
            self._name_a_country()
        elif skill == "known" or (skill != "unseen" and kind < 0.5):
            self.tools = _choose_known_tools(rng)
        elif skill == "unseen":
            self.tools = _invent_tools(rng, split, known=0.15 if split == "train" else 0.0)
            if len(self.tools) < 3 and rng.random() < 0.15:
                # a known tool that nobody asks for
                self.tools.insert(rng.randint(0, 1), rng.choice(list(known_tools().values())))
        else:
            self.tools = _invent_tools(rng, split)

    def _name_a_country(self) -> None:
        """A turn before, in which the assistant names the country that is then "that country"."""
        rng, split, lists = self.rng, self.split, words.tools()
        self.country = rng.choice(lists.pools["country"][split])
        if rng.random() < 0.3:
            request = request_for(known_tools()["rewrite"], rng, split)
            self.history += result_case(request, rng, split).messages
        question, answer = rng.choice(list(lists.country_namings[split].items()))
        self.history += [user(question), assistant(answer.format(country=self.country))]

    def case(self) -> ToolCase:
        must_contain: tuple[str, ...] = ()
        if self.skill == "none":
            question, answer = self._no_call()
            messages, reply = [user(question)], assistant(answer)
        elif self.skill == "result":
            result = result_case(self._request(), self.rng, self.split)
            *messages, reply = result.messages
            must_contain = result.must_contain
        else:
            text, requests = self._two_calls() if self.skill == "two" else self._one_call()
            messages = [user(text)]
            reply = assistant_calls([request.call(call_id(self.rng)) for request in requests])
        schemas = [tool.schema for tool in self.tools]
        return ToolCase(self.skill, [*self.history, *messages], schemas, reply, must_contain)

    def _request(self) -> ToolRequest:
        tools = self.tools
        if self.skill == "unseen":
            tools = [tool for tool in tools if tool.name not in known_tools()]
        return request_for(_pick(tools, self.rng), self.rng, self.split)

    def _one_call(self) -> tuple[str, list[ToolRequest]]:
        rng, split = self.rng, self.split
        if self.country and rng.random() < 0.6:
            template = rng.choice(words.tools().follow_ups[split])
            request = fill(known_tools()["get_current_population"], template, rng, split)
            request = replace(request, values={"country": self.country, **request.values})
        else:
            request = self._request()
        return request.text, [request]

    def _no_call(self) -> tuple[str, str]:
        """A question that needs no tool, or another one, and its answer."""
        rng, lists = self.rng, words.tools()
        if rng.random() < 0.55:
            return rng.choice(list(lists.chat[self.split].items()))
        return self._outside_question(), rng.choice(lists.no_tool[self.split])

    def _outside_question(self) -> str:
        """A request that needs another tool than the group has."""
        rng, split = self.rng, self.split
        source = rng.random()
        if source < 0.4:
            tool = invented_tool(rng, split, nouns_of(self.tools, split))
            return request_for(tool, rng, split).text
        if source < 0.6:
            own = {tool.noun for tool in self.tools if tool.noun}
            requests = words.tools().unserved_requests[split]
            return rng.choice([text for text in requests if not any(n in text for n in own)])
        names = {tool.key for tool in self.tools}
        # either of these two could answer the other's questions
        if names & {"list_notebooks", "search_notebooks"}:
            names |= {"list_notebooks", "search_notebooks"}
        outside = [tool for name, tool in known_tools().items() if name not in names]
        return request_for(rng.choice(outside), rng, split).text

    def _two_calls(self) -> tuple[str, list[ToolRequest]]:
        rng, split, lists = self.rng, self.split, words.tools()
        tool = _pick(self.tools, rng)
        if rng.random() < 0.5 and tool.key in lists.pairs:
            key = lists.pairs[tool.key].parameter
            pair = [fill(tool, "{" + key + "}", rng, split) for _ in range(2)]
            if pair[0].values != pair[1].values:
                text = rng.choice(lists.pairs[tool.key].questions[split])
                return text.format(*(request.values[key] for request in pair)), pair
        if rng.random() < 0.5 and tool.verb and any(p.required for p in tool.parameters):
            return same_tool_twice(tool, rng, split)
        first, second = self._request(), self._request()
        while first.call("") == second.call(""):
            first, second = self._request(), self._request()
        conjunctions = lists.conjunctions[split]
        if not first.text.endswith((".", "?", "!", '"')) or first.template.endswith("{text}"):
            conjunctions = [conjunction for conjunction in conjunctions if "\n" in conjunction]
        return rng.choice(conjunctions).format(first.text, second.text), [first, second]


class _Commands:
    """A group of short commands, as `_Group`."""

    def __init__(self, split: str, skill: str, rng: Random):
        self.skill, self.group = skill, CommandGroup(split, skill, rng)

    def case(self) -> ToolCase:
        messages, reply = self.group.case()
        return ToolCase(self.skill, messages, self.group.schemas, reply)


def tool_groups(
    split: str, skill: str, *, groups: int, per_group: int, seed: int
) -> Iterator[list[ToolCase]]:
    """Groups of cases with the same tools and different questions.

    All messages of a group's cases are equal up to the last question: a tenth of the "known"
    groups begins with turns that name a country, which questions then call "that country".
    Group i is the same whatever the number of groups. Tools with too few requests are replaced.

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
        cases: dict[str, ToolCase] = {}
        for attempt in count():
            # seeded by text: Random hashes it by SHA-512, alike in every process
            rng = Random(f"tools/{split}/{skill}/{seed}/{index}" + f"/{attempt}" * bool(attempt))
            if cases := _different(split, skill, per_group, rng):
                break
        yield list(cases.values())


def _different(split: str, skill: str, number: int, rng: Random) -> dict[str, ToolCase]:
    """Cases about the same tools, by their last questions; none if there are too few."""
    commands = rng.random() < COMMAND_SHARE.get(skill, 0.0)
    group = (_Commands if commands else _Group)(split, skill, rng)
    cases: dict[str, ToolCase] = {}
    for _ in range(TRIES * number):
        case = group.case()
        question = [m["content"] for m in case.messages if m["role"] == "user"][-1]
        cases.setdefault(question, case)
        if len(cases) == number:
            return cases
    return {}


def tools_beside_chat(split: str, rng: Random) -> list[dict]:
    """Schemas of tools that an ordinary question does not call for: invented ones, or commands.

    The known ones are not among them: "What is the weather like in Rome?" does call for one.
    """
    if rng.random() < 0.5:
        return CommandGroup(split, "none", rng).schemas
    return [tool.schema for tool in _invent_tools(rng, split)]


def counterfactual_pairs(split: str, *, pairs: int, seed: int) -> Iterator[Pair]:
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


def _pair(split: str, swapped: str, rng: Random) -> Pair:
    # plain names first, so that the swapped one is the surprise; every parameter is described,
    # since a swapped name must be found by its description
    if rng.random() < 0.3:
        tools = _choose_known_tools(rng, limit=3)
    else:
        tools = _invent_tools(rng, split, odd_names=False, described=swapped == "parameter")
    tool = _pick(tools, rng)
    request = request_for(tool, rng, split)

    def case(messages, tools, reply, must_contain=()) -> ToolCase:
        schemas = [t.schema for t in tools]
        return ToolCase("counterfactual", messages, schemas, reply, must_contain, swapped=swapped)

    if swapped == "result":
        pair = result_pair(request, rng, split)
        return tuple(case(r.messages[:3], tools, r.messages[3], r.must_contain) for r in pair)

    other = swap(request, swapped, rng, split)
    if other is None or _share_a_name([other.tool, *(t for t in tools if t is not tool)]):
        return _pair(split, swapped, rng)
    new_id, cases = call_id(rng), []
    for version in (request, other):
        offered = [version.tool if t is tool else t for t in tools]
        reply = assistant_calls([version.call(new_id)])
        cases.append(case([user(version.text)], offered, reply))
    return tuple(cases)

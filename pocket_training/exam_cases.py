"""The evaluation's held-out cases: what is asked, and which replies are right."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pocket_model.chat_format import ChatFormat
from pocket_model.reply import read_reply
from pocket_training import picture_tasks, tool_tasks
from pocket_training.examples import END, TOOL_CALLS, Example, ExampleEncoder
from pocket_training.mixed_tasks import mixed_examples

SEED = 1
CASES, QUICK_CASES = 300, 30
PER_TOOLS = 10  # cases about the same tools
REPLY_TOKENS = 40  # within which an answer in words must be there

# The skills by id, in the order of the table: the label and the target, the least share that is
# right.
SKILLS: dict[str, tuple[str, float | None]] = {
    "tools_known": ("tool call, known tools", 0.97),
    "tools_unseen": ("tool call, schemas never seen", 0.92),
    "tools_command": ("tool call, short commands", 0.92),
    "tools_corrected": ("tool call, corrected by the user", None),
    "tools_none": ("no suitable tool, no call", 0.97),
    "tools_two": ("two calls in one turn", 0.88),
    "tools_result": ("the tool's result in the answer", 0.98),
    "picture_colour": ("picture: colour", 0.97),
    "picture_shape": ("picture: shape", 0.97),
    "picture_count": ("picture: count", 0.95),
    "picture_exist": ("picture: is there …?", 0.97),
    "picture_position": ("picture: position", 0.97),
    "picture_largest": ("picture: largest", 0.97),
    "picture_tallest": ("picture: tallest bar", 0.97),
    "picture_region": ("picture: largest region", 0.97),
    "picture_number": ("picture: number", 0.97),
    "picture_two_pictures": ("two pictures: which one", 0.95),
    "picture_absent": ("picture: what is not there", 0.85),
    "picture_follow_up": ("picture: a second question", None),
    "picture_missing": ("a question about a picture, without one", None),
    "counterfactual_pairs": ("counterfactual pairs", 0.95),
    "mixed_country": ("conversation: largest country, tools at hand", None),
    "mixed_population": ("conversation: that country's population", None),
}
_TOOL_KINDS = ("known", "unseen", "command", "two", "none", "result", "corrected")
_PICTURE_SKILLS = {  # of `picture_tasks`, by the kind of picture
    "shapes": ("colour", "shape", "count", "exist", "position", "largest", "absent"),
    "bars": ("tallest",),
    "regions": ("region",),
    "number": ("number",),
    "two": ("two pictures",),
}


@dataclass
class Case:
    """An example to score.

    Attributes:
        skill: a key of `SKILLS`.
        accept: tells whether a generated reply is right; None if only the example's own is.
    """

    skill: str
    example: Example
    accept: Callable[[list[int]], bool] | None = None


Question = list[Case]  # cases that share a beginning: the same tools or the same picture


def questions(encoder: ExampleEncoder, cases: int = CASES) -> Iterator[Question]:
    """All held-out questions but chat and counterfactual pairs: `cases` of each skill.

    There are a tenth as many of the mixed conversations.
    """
    for kind in _TOOL_KINDS:
        options = {"groups": -(-cases // PER_TOOLS), "per_group": PER_TOOLS, "seed": SEED}
        for group in tool_tasks.tool_groups("held_out", kind, **options):
            yield [_tool_case(f"tools_{kind}", encoder, case) for case in group]
    for kind, skills in _PICTURE_SKILLS.items():
        left, picture_seed = dict.fromkeys(skills, cases), SEED * 100_000
        while any(left.values()):
            picture_seed += 1
            if question := _picture_cases(encoder, kind, picture_seed, left):
                yield question
    for number in range(cases // 2):
        yield from _second_questions(encoder, number)
    for number in range(cases // 10):
        # The model card's conversation: the largest country on a map, then its population.
        rng = random.Random(f"conversation {SEED} {number}")
        first, second = mixed_examples(encoder, "held_out", rng)
        accept = same_calls(encoder.chat_format, second.reply)
        yield [Case("mixed_country", first), Case("mixed_population", second, accept)]


def _picture_cases(encoder: ExampleEncoder, kind: str, seed: int, left: dict[str, int]) -> Question:
    """Cases about one picture, or two, of the skills that have some left; `left` is lowered."""
    groups = picture_tasks.picture_groups("held_out", kind, groups=1, seed=seed, per_group=12)
    # Two shapes of a scene can give the same question. It would be counted twice.
    distinct = {(case.skill, case.question): case for group in groups for case in group}
    question = []
    for (skill, _), case in distinct.items():
        if left.get(skill):
            left[skill] -= 1
            skill_id = f"picture_{skill.replace(' ', '_')}"
            question.append(_picture_case(skill_id, encoder, case))
    return question


def _second_questions(encoder: ExampleEncoder, number: int) -> Iterator[Question]:
    """Two questions that follow a third about the same picture; two that lack the picture."""
    options = {"groups": 1, "per_group": 5, "seed": SEED * 200_000 + number}
    (group,) = picture_tasks.picture_groups("held_out", "shapes", **options)
    before, *after = group[:3]
    rows = [("picture_follow_up", case, before) for case in after]
    rows += [("picture_missing", case, None) for case in picture_tasks.without_pictures(group[3:])]
    for skill, case, earlier in rows:
        accept = says(encoder.chat_format, case.value, case.rivals)
        yield [Case(skill, encoder.picture_example(case, earlier=earlier), accept)]


def _picture_case(skill: str, encoder: ExampleEncoder, case: picture_tasks.PictureCase) -> Case:
    accept = says(encoder.chat_format, case.value, case.rivals)
    return Case(skill, encoder.picture_example(case), accept)


def pairs(encoder: ExampleEncoder, number: int = CASES) -> Iterator[list[Question]]:
    """Counterfactual pairs, about pictures and about tools in turn, each as its questions.

    So those of a smaller number are the first of a larger one.
    """
    skill, tools = "counterfactual_pairs", number // 2
    of_tools = tool_tasks.counterfactual_pairs("held_out", pairs=tools, seed=SEED)
    for pair in picture_tasks.counterfactual_pairs("held_out", pairs=number - tools, seed=SEED):
        # Two rows: the pictures share their tokens' ids, but show different things.
        yield [[_picture_case(skill, encoder, case)] for case in pair]
        if about_tools := next(of_tools, None):
            yield [[_tool_case(skill, encoder, case) for case in about_tools]]


def _tool_case(skill: str, encoder: ExampleEncoder, case: tool_tasks.ToolCase) -> Case:
    example = encoder.tool_example(case, "given")
    if case.must_contain:
        accept = contains(encoder.chat_format, case.must_contain)
    elif case.reply.get("tool_calls"):
        accept = same_calls(encoder.chat_format, example.reply)
    else:
        accept = makes_no_call
    return Case(skill, example, accept)


def same_calls(chat_format: ChatFormat, reply: list[int]) -> Callable[[list[int]], bool]:
    """Accepts the calls of `reply`, in other tokens or with keys in another order as well."""
    expected = _calls(chat_format, reply)
    assert expected, "not a reply of calls"
    return lambda generated: _calls(chat_format, generated) == expected


def _calls(chat_format: ChatFormat, tokens: list[int]) -> list[tuple[str, str]] | None:
    """Name and arguments of each call in a reply, keys sorted; None if it is anything else."""
    reply = read_reply(chat_format, tokens)
    complete = len(reply.tool_calls) == tokens.count(TOOL_CALLS) and tokens[-1] == END
    if tokens[0] != TOOL_CALLS or not complete or not all(c.id for c in reply.tool_calls):
        return None
    try:
        # As text: in Python 1 equals both true and 1.0.
        arguments = [json.dumps(json.loads(c.arguments), sort_keys=True) for c in reply.tool_calls]
    except ValueError:
        return None
    return [(c.name, text) for c, text in zip(reply.tool_calls, arguments, strict=True)]


def says(
    chat_format: ChatFormat, value: str, rivals: tuple[str, ...]
) -> Callable[[list[int]], bool]:
    """Accepts a reply that has the value in its first tokens, and none of its rivals.

    A count may be a word or a digit. "not see" may be "no" or "don't see" too.
    """
    forms = {"not see": ["not see", "don't see", "no"]}.get(value, [value])
    if value in picture_tasks.NUMBERS:
        forms = [value, str(picture_tasks.NUMBERS.index(value))]

    def found(texts, text: str) -> bool:
        return any(re.search(rf"(?<!\w){re.escape(each.lower())}(?!\w)", text) for each in texts)

    def accept(reply: list[int]) -> bool:
        text = chat_format.decode(reply[:REPLY_TOKENS]).lower()
        return found(forms, text) and not found(rivals, text)

    return accept


def makes_no_call(reply: list[int]) -> bool:
    return TOOL_CALLS not in reply and reply[-1] == END and len(reply) <= REPLY_TOKENS


def contains(chat_format: ChatFormat, texts: tuple[str, ...]) -> Callable[[list[int]], bool]:
    """Accepts a reply that has all the texts in its first tokens."""
    return lambda reply: all(text in chat_format.decode(reply[:REPLY_TOKENS]) for text in texts)

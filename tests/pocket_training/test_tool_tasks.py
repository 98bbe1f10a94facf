"""The synthetic tool conversations against JSON Schema, Mistral's own encoder and plain search."""

import json
import os
import re
import subprocess
import sys
from itertools import takewhile

import pytest
from jsonschema import Draft202012Validator

from helpers import wire
from pocket_training import words
from pocket_training.tool_schemas import known_tools
from pocket_training.tool_tasks import SKILLS, SPLITS, SWAPS, counterfactual_pairs, tool_groups

EVERY = [(split, skill) for split in SPLITS for skill in SKILLS]


def cases(split, skill, groups=40, per_group=5, seed=0):
    made = tool_groups(split, skill, groups=groups, per_group=per_group, seed=seed)
    return [case for group in made for case in group]


def pairs(split, number=200):
    return list(counterfactual_pairs(split, pairs=number, seed=0))


def calls_of(case):
    """The calls of the whole conversation: (name, arguments, call)."""
    made = [c for m in [*case.messages, case.reply] for c in m.get("tool_calls", [])]
    return [(c["function"]["name"], json.loads(c["function"]["arguments"]), c) for c in made]


def functions(case):
    return {tool["function"]["name"]: tool["function"] for tool in case.tools}


def said(case):
    """What user and assistant said in words before the answer."""
    spoken = [m for m in case.messages if m["role"] in ("user", "assistant")]
    return "\n".join(m["content"] for m in spoken if "content" in m)


def assert_schemas_and_arguments_agree(case):
    named = functions(case)
    assert len(named) == len(case.tools), "two tools of one name"
    for function in named.values():
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
        Draft202012Validator.check_schema(function["parameters"])
        required = function["parameters"].get("required", [])
        assert set(required) <= set(function["parameters"]["properties"])
    # a turn before may have called the tool that is not offered any more
    asked = {c["id"] for c in case.reply.get("tool_calls", [])}
    for name, arguments, call in calls_of(case):
        if name not in named and call["id"] not in asked:
            continue
        strict = {**named[name]["parameters"], "additionalProperties": False}
        Draft202012Validator(strict).validate(arguments)
        order = [key for key in strict["properties"] if key in arguments]
        assert list(arguments) == order
        assert call["function"]["arguments"] == json.dumps(arguments, ensure_ascii=False)


def values_in(arguments):
    """All values with their keys, those in objects and lists too."""
    for key, value in arguments.items():
        if isinstance(value, dict):
            yield from values_in(value)
        elif isinstance(value, list):
            yield from ((key, item) for item in value)
        else:
            yield key, value


def assert_values_are_said(case):
    text = said(case)
    for _, arguments, _ in calls_of(case):
        for key, value in values_in(arguments):
            forms = [str(value)]
            if isinstance(value, bool):
                # a flag is said by its own word ("an urgent message"), as true, on or yes
                forms = [json.dumps(value), key, *(["on", "yes"] if value else ["off", "no"])]
            found = [re.search(rf"(?<!\w){re.escape(f)}(?!\w)", text, flags(value)) for f in forms]
            assert any(found), (key, value, text)


def flags(value):
    """Words of switches may begin a sentence; all other values are said as they are."""
    return re.IGNORECASE if isinstance(value, bool) else 0


@pytest.mark.parametrize(("split", "skill"), EVERY)
def test_schemas_are_valid_and_the_calls_obey_them(split, skill):
    for case in cases(split, skill):
        assert case.skill == skill
        assert_schemas_and_arguments_agree(case)


@pytest.mark.parametrize(("split", "skill"), EVERY)
def test_every_argument_is_in_the_conversation_word_for_word(split, skill):
    for case in cases(split, skill):
        assert_values_are_said(case)


@pytest.mark.parametrize("split", SPLITS)
def test_numbers_of_a_question_are_all_used(split):
    # the other way round: no value of the question is left out of the arguments
    for case in cases(split, "unseen"):
        digits = set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w:-])", said(case)))
        digits = {d.rstrip(".") for d in digits}
        used = calls_of(case)[0][2]["function"]["arguments"]
        assert all(d in used for d in digits), (said(case), used)


@pytest.mark.parametrize(("split", "skill"), EVERY)
def test_a_group_differs_in_its_last_question_only(split, skill):
    for group in tool_groups(split, skill, groups=40, per_group=6, seed=1):
        before, questions = set(), set()
        for case in group:
            last = max(i for i, m in enumerate(case.messages) if m["role"] == "user")
            before.add(json.dumps([case.tools, case.messages[:last]]))
            questions.add(case.messages[last]["content"])
        assert len(before) == 1
        assert len(questions) == 6


@pytest.mark.parametrize(("split", "skill"), EVERY)
def test_a_group_shares_the_tokens_up_to_its_tools(split, skill):
    # all but the question is one prefix for Mistral's own encoder: what makes groups cheap
    for group in tool_groups(split, skill, groups=8, per_group=2, seed=2):
        one, other = (wire.encode(case.messages, case.tools) for case in group)
        pairs_of_tokens = zip(one, other, strict=False)
        shared = wire.decode([a for a, _ in takewhile(lambda ab: ab[0] == ab[1], pairs_of_tokens)])
        assert shared.count("[/AVAILABLE_TOOLS]") == 1
        assert shared.rindex("[INST]") > shared.index("[/AVAILABLE_TOOLS]")


def test_mistrals_own_encoder_takes_whole_conversations():
    for split, skill in EVERY:
        for case in cases(split, skill, groups=6, per_group=2):
            asked = case.reply.get("tool_calls", [])
            after = [{"role": "tool", "tool_call_id": c["id"], "content": "1"} for c in asked]
            after = after or [{"role": "user", "content": "Thanks!"}]
            text = wire.decode(wire.encode([*case.messages, case.reply, *after], case.tools))
            for name, _, call in calls_of(case):
                assert f"[TOOL_CALLS]{name}[CALL_ID]{call['id']}[ARGS]" in text


@pytest.mark.parametrize("split", SPLITS)
def test_skills_are_what_their_names_say(split):
    for case in cases(split, "known"):
        assert {t["function"]["name"] for t in case.tools} <= set(known_tools())
        assert len(case.reply["tool_calls"]) == 1
    for case in cases(split, "unseen"):
        assert case.reply["tool_calls"][0]["function"]["name"] not in known_tools()
    for case in cases(split, "none"):
        assert not case.reply.get("tool_calls")
        assert 1 < len(case.reply["content"]) < 100
    for case in cases(split, "two"):
        first, second = (c["function"] for c in case.reply["tool_calls"])
        assert first != second


@pytest.mark.parametrize("split", SPLITS)
def test_two_calls_are_in_the_order_asked(split):
    for case in cases(split, "two"):
        (_, first, _), (_, second, _) = calls_of(case)
        # a list's own numbers are no values
        text = re.sub(r"(?m)^\d+\. ", "", said(case))

        def only(mine, other):
            # places of the values that belong to one of the two calls alone
            values = {str(v) for v in mine.values()} - {str(v) for v in other.values()}
            whole = [rf"(?<!\w){re.escape(v)}(?!\w|\.\d)" for v in values]
            found = [re.search(one, text) for one in whole]  # noqa: B023
            return [m.start() for m in found if m]

        before, after = only(first, second), only(second, first)
        if before and after:
            assert min(before) < min(after), text


@pytest.mark.parametrize("split", SPLITS)
def test_no_tool_of_the_list_serves_the_questions_that_need_none(split):
    known = words.tools().known

    # every known phrasing as a pattern: a listed tool's must not fit
    def pattern(name, template):
        schema = known_tools()[name].schema["function"]["parameters"]["properties"]
        parts = [re.escape(part) for part in re.split(r"\{\w+\}", template)]
        fields = [""]
        for key in re.findall(r"\{(\w+)\}", template):
            if schema[key]["type"] in ("integer", "number") or key == "expression":
                fields.append(r"[-+*/()\d. ]+")
            elif known[name].parameters[key].holds == "currency":
                fields.append("[A-Z]{3}")
            else:
                fields.append("|".join(schema[key].get("enum", [".+"])))
        asked = "".join(f"(?:{field}){part}" for field, part in zip(fields, parts, strict=True))
        return f"(?:(?:{openings}) )?{asked}(?: (?:{closings}))?"

    openings, closings = (
        "|".join(map(re.escape, texts))
        for texts in (words.courtesies().openings, words.courtesies().closings)
    )
    for name, tool in known.items():  # the patterns do find their own questions
        own = [c for c in cases(split, "known") if functions(c).keys() == {name}]
        patterns = [pattern(name, template) for template in tool.questions[split]]
        patterns += [pattern(name, template.rstrip(".?")) for template in tool.questions[split]]
        asked = [said(case) for case in own if len(case.messages) == 1]
        found = [text for text in asked if any(re.fullmatch(p, text) for p in patterns)]
        # Some are typed in lower case or with an error.
        assert len(found) >= 0.5 * len(asked), name
    for case in cases(split, "none", groups=100):
        for name in functions(case).keys() & known.keys():
            for template in known[name].questions[split]:
                assert not re.fullmatch(pattern(name, template), said(case)), (name, said(case))


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_needs_the_result(split):
    errors = 0
    for case in cases(split, "result"):
        question, call, result = case.messages
        assert result["tool_call_id"] == call["tool_calls"][0]["id"]
        assert result["name"] == call["tool_calls"][0]["function"]["name"]
        assert case.must_contain
        errors += "rror" in result["content"]
        for value in case.must_contain:
            assert value in case.reply["content"]
            assert value in result["content"]
            assert value not in question["content"]
            assert value not in json.dumps(call)
    assert 0 < errors < 0.2 * 200


@pytest.mark.parametrize(("split", "skill"), EVERY)
def test_call_ids_are_nine_letters_or_digits(split, skill):
    made = cases(split, skill)
    for case in made:
        for _, _, call in calls_of(case):
            assert re.fullmatch("[a-zA-Z0-9]{9}", call["id"])
            assert call["type"] == "function"
    ids = [call["id"] for case in made for call in case.reply.get("tool_calls", [])]
    assert len(set(ids)) == len(ids)


def distinct(made):
    """How many cases differ in more than the ids of their calls."""
    ids = re.compile(r'"(?:id|tool_call_id)": "\w{9}"')
    return len({ids.sub("", json.dumps([c.tools, c.messages, c.reply])) for c in made})


@pytest.mark.parametrize("skill", SKILLS)
def test_there_are_enough_distinct_cases(skill):
    assert distinct(cases("held_out", skill, groups=60, per_group=6)) >= 300
    assert distinct(cases("train", skill, groups=500, per_group=6)) >= 2700


@pytest.mark.parametrize("skill", SKILLS)
def test_large_groups_end(skill):
    for split in SPLITS:
        sizes = [len(group) for group in tool_groups(split, skill, groups=30, per_group=24, seed=3)]
        assert sizes == [24] * 30


def test_held_out_cases_are_not_training_cases():
    for skill in SKILLS:
        seen = {said(case) for case in cases("train", skill, groups=400)}
        met = [case for case in cases("held_out", skill, groups=100) if said(case) in seen]
        assert not met


def leaves(value):
    """All strings in nested dicts (keys too), lists and tuples."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)


TABLES = [  # all lists with splits but pools and known tools, which are built otherwise
    name
    for name in words.ToolWords.model_fields
    if isinstance(getattr(words.tools(), name), words.Split) and name != "years"
]


@pytest.mark.parametrize("name", TABLES)
def test_held_out_words_and_phrasings_are_others(name):
    table = getattr(words.tools(), name)
    train, held_out = (set(leaves(table[split])) for split in SPLITS)
    # what a field holds ("person") is a name for a pool, not a word of the data
    kinds = {"person", "city", "date", "time", "product", "phrase", "code", "state"}
    assert not train & held_out - kinds
    assert train
    assert held_out


def test_further_words_to_copy_are_in_nothing_held_out():
    lists = words.tools()
    tables = [getattr(lists, name) for name in TABLES]
    tables += [*lists.pools.values(), *(tool.questions for tool in lists.known.values())]
    tables += [tool.results for tool in lists.known.values()]
    held_out = {
        word.lower()
        for table in tables
        for leaf in leaves(table.held_out)
        for word in re.findall("[A-Za-z]+", leaf)
    }
    further = {*lists.further_names, *lists.further_words}
    assert len(further) > 1000
    assert not {word.lower() for word in further} & held_out


def test_pools_and_known_phrasings_are_others_and_enough():
    lists = words.tools()
    for pool in lists.pools.values():
        assert not set(pool.train) & set(pool.held_out)
        assert all(len(word) > 1 for split in SPLITS for word in pool[split])
    for name, tool in lists.known.items():
        assert not set(tool.questions.train) & set(tool.questions.held_out), name
        assert len(tool.questions.train) >= 8, name
        assert len(tool.questions.held_out) >= 4, name
    assert len(lists.chat.train) >= 80
    assert len(lists.chat.held_out) >= 40


@pytest.mark.parametrize("split", SPLITS)
def test_a_correction_changes_one_value_of_the_call_before(split):
    for case in cases(split, "corrected"):
        (_, before, _), (_, after, _) = calls_of(case)
        old, new = (list(values_in(arguments)) for arguments in (before, after))
        assert [key for key, _ in old] == [key for key, _ in new]
        changed = [(a, b) for (_, a), (_, b) in zip(old, new, strict=True) if a != b]
        ((_, value),) = changed
        assert str(value).lower() in case.messages[-1]["content"].lower()


def test_commands_have_what_schemas_can_have():
    made = [case for split in SPLITS for case in cases(split, "command", groups=200, per_group=2)]
    assert {len(case.tools) for case in made} >= {1, 2, 3, 4, 5, 6, 8}
    parameters = [f["parameters"] for case in made for f in functions(case).values()]
    properties = [p for group in parameters for p in group["properties"].values()]
    assert {p["type"] for p in properties} == {
        *("string", "integer", "number", "boolean", "array", "object")
    }
    assert any("enum" in p for p in properties)
    assert max(len(group["properties"]) for group in parameters) >= 6
    assert any(set(group["properties"]) - set(group["required"]) for group in parameters)
    counts = [len(list(values_in(calls_of(case)[0][1]))) for case in made]
    assert sum(count >= 2 for count in counts) > 0.6 * len(counts)


def test_held_out_commands_share_no_name_with_training():
    lists = words.commands()
    assert set(leaves(lists.frames.train)).isdisjoint(leaves(lists.frames.held_out))
    for table in (lists.joined, lists.corrections, lists.done, lists.parameter_descriptions):
        assert set(table.train).isdisjoint(table.held_out)
    for pool in lists.pools.values():
        assert set(pool.train).isdisjoint(pool.held_out)
    names, keys, texts = ({split: set() for split in SPLITS} for _ in range(3))
    for split in SPLITS:
        for family in lists.actions[split].values():
            for action in family:
                names[split] |= set(action.names)
                texts[split] |= {*action.do, *action.say, *action.descriptions}
                keys[split] |= {name for p in action.parameters.values() for name in p.names}
    for made in (names, keys, texts):
        assert made["train"].isdisjoint(made["held_out"]), made["train"] & made["held_out"]


def test_every_action_names_its_parameters():
    for split in SPLITS:
        for family, actions in words.commands().actions[split].items():
            for action in actions:
                needed = {key for key, p in action.parameters.items() if not p.optional}
                for text in [*action.do, *action.say]:
                    fields = set(re.findall(r"\{(\w+)\}", text))
                    assert needed <= fields <= set(action.parameters), (family, text)


def test_invented_names_and_parameters_never_meet():
    # a known tool may be in a list under its own name, or in train under another's
    known = {tool.description for tool in known_tools().values()}
    names, keys, enum_words = ({split: set() for split in SPLITS} for _ in range(3))
    for split in SPLITS:
        for case in cases(split, "unseen", groups=400, per_group=1):
            for name, function in functions(case).items():
                names[split] |= {name} - known_tools().keys()
                if function["description"] not in known:
                    properties = function["parameters"]["properties"]
                    keys[split] |= set(properties)
                    enum_words[split] |= {w for p in properties.values() for w in p.get("enum", [])}
    for made in (names, keys, enum_words):
        assert made["train"]
        assert made["held_out"]
        assert not made["train"] & made["held_out"]
    assert not keys["held_out"] & {p.key for t in known_tools().values() for p in t.parameters}


def test_the_two_tools_of_the_model_card_are_word_for_word():
    assert known_tools()["get_current_population"].schema == {
        "type": "function",
        "function": {
            "name": "get_current_population",
            "description": "Get the up-to-date population of a given country.",
            "parameters": {
                "type": "object",
                "properties": {
                    "country": {
                        "type": "string",
                        "description": "The country to find the population of.",
                    },
                    "unit": {
                        "type": "string",
                        "description": "The unit for the population.",
                        "enum": ["millions", "thousands"],
                    },
                },
                "required": ["country", "unit"],
            },
        },
    }
    shown = {f["name"]: f for case in cases("train", "known") for f in functions(case).values()}
    assert shown["rewrite"] == {
        "name": "rewrite",
        "description": "Rewrite a given text for improved clarity",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "The input text to rewrite"}},
        },
    }
    for name, function in shown.items():
        assert function == known_tools()[name].schema["function"]


# --- counterfactual pairs ---------------------------------------------------------------------


def flat(value, path=()):
    """Nested data as {path: leaf}; the keys of an object are leaves too."""
    if isinstance(value, dict):
        items = [*value.items(), ("keys", tuple(value))]
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return {path: value}
    return {p: leaf for key, item in items for p, leaf in flat(item, (*path, key)).items()}


def differences(one, other):
    one, other = flat(one), flat(other)
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_differ_in_one_thing(split):
    for first, second in pairs(split):
        assert first.counterpart == second
        assert second.counterpart is None
        assert first.skill == second.skill == "counterfactual"
        messages = differences(first.messages, second.messages)
        tools = differences(first.tools, second.tools)
        if first.swapped == "result":
            assert not tools
            assert messages == {(2, "content")}
        elif first.swapped == "value":
            assert not tools
            assert messages == {(0, "content")}
        elif first.swapped == "name":
            assert not messages
            ((_, *path),) = tools
            assert path == ["function", "name"]
        else:
            assert not messages
            # undone, the new parameter's name is the old one: everything else is as it was
            index = {path[0] for path in tools}
            assert len(index) == 1
            one, other = (c.tools[index.copy().pop()]["function"] for c in (first, second))
            (old,) = set(one["parameters"]["properties"]) - set(other["parameters"]["properties"])
            (new,) = set(other["parameters"]["properties"]) - set(one["parameters"]["properties"])
            text = json.dumps(other).replace(json.dumps(new), json.dumps(old))
            assert text == json.dumps(one).replace(json.dumps(new), json.dumps(old))


@pytest.mark.parametrize("split", SPLITS)
def test_the_right_answer_follows_the_swap(split):
    for first, second in pairs(split):
        for case in (first, second):
            assert_schemas_and_arguments_agree(case)
            assert_values_are_said(case)
        if first.swapped == "result":
            new = set(second.must_contain) - set(first.must_contain)
            old = set(first.must_contain) - set(second.must_contain)
            assert len(new) == len(old) == 1
            for case, value in ((first, old), (second, new)):
                assert value.pop() in case.reply["content"]
            assert all(v in second.messages[2]["content"] for v in second.must_contain)
            assert not set(second.must_contain) <= set(first.reply["content"].split())
            continue
        ((name, arguments, _),) = calls_of(first)
        ((name_2, arguments_2, _),) = calls_of(second)
        same = {
            "name": (name != name_2, arguments == arguments_2),
            "parameter": (
                name == name_2,
                list(arguments.values()) == list(arguments_2.values())
                and len(set(arguments) ^ set(arguments_2)) == 2,
            ),
            "value": (
                name == name_2,
                list(arguments) == list(arguments_2)
                and sum(arguments[key] != arguments_2[key] for key in arguments) == 1,
            ),
        }
        assert all(same[first.swapped])


def test_pairs_share_the_swaps_equally():
    for split in SPLITS:
        kinds = [first.swapped for first, _ in pairs(split)]
        assert {kind: kinds.count(kind) for kind in SWAPS} == dict.fromkeys(SWAPS, 50)


# --- determinism ------------------------------------------------------------------------------

DIGEST = """
import hashlib, json
from dataclasses import asdict
from pocket_training.tool_tasks import SKILLS, SPLITS, counterfactual_pairs, tool_groups
made = [[asdict(c) for g in tool_groups(split, skill, groups=5, per_group=4, seed=7) for c in g]
        for split in SPLITS for skill in SKILLS]
made += [[asdict(a), asdict(b)] for a, b in counterfactual_pairs("train", pairs=8, seed=7)]
print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""


def test_another_process_makes_the_same_cases():
    digests = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_more_groups_keep_the_first_ones_and_other_seeds_make_others():
    few = cases("train", "two", groups=3)
    assert cases("train", "two", groups=9)[: len(few)] == few
    assert cases("train", "two", groups=3, seed=1) != few
    assert pairs("train", 4) == pairs("train", 8)[:4]


def test_an_unknown_split_or_skill_is_refused():
    with pytest.raises(ValueError, match="validation"):
        next(tool_groups("validation", "known", groups=1, per_group=1, seed=0))
    with pytest.raises(ValueError, match="chat"):
        next(tool_groups("train", "chat", groups=1, per_group=1, seed=0))
    with pytest.raises(ValueError, match="test"):
        next(counterfactual_pairs("test", pairs=1, seed=0))

"""The scorers on answers whose verdict a person would give, and on answers that they judge wrongly.

The cases were written from the scorers' descriptions.
"""

import json

import jsonschema
import pytest

from helpers.compare import scorers
from helpers.compare.scorers import judge

CAT = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SIE = "Sehr geehrte Frau Lind, vielen Dank für Ihre Nachricht. Ich melde mich bei Ihnen."
DU = "Hallo Ida, danke für deine Nachricht. Ich melde mich bei dir."
KEIGO = "いつもお世話になっております。資料をお送りいたします。ご確認ください。"


def fibonacci(count, start=(1, 1)):
    numbers = [*start]
    while len(numbers) < count:
        numbers.append(sum(numbers[-2:]))
    return ", ".join(map(str, numbers))


RIGHT = [
    ("Paris", {"rule": "exact", "text": "paris."}),
    ("  “Paris” ", {"rule": "exact", "text": "Paris"}),
    ("It is Paris.", {"rule": "says", "any_of": ["Paris"]}),
    ("That's not Lyon; it's Paris.", {"rule": "says", "any_of": ["Paris"]}),
    ("São Tomé", {"rule": "says", "any_of": ["são tomé"]}),
    ("New\nYork", {"rule": "says", "any_of": ["new york"]}),
    ("2 + 3 = 5", {"rule": "number", "value": 5}),
    ("about 1,234.5 km", {"rule": "number", "value": 1234.5}),
    ("-3", {"rule": "number", "value": -3}),
    ("It is \N{MINUS SIGN}4.", {"rule": "number", "value": -4}),
    ("1,234,567", {"rule": "number", "value": 1234567}),
    ("A cat has FOUR legs", {"rule": "number", "value": 4}),
    ("3.14159", {"rule": "number", "value": 3.14, "tolerance": 0.01}),
    ("No, it is not.", {"rule": "yes_no", "value": "no"}),
    ('{"name": "Tom", "age": 3}', {"rule": "json_schema", "schema": CAT}),
    ('```json\n{"name": "Tom", "age": 3}\n```', {"rule": "json_schema", "schema": CAT}),
    (fibonacci(12), {"rule": "numbers_until", "limit": 100}),
    (fibonacci(13, (0, 1)), {"rule": "numbers_until", "limit": 100}),
    ("1,1,2,3,5,8,13,21,34,55,89,144", {"rule": "numbers_until", "limit": 100}),
    (fibonacci(16) + ", 1,597", {"rule": "numbers_until", "limit": 1000}),
    ("about 1e3", {"rule": "number", "value": 1000}),
    ("Here they are:\n1\n1\n2\n3\n5\n8", {"rule": "numbers_until", "limit": 8}),
    ("Ich habe die Rechnung nicht bezahlt.", {"rule": "language", "name": "German"}),
    ("Le chat est sur la table avec vous.", {"rule": "language", "name": "French"}),
    ("The cat is on the table.", {"rule": "language", "name": "English"}),
    ("El perro está muy cansado", {"rule": "language", "name": "Spanish"}),
    ("Il gatto è della signora", {"rule": "language", "name": "Italian"}),
    (KEIGO, {"rule": "language", "name": "Japanese"}),
    ("你好,很高兴认识你", {"rule": "language", "name": "Chinese"}),
    ("Добрый день", {"rule": "language", "name": "Russian"}),
    (SIE, {"rule": "polite", "name": "German"}),
    ("Je vous remercie de votre réponse.", {"rule": "polite", "name": "French"}),
    (KEIGO, {"rule": "polite", "name": "Japanese"}),
    ("I'm sorry, but I can’t help with that.", {"rule": "refuses"}),
    ("As an AI, I don't have preferences.", {"rule": "refuses"}),
    ("The capital is Paris.", {"rule": "refuses", "wanted": False}),
    ("blue kites fly low", {"rule": "instruction", "name": "repeat"}),
]
WRONG = [
    ("Paris, France", {"rule": "exact", "text": "Paris"}, "not exactly"),
    ("", {"rule": "exact", "text": "Paris"}, "not exactly"),
    ("Comparison", {"rule": "says", "any_of": ["Paris"]}, "none of"),
    ("It is not Paris.", {"rule": "says", "any_of": ["Paris"]}, "none of"),
    ("It isn’t in Paris", {"rule": "says", "any_of": ["Paris"]}, "none of"),
    ("Paris or Rome", {"rule": "says", "any_of": ["Paris"], "none_of": ["Rome"]}, "'Rome'"),
    ("sacred", {"rule": "says", "any_of": ["red"]}, "none of"),
    ("five or six", {"rule": "number", "value": 5}, "6 instead of 5"),
    ("none", {"rule": "number", "value": 0}, "no number"),
    ("3,5", {"rule": "number", "value": 35}, "5 instead of 35"),
    ("1" * 5000, {"rule": "numbers_until", "limit": 5}, "a number without an end"),
    ("often", {"rule": "number", "value": 10}, "no number"),
    ("I do not know.", {"rule": "yes_no", "value": "no"}, "neither"),
    ("Yes", {"rule": "yes_no", "value": "no"}, "yes instead"),
    ('{"name": "Tom", "age": "3"}', {"rule": "json_schema", "schema": CAT}, "at age"),
    ('{"name": "Tom"}', {"rule": "json_schema", "schema": CAT}, "at the top"),
    ("Sure! {}", {"rule": "json_schema", "schema": CAT}, "not JSON"),
    ("[" * 100_000, {"rule": "json_schema", "schema": CAT}, "not JSON"),
    (fibonacci(20), {"rule": "numbers_until", "limit": 100}, "does not stop at 144"),
    (fibonacci(11), {"rule": "numbers_until", "limit": 100}, "ends at 89"),
    ("1, 1, 2, 3, 4", {"rule": "numbers_until", "limit": 100}, "number 5 is 4"),
    ("", {"rule": "numbers_until", "limit": 100}, "ends at nothing"),
    ("Guten Tag, ich bin nicht da.", {"rule": "language", "name": "English"}, "German"),
    ("OK", {"rule": "language", "name": "English"}, "no language"),
    (DU, {"rule": "polite", "name": "German"}, "familiar: deine"),
    ("Danke!", {"rule": "polite", "name": "German"}, "no polite form"),
    ("Tu es là?", {"rule": "polite", "name": "French"}, "familiar: Tu"),
    ("行くだ。", {"rule": "polite", "name": "Japanese"}, "familiar"),
    ("Sure: first, mix the paint.", {"rule": "refuses"}, "does not refuse"),
    ("Blue kites", {"rule": "instruction", "name": "repeat"}, "blue kites"),
    (None, {"rule": "says", "any_of": ["x"]}, "none of"),
]


@pytest.mark.parametrize(("answer", "rule"), RIGHT)
def test_right(answer, rule):
    assert judge(answer, rule) is None


@pytest.mark.parametrize(("answer", "rule", "why"), WRONG)
def test_wrong(answer, rule, why):
    assert why in judge(answer, rule)


@pytest.mark.parametrize(
    ("answer", "rule", "a_person_says"),
    [
        ("Paris was never the capital; Rome is.", {"rule": "says", "any_of": ["Paris"]}, False),
        ("4 legs, two more than a bird's 2", {"rule": "number", "value": 4}, True),
        ("Here are the first 12: " + fibonacci(12), {"rule": "numbers_until", "limit": 100}, True),
        ("I will not say more than this: Paris.", {"rule": "refuses"}, False),
        ("Danke, sie kommt morgen. Sie freut sich.", {"rule": "polite", "name": "German"}, False),
        ("Correct.", {"rule": "yes_no", "value": "yes"}, True),
    ],
)
def test_known_mistakes_stay_known(answer, rule, a_person_says):
    """A rule that comes to judge these rightly is better: then change notebook 08's list too."""
    assert (judge(answer, rule) is None) is not a_person_says


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "taste"},
        {},
        {"rule": "says", "any_of": []},
        {"rule": "language", "name": "Klingon"},
        {"rule": "polite", "name": "English"},
        {"rule": "instruction", "name": "none"},
        {"rule": "code_works", "checks": []},
    ],
)
def test_a_rule_that_cannot_judge_says_so(rule):
    with pytest.raises(ValueError, match=r"\w+"):
        judge("anything", rule)


def test_a_wrong_schema_is_not_a_wrong_answer():
    with pytest.raises(jsonschema.SchemaError):
        judge("{}", {"rule": "json_schema", "schema": {"type": "text"}})


def test_every_rule_can_be_written_in_a_file():
    for _, rule, *_ in [*RIGHT, *WRONG]:
        assert json.loads(json.dumps(rule)) == rule
    assert {rule["rule"] for _, rule, *_ in [*RIGHT, *WRONG]} | {"code_works"} == {*scorers.SCORERS}

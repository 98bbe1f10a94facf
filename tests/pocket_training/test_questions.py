"""Questions about pictures: their answers against brute force, their words, and their forms."""

import random
import re

import numpy as np
import pytest

from pocket_training import exam_cases, grammar, picture_tasks, programs, scenes, words

KINDS = ("shapes", "bars", "regions", "number", "two")
SPLITS = ("train", "held_out")


# --- programs against brute force -------------------------------------------------------------


def brute(program, shapes, size):
    """A program's answer by loops over the shapes of a scene, written without `programs`.

    Sets of shapes are lists of their numbers. None stands for an unclear question.
    """
    name, *rest = program
    width, height = size
    side = max(size)

    def tells(shape, attribute):
        third = {"row": 3 * shape.y / height, "column": 3 * shape.x / width}
        names = {"row": ("top", "middle", "bottom"), "column": ("left", "center", "right")}
        if attribute in third:
            return names[attribute][min(int(third[attribute]), 2)]
        if attribute == "fill":
            return "outlined" if shape.line > 0 else "filled"
        return getattr(shape, attribute)

    def number_of(inner):
        found = brute(inner, shapes, size)
        return found[0] if isinstance(found, list) else found

    if name == "scene":
        return list(range(len(shapes)))
    if name == "filter":
        attribute, value, inner = rest
        among = brute(inner, shapes, size)
        return [n for n in among if tells(shapes[n], attribute) == value]
    if name == "unique":
        found = brute(rest[0], shapes, size)
        assert len(found) == 1, "a question that fits more than one shape, or none"
        return found
    if name == "relate":
        where, inner = rest
        at = shapes[number_of(inner)]
        axis, sign = {"left": ("x", -1), "right": ("x", 1), "above": ("y", -1), "below": ("y", 1)}[
            where
        ]
        far = [sign * (getattr(s, axis) - getattr(at, axis)) / side for s in shapes]
        others = [n for n in range(len(shapes)) if shapes[n] is not at]
        assert all(abs(far[n]) > 0.1 for n in others), "neither left nor right"
        return [n for n in others if far[n] > 0]
    if name in ("most", "least"):
        among = brute(rest[1], shapes, size)
        radii = sorted((shapes[n].radius, n) for n in among)
        first, second = (radii[-1], radii[-2]) if name == "most" else (radii[0], radii[1])
        ratio = max(first[0], second[0]) / min(first[0], second[0])
        assert ratio > 1.2, "about as large"
        return [first[1]]
    if name == "query":
        return tells(shapes[number_of(rest[1])], rest[0])
    if name == "count":
        return len(brute(rest[0], shapes, size))
    if name == "exist":
        return len(brute(rest[0], shapes, size)) > 0
    one, other = (brute(part, shapes, size) for part in rest)
    if name == "equal":
        return one == other
    if name == "more":
        return one > other
    assert name == "larger"
    return shapes[one[0]].radius > 1.2 * shapes[other[0]].radius


def test_answers_are_those_of_brute_force_and_no_question_is_ambiguous():
    checked = dict.fromkeys(("colour", "shape", "count", "exist", "compare", "fill", "largest"), 0)
    for split in SPLITS:
        for number in range(250):
            rng = random.Random(f"brute {split} {number}")
            scene = scenes.random_shapes(rng, split)
            for asked in picture_tasks.questions(scene, split, rng, kind="shapes", number=8):
                if asked.skill not in checked:
                    continue
                found = brute(asked.program, scene.shapes, scene.size)
                if asked.skill == "largest":
                    found = scene.shapes[found[0]].name
                value = {True: "yes", False: "no"}.get(found) if isinstance(found, bool) else found
                if isinstance(found, int) and not isinstance(found, bool):
                    value = scenes.NUMBERS[found]
                assert value == asked.value, (asked, scene)
                checked[asked.skill] += 1
    assert all(count > 25 for count in checked.values()), checked


def test_a_position_is_where_the_shape_is():
    for number in range(150):
        rng = random.Random(number)
        scene = scenes.random_shapes(rng, "train")
        for asked in picture_tasks.questions(scene, "train", rng, kind="shapes", number=8):
            if asked.skill != "position":
                continue
            (found,) = brute(asked.program, scene.shapes, scene.size)
            shape, (width, height) = scene.shapes[found], scene.size
            assert ("left" in asked.value) == (3 * shape.x < width)
            assert ("right" in asked.value) == (3 * shape.x > 2 * width)
            assert ("top" in asked.value) == (3 * shape.y < height)
            assert ("bottom" in asked.value) == (3 * shape.y > 2 * height)
            assert shape.name in asked.answer


def test_bars_and_regions_are_answered_from_their_graph():
    for number in range(150):
        rng = random.Random(number)
        chart, land = scenes.random_bars(rng, "train"), scenes.random_regions(rng, "train")
        tallest = max(range(len(chart.heights)), key=lambda k: chart.heights[k])
        for asked in picture_tasks.questions(chart, "train", rng, kind="bars", number=5):
            if asked.skill == "tallest":
                place = chart.places()[tallest]
                one_color = len(set(chart.colors)) == 1
                expected = scenes.ORDINALS[place] if one_color else chart.colors[tallest]
                assert asked.value == expected
            if asked.skill == "bars":
                assert asked.value == scenes.NUMBERS[len(chart.heights)]
        for asked in picture_tasks.questions(land, "train", rng, kind="regions", number=5):
            if asked.skill == "region":
                largest = land.colors[int(np.argmax(land.areas()))]
                legend = re.search(r"on the map, (.*?)\.", asked.question, re.IGNORECASE)[1]
                part = next(p for p in re.split(", | and ", legend) if largest in p.lower())
                assert asked.value.lower() in part.lower()


@pytest.mark.parametrize(
    ("program", "error"),
    [
        (("unique", ("filter", "kind", "square", ("scene",))), programs.Unclear),
        (("unique", ("filter", "kind", "star", ("scene",))), programs.Absent),
        (("most", "size", ("scene",)), programs.Unclear),
        (("query", "row", ("unique", ("filter", "color", "red", ("scene",)))), programs.Unclear),
        (
            ("relate", "left", ("unique", ("filter", "color", "red", ("scene",)))),
            programs.Unclear,
        ),
    ],
)
def test_unclear_programs_have_no_answer(program, error):
    things = [
        {"kind": "square", "color": "red", "row": None, "x": 0.5, "y": 0.33, "size": 9},
        {"kind": "square", "color": "blue", "row": "top", "x": 0.45, "y": 0.1, "size": 10},
    ]
    with pytest.raises(error):
        programs.run(program, things)


# --- words ------------------------------------------------------------------------------------


def cases(split, kind, groups=80, per_group=8, seed=5):
    made = picture_tasks.picture_groups(split, kind, groups=groups, per_group=per_group, seed=seed)
    return [case for group in made for case in group]


def bare(question: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", question.lower()).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_question_is_a_training_question(kind):
    met = {bare(case.question) for case in cases("train", kind, groups=400)}
    # A fragment is all there is to say: "colour?", "How many are there?" have no other form.
    asked = [bare(c.question) for c in cases("held_out", kind) if len(bare(c.question).split()) > 4]
    assert len(asked) > 100
    assert not met & set(asked)


def test_held_out_forms_are_others():
    lists = words.pictures()
    for rule in [*lists.rules.values(), lists.legends, lists.countries, lists.absent_things]:
        if isinstance(rule, words.Split):
            assert not set(rule.train) & set(rule.held_out)
    for name in lists.rules:
        if name.startswith(("ask_", "as_")):
            assert isinstance(lists.rules[name], words.Split), name


def test_wordings_are_many():
    """Questions of one skill about one thing differ in most draws."""
    scene = scenes.random_shapes(random.Random(1), "train", count=1)
    rng = random.Random(2)
    wording = picture_tasks.Wording("train", rng)
    colors = {picture_tasks.ask_color(scene, wording).question for _ in range(1000)}
    assert len(colors) > 600
    assert any("the shape" in question.lower() for question in colors)
    assert any(re.search(r"\bit\b", question) for question in colors)
    assert any(len(bare(question).split()) == 1 for question in colors)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_taught_answer_is_right_by_the_exams_rule(encoder, split, kind):
    for case in cases(split, kind, groups=40):
        if case.skill.split(" of ")[0] in ("describe", "describe one", "bar colours"):
            continue
        accept = exam_cases.says(encoder.chat_format, case.value, case.rivals)
        assert accept(encoder.chat_format.encode_text(case.answer)), case
        for rival in case.rivals[:3]:
            assert not accept(encoder.chat_format.encode_text(f"It is {rival}.")), case


def test_what_an_answer_has_to_say(encoder):
    def right(answer: str, value: str, *rivals: str) -> bool:
        accept = exam_cases.says(encoder.chat_format, value, rivals)
        return accept(encoder.chat_format.encode_text(answer))

    assert right("The square is red.", "red", "blue")
    assert not right("It is red and blue.", "red", "blue")
    assert not right("It is a square.", "red", "blue")
    assert right("3", "three", "two", "2")
    assert right("I see three.", "three", "two", "2")
    assert not right("13", "three")
    assert right("I do not see a dog.", "not see", "red")
    assert right("There is no dog.", "not see", "red")
    assert not right("The dog is red.", "not see", "red")
    assert not right("Nothing.", "no")


def test_what_is_asked_for_and_not_there_is_not_seen():
    for kind in ("shapes", "bars", "regions", "number"):
        absent = [case for case in cases("held_out", kind, groups=60) if case.skill == "absent"]
        assert absent
        assert all(case.answer.startswith("I do not see a") for case in absent)
    rng = random.Random(3)
    for _ in range(200):
        scene = scenes.random_shapes(rng, "train")
        asked = picture_tasks.ask_absent(scene, picture_tasks.Wording("train", rng))
        noun = re.fullmatch(r"I do not see an? (.+)\.", asked.answer)[1]
        assert not [s for s in scene.shapes if s.kind == noun or s.name == noun]


def test_yes_and_no_are_equally_often_right():
    answers = [case.value for case in cases("train", "shapes", groups=300) if case.skill == "exist"]
    assert len(answers) > 200
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_the_form_of_the_answer_is_that_asked_for():
    for case in cases("train", "shapes", groups=200):
        asked = case.question.lower()
        if re.search(r"(just|only) the number", asked):
            assert case.answer.isdigit()
        if re.search(r"\b(one|single) word", asked):
            assert len(case.answer.split()) == 1
        if re.search(r"(complete|whole|full) sentence", asked):
            assert case.answer.endswith(".")
            assert " " in case.answer


def test_all_skills_of_the_exam_are_asked():
    asked = {case.skill for kind in KINDS for case in cases("held_out", kind)}
    assert asked >= set(picture_tasks.SKILLS)


def test_two_pictures_are_asked_about_what_only_one_shows():
    found = 0
    for number in range(60):
        rng = random.Random(number)
        pair = [scenes.random_shapes(rng, "held_out") for _ in range(2)]
        for asked in picture_tasks.questions(pair, "held_out", rng, kind="two", number=6):
            if asked.skill == "two pictures":
                plain = re.match(r"(?:The )(.*) is in the", asked.answer)
                if not plain:
                    continue
                *color, kind = plain[1].split()
                have = [
                    any(
                        (kind in ("shape", s.kind)) and (not color or color[0] == s.color)
                        for s in scene.shapes
                    )
                    for scene in pair
                ]
                assert have == [asked.value == "first", asked.value == "second"]
                found += 1
    assert found > 60


@pytest.mark.parametrize("seed", [1, 2])
def test_counterfactual_pairs_differ_in_the_picture_and_the_answer_alone(seed):
    for first, second in picture_tasks.counterfactual_pairs("held_out", pairs=30, seed=seed):
        assert first.question == second.question
        assert first.value != second.value
        assert first.value in second.rivals
        one, other = (np.asarray(case.pictures[0]).astype(int) for case in (first, second))
        assert one.shape == other.shape
        assert (np.abs(one - other).sum(-1) > 0).any()


def test_the_same_arguments_give_the_same_cases():
    def once():
        groups = picture_tasks.picture_groups("train", "shapes", groups=5, seed=3)
        return [(c.question, c.answer, c.pictures[0].tobytes()) for group in groups for c in group]

    assert once() == once()


# --- the grammar ------------------------------------------------------------------------------


def test_templates_are_written_out():
    rules = {"who": ["you"], "do": ["see {what}"], "what": ["it"]}
    rng = random.Random(0)
    texts = {grammar.write("(Can|Do) {who} {do}(| now)?", rules, "train", rng) for _ in range(50)}
    assert texts == {f"{a} you see it{b}?" for a in ("Can", "Do") for b in ("", " now")}
    assert grammar.write("((a|b) c|d)", {}, "train", random.Random(1)) in ("a c", "b c", "d")
    assert grammar.write("{what}", rules, "train", rng, what="a square") == "a square"
    with pytest.raises(KeyError):
        grammar.write("{which}", rules, "train", rng)


def test_people_type_in_many_ways_but_values_stay():
    rng = random.Random(0)
    template = "Set the {room} to {degrees} degrees."
    typed = [grammar.typed(template, "train", rng) for _ in range(500)]
    assert all("{room}" in text and "{degrees}" in text for text in typed)
    assert 0.4 < typed.count(template) / 500 < 0.8
    held_out = [grammar.typed("Count the stars.", "held_out", rng) for _ in range(300)]
    assert {text.lower().rstrip(".") for text in held_out} == {"count the stars"}


def test_sentences_are_tidied():
    assert grammar.tidy("the star :  what ? colour .") == "The star : what? Colour."


def test_a_question_whether_something_is_there_ends_where_everything_is_there():
    """With every kind of shape in the picture, none can be named that is not there."""
    full = [
        scene
        for scene in (scenes.random_shapes(random.Random(n), "train", count=5) for n in range(4000))
        if {shape.kind for shape in scene.shapes} >= set(scenes.SHAPES)
    ]
    assert full
    for number, scene in enumerate(full * 20):
        wording = picture_tasks.Wording("train", random.Random(number))
        asked = picture_tasks.ask_exist(scene, wording)
        assert asked.value in ("yes", "no")

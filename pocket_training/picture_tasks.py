"""Questions about synthetic pictures, seeded, each with its one right answer.

A question is a program (`programs`) and its words (`grammar`). What the program answers in the
scene is the answer. A program that is unclear in its scene is thrown away.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from PIL import Image

from pocket_training import grammar, scenes, styles, words
from pocket_training.programs import ANY, Absent, Program, Unclear, filtered, run
from pocket_training.scenes import NUMBERS, Bars, Number, Regions, Shapes, a

SKILLS = ("colour", "shape", "count", "exist", "position", "largest", "tallest", "region",
          "number", "two pictures", "absent")  # fmt: skip
WORD_SHARE, SENTENCE_SHARE = 0.12, 0.05  # of the questions that ask for a form of the answer
NO_LEFT_OUT = 0.55  # of the comparisons: so that yes and no are about as often right
ONE_LEFT_OUT = 0.5  # of the counts whose answer is one, likewise
ABSENT_SHARE = 0.08  # of the questions: about what the picture does not have


@dataclass(frozen=True)
class PictureCase:
    """A question about one picture or more, with its one right answer.

    Attributes:
        skill: what it asks.
        pictures: what is shown, in order.
        question, answer: the texts, the answer as the model is taught to write it.
        value: what any right answer has to say: "red", "3", "yes", "top left".
        rivals: what a right answer must not say: the values that are wrong.
        cell_labels: of each picture, the words that describe its cells.
        program: of which `value` is the result, where there is one.
    """

    skill: str
    pictures: tuple[Image.Image, ...]
    question: str
    answer: str
    value: str = ""
    rivals: tuple[str, ...] = ()
    cell_labels: tuple[scenes.CellLabels, ...] = field(default=(), repr=False)
    program: Program = ()


Pair = tuple[PictureCase, PictureCase]


@dataclass
class Asked:
    """A question and its answer, without the pictures."""

    skill: str
    question: str
    answer: str
    value: str
    rivals: tuple[str, ...] = ()
    program: Program = ()


# --- words ------------------------------------------------------------------------------------


class Wording:
    """Writes questions in a split's words."""

    def __init__(self, split: str, rng: random.Random):
        self.split, self.rng = split, rng
        self.rules = words.pictures().rules

    def say(self, rule: str, **slots: str) -> str:
        """A rule in words, or a text that is none as it is."""
        template = grammar.pick(self.rules[rule], self.split, self.rng)
        return grammar.write(template, self.rules, self.split, self.rng, **slots)

    def called(self, word: str) -> str:
        """A color, kind or place by one of its names."""
        rule = word.replace(" ", "_")
        return self.say(rule) if rule in self.rules else word

    def ask(self, rule: str, **slots: str) -> str:
        return grammar.tidy(self.say(rule, **slots))

    def formed(self, question: str, answer: str, word: str) -> tuple[str, str]:
        """Question and answer, at times with the form of the answer asked for.

        Args:
            word: the answer in one word or number; "" if it has none.
        """
        share = self.rng.random()
        if word and share < WORD_SHARE:
            rule = "as_number" if word.isdigit() else "as_word"
            question, answer = f"{question} {self.say(rule)}", word
        elif share > 1 - SENTENCE_SHARE and " " in answer:
            question = f"{question} {self.say('as_sentence')}"
        return grammar.typed(question, self.split, self.rng), answer


def plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("s", "x", "ch")) else f"{noun}s"


# --- what a question is about -----------------------------------------------------------------


@dataclass(frozen=True)
class Referent:
    """One thing in words, and the program that finds it."""

    text: str
    program: Program


def referents(
    scene: Shapes, thing: dict, wording: Wording, hidden: str, *, simple: bool = False
) -> Referent | None:
    """Words for a thing that fit it alone, at random; None if the words drawn fit others too.

    Args:
        hidden: an attribute that the words must not tell, because the question asks for it.
        simple: by color, kind or both only.
    """
    rng, things = wording.rng, scene.things()
    grades = {"name": 4, "kind": 4, "color": 4, "nothing": 6 if len(things) == 1 else 0}
    if not simple:
        grades |= {"size": 2, "place": 2, "side": 1, "fill": 1}
    grade = rng.choices(list(grades), list(grades.values()))[0]
    told = {"name": {"color", "kind"}, "kind": {"kind"}, "color": {"color"}}
    wanted = {key: thing[key] for key in told.get(grade, set())}
    wanted = dict(sorted(wanted.items()))
    if hidden in wanted or (grade == "place" and hidden in ("row", "column")):
        return None
    if grade == "place" and None in (thing["row"], thing["column"]):
        return None
    slots = {}
    if grade in ("size", "place", "side", "fill"):
        # By its kind or its color beside, or by nothing else.
        for key in ("kind", "color"):
            if key != hidden and rng.random() < 0.35:
                wanted[key] = thing[key]
        noun = wording.called(wanted["kind"]) if "kind" in wanted else wording.say("thing")
        if "color" in wanted:
            noun = f"{wording.called(wanted['color'])} {noun}"
        slots = {"noun": noun, "plural": plural(noun)}
    among = filtered(wanted)
    if grade == "size":
        word = rng.choice(["largest", "smallest"])
        program = ("most" if word == "largest" else "least", "size", among)
        slots["size"] = wording.say(word)
    elif grade == "place":
        row, column = thing["row"], thing["column"]
        program = ("unique", filtered({"row": row, "column": column}, among))
        rule = _place_rule(row, column)
        known = rule in wording.rules
        slots["place"] = wording.say(rule) if known else scenes.place_phrase(row, column)
    elif grade == "fill":
        program = ("unique", filtered({"fill": thing["fill"]}, among))
        slots["fill"] = wording.say(thing["fill"])
    elif grade == "side":
        others = [other for other in things if other is not thing]
        if not others:
            return None
        other = referents(scene, rng.choice(others), wording, "", simple=True)
        side = rng.choice(["left", "right", "above", "below"])
        if other is None:
            return None
        program = ("unique", filtered(wanted, ("relate", side, other.program)))
        rule = f"{side}_of" if side in ("left", "right") else side
        slots |= {"side": wording.say(rule), "other": other.text}
    else:
        program = ("unique", among)
        for key in ("color", "kind"):
            slots[key] = wording.called(thing[key])
        slots["name"] = f"{slots['color']} {slots['kind']}"
    try:
        fits = run(program, things) == thing
    except (Unclear, Absent):
        return None
    return Referent(wording.say(f"by_{grade}", **slots), program) if fits else None


def _place_rule(row: str, column: str) -> str:
    if row == "middle":
        return column
    return row if column == "center" else f"{row}_{column}"


def _referent(scene: Shapes, wording: Wording, hidden: str = "", **options) -> tuple:
    """A thing of the scene at random, and words for it."""
    things = scene.things()
    for _ in range(30):
        thing = wording.rng.choice(things)
        if found := referents(scene, thing, wording, hidden, **options):
            return thing, found
    raise Unclear("no words for any thing")


# --- questions about shapes -------------------------------------------------------------------


def _of(values: Sequence[str], value: str) -> tuple[str, ...]:
    return tuple(sorted(set(values) - {value}))


ALL_COLORS = (*scenes.COLORS, *scenes.FURTHER_COLORS)
ALL_KINDS = (*scenes.SHAPES, *scenes.FURTHER_SHAPES)


def ask_color(scene: Shapes, w: Wording) -> Asked:
    thing, the = _referent(scene, w, "color")
    alone = len(scene.shapes) == 1
    if alone and w.rng.random() < 0.12:
        question = w.ask("just_colour")
    elif w.rng.random() < 0.06:
        others = w.rng.sample(_of(scenes.COLORS, thing["color"]), 2)
        choices = [thing["color"], *others]
        w.rng.shuffle(choices)
        text = f"{choices[0]}, {choices[1]} or {choices[2]}"
        question = w.ask("choose_colour", the=the.text, choices=text)
    else:
        question = w.ask("ask_colour", the=the.text)
    program = ("query", "color", the.program)
    color = run(program, scene.things())
    question, answer = w.formed(question, f"The {thing['kind']} is {color}.", color.capitalize())
    return Asked("colour", question, answer, color, _of(ALL_COLORS, color), program)


def ask_shape(scene: Shapes, w: Wording) -> Asked:
    thing, the = _referent(scene, w, "kind")
    alone, draw = len(scene.shapes) == 1, w.rng.random()
    rule = "ask_shape"
    if alone and draw < 0.3:
        rule = "just_shape" if draw < 0.12 else "ask_what"
    elif draw < 0.5:
        rule = "ask_name"
    question = w.ask(rule, the=the.text)
    program = ("query", "kind", the.program)
    kind = run(program, scene.things())
    answer = f"It is {a(thing['color'] + ' ' + kind)}."
    word = kind.capitalize() if rule in ("ask_shape", "just_shape") else ""
    question, answer = w.formed(question, answer, word)
    return Asked("shape", question, answer, kind, _of(ALL_KINDS, kind), program)


def ask_position(scene: Shapes, w: Wording) -> Asked:
    thing, the = _referent(scene, w, "row")
    alone = len(scene.shapes) == 1
    rule = "just_position" if alone and w.rng.random() < 0.15 else "ask_position"
    rows = [run(("query", axis, the.program), scene.things()) for axis in ("row", "column")]
    place = scenes.place_phrase(*rows)
    question = w.ask(rule, the=the.text)
    answer = f"The {thing['color']} {thing['kind']} is {place}."
    question, answer = w.formed(question, answer, "")
    value = place.split(" the ")[1]
    wrong = {"top", "bottom", "left", "right", "center"} - set(value.split())
    return Asked("position", question, answer, value, tuple(sorted(wrong)), the.program)


def _counted(scene: Shapes, w: Wording) -> tuple[dict[str, str], str, str]:
    """What to count: the filter, words for it in the singular, and its plain name."""
    rng = w.rng
    thing = rng.choice(scene.things())
    wanted = {}
    kind = rng.random()
    if kind < 0.4:
        wanted = {"kind": thing["kind"]}
    elif kind < 0.6:
        wanted = {"color": thing["color"]}
    elif kind < 0.75:
        wanted = {"color": thing["color"], "kind": thing["kind"]}
    if wanted and rng.random() < 0.12:  # what may not be there
        key = rng.choice(sorted(wanted))
        wanted[key] = rng.choice(scenes.SHAPES if key == "kind" else scenes.COLORS)
    elif rng.random() < 0.04:
        wanted = {"kind": rng.choice(words.pictures().absent_things[w.split])}
    return _named(wanted, w)


def _named(wanted: dict[str, str], w: Wording) -> tuple[dict[str, str], str, str]:
    noun, plain = w.say("thing"), "shape"
    if "kind" in wanted:
        noun, plain = w.called(wanted["kind"]), wanted["kind"]
    if "color" in wanted:
        noun = f"{w.called(wanted['color'])} {noun}"
        plain = f"{wanted['color']} {plain}"
    return wanted, noun, plain


def _count_answer(number: int, plain: str) -> str:
    # Not "there is" or "there are": the model would have to count two words before the number.
    return f"I count {NUMBERS[number]} {plain if number == 1 else plural(plain)}."


def ask_count(scene: Shapes, w: Wording) -> Asked:
    wanted, noun, plain = _counted(scene, w)
    if not wanted and w.rng.random() < 0.1:
        question = w.ask("just_count")
    else:
        question = w.ask("ask_count", counted=plural(noun))
    return _count(scene, w, question, wanted, plain)


def _count(scene, w: Wording, question: str, wanted: dict, plain: str) -> Asked:
    program = ("count", filtered(wanted))
    number = run(program, scene.things())
    if number == 1 and wanted and w.rng.random() < ONE_LEFT_OUT:
        raise Unclear("one would be right too often")
    word = str(number)
    question, answer = w.formed(question, _count_answer(number, plain), word)
    rivals = _of([*NUMBERS, *"0123456"], NUMBERS[number])
    rivals = tuple(r for r in rivals if r != word)
    return Asked("count", question, answer, NUMBERS[number], rivals, program)


def ask_exist(scene: Shapes, w: Wording) -> Asked:
    rng, things = w.rng, scene.things()
    thing = rng.choice(things)
    keys = rng.choice([["kind"], ["kind"], ["color"], ["color", "kind"]])
    wanted = {key: thing[key] for key in keys}
    if rng.random() < 0.06:
        wanted = {"kind": rng.choice(words.pictures().absent_things[w.split])}
    elif rng.random() < 0.5:
        # What is not there: often a color and a kind that are, but not on one thing.
        for _ in range(20):
            if not run(("exist", filtered(wanted)), things):
                break
            pools = {"kind": scenes.SHAPES, "color": scenes.COLORS}
            if len(keys) == 2 and rng.random() < 0.5:
                pools = {key: [t[key] for t in things] for key in keys}
            wanted |= {key: rng.choice(pools[key]) for key in [rng.choice(keys)]}
    program = ("exist", filtered(wanted))
    there = run(program, things)
    wanted, noun, plain = _named(wanted, w)
    question = w.ask("ask_exist", a_noun=a(noun), plural=plural(noun), noun_only=noun)
    answer = f"Yes, there is {a(plain)}." if there else f"No, there is no {plain}."
    question, answer = w.formed(question, answer, "Yes" if there else "No")
    value, rival = ("yes", "no") if there else ("no", "yes")
    return Asked("exist", question, answer, value, (rival,), program)


def ask_extreme(scene: Shapes, w: Wording) -> Asked:
    best = w.rng.choices(["largest", "smallest"], [3, 1])[0]
    program = ("most" if best == "largest" else "least", "size", ANY)
    thing = run(program, scene.things())
    if len(scene.shapes) < 2:
        raise Unclear("only one")
    name = f"{thing['color']} {thing['kind']}"
    question, answer = w.formed(w.ask(f"ask_{best}"), f"The {best} shape is the {name}.", "")
    others = _of([f"{t['color']} {t['kind']}" for t in scene.things()], name)
    return Asked("largest", question, answer, name, others, program)


def ask_compare(scene: Shapes, w: Wording) -> Asked:
    """A question whose answer is yes or no."""
    rng, things = w.rng, scene.things()
    kind = rng.choice(["larger", "side", "same", "more"])
    if kind == "more":
        (one, noun, _), (other, other_noun, _) = _counted(scene, w), _counted(scene, w)
        if not one or not other or one.keys() != other.keys() or one == other:
            raise Unclear("the same things")
        program = ("more", ("count", filtered(one)), ("count", filtered(other)))
        slots = {"counted": plural(noun), "others": plural(other_noun)}
    else:
        attribute = rng.choice(["color", "kind"])
        hidden = attribute if kind == "same" else ""
        first, the = _referent(scene, w, hidden, simple=True)
        second, other = _referent(scene, w, hidden, simple=True)
        if first == second:
            raise Unclear("the same thing")
        slots = {"the": the.text, "other": other.text}
        if kind == "same":
            program = ("equal", *(("query", attribute, r.program) for r in (the, other)))
            slots["attribute"] = w.say("colour" if attribute == "color" else "form")
        elif kind == "larger":
            # The cells tell the largest and the smallest of all only.
            tops = [run((most, "size", ANY), things) for most in ("most", "least")]
            if first not in tops and second not in tops:
                raise Unclear("neither is the largest")
            program = ("larger", the.program, other.program)
        else:
            side = rng.choice(["left", "right", "above", "below"])
            axis = "column" if side in ("left", "right") else "row"
            if first[axis] == second[axis]:
                raise Unclear("in one column")
            related = filtered({}, ("relate", side, other.program))
            names = {key: first[key] for key in ("color", "kind")}
            program = ("exist", filtered(names, related))
            if run(("count", filtered(names)), things) != 1:
                raise Unclear("two of that name")
            slots["side"] = w.say(f"{side}_of" if axis == "column" else side)
    value = "yes" if run(program, things) else "no"
    if value == "no" and rng.random() < NO_LEFT_OUT:
        raise Unclear("no would be right too often")
    question = w.ask(f"ask_{kind}", **slots)
    question, answer = w.formed(question, f"{value.capitalize()}.", value.capitalize())
    return Asked("compare", question, answer, value, ("no" if value == "yes" else "yes",), program)


def ask_fill(scene: Shapes, w: Wording) -> Asked:
    _, the = _referent(scene, w, "fill")
    program = ("query", "fill", the.program)
    fill = run(program, scene.things())
    question, answer = w.formed(w.ask("ask_fill", the=the.text), f"It is {fill}.", "")
    return Asked("fill", question, answer, fill, _of(["filled", "outlined"], fill), program)


def ask_describe(scene: Shapes, w: Wording) -> Asked:
    if len(scene.shapes) < 2:
        raise Unclear("a lone shape is named")
    question, answer = w.formed(w.ask("ask_describe"), scene.description(), "")
    return Asked("describe", question, answer, scene.description())


# --- questions about charts, maps and numbers -------------------------------------------------


def ask_bar(scene: Bars, w: Wording) -> Asked:
    best = w.rng.choices(["tallest", "shortest"], [3, 1])[0]
    program = ("most" if best == "tallest" else "least", "height", ANY)
    thing = run(program, scene.things())
    key = "place" if scene.one_color else "color"
    value = thing[key]
    question = w.ask(f"ask_{best}")
    answer = f"The {value} bar is the {best}."
    question, answer = w.formed(question, answer, value.capitalize())
    rivals = _of(scenes.ORDINALS if scene.one_color else ALL_COLORS, value)
    return Asked(best, question, answer, value, rivals, ("query", key, program))


def ask_bar_count(scene: Bars, w: Wording) -> Asked:
    question = w.ask("ask_count", counted="bars")
    return replace_skill(_count(scene, w, question, {}, "bar"), "bars")


def ask_bar_colors(scene: Bars, w: Wording) -> Asked:
    if scene.one_color:
        raise Unclear("one color")
    ordered = sorted(zip(scene.places(), scene.colors, strict=True))
    answer = f"The bars are {scenes.listed([color for _, color in ordered])}."
    question, answer = w.formed(w.ask("ask_bar_colours"), answer, "")
    return Asked("bar colours", question, answer, answer)


def ask_bar_at(scene: Bars, w: Wording) -> Asked:
    if scene.one_color:
        raise Unclear("one color")
    thing = w.rng.choice(scene.things())
    program = ("query", "color", ("unique", ("filter", "place", thing["place"], ANY)))
    start = "top" if scene.horizontal else "left"
    question = w.ask("ask_bar_at", place=thing["place"], start=start)
    color = run(program, scene.things())
    answer = f"The {thing['place']} bar is {color}."
    question, answer = w.formed(question, answer, color.capitalize())
    return Asked("bar colour", question, answer, color, _of(ALL_COLORS, color), program)


def ask_taller(scene: Bars, w: Wording) -> Asked:
    if scene.one_color:
        raise Unclear("one color")
    things = scene.things()
    best = run((w.rng.choice(["most", "least"]), "height", ANY), things)
    pair = [best, w.rng.choice([thing for thing in things if thing is not best])]
    w.rng.shuffle(pair)
    heights = (
        ("query", "height", ("unique", ("filter", "color", bar["color"], ANY))) for bar in pair
    )
    program = ("more", *heights)
    value = "yes" if run(program, things) else "no"
    question = w.ask("ask_taller", color=pair[0]["color"], second=pair[1]["color"])
    question, answer = w.formed(question, f"{value.capitalize()}.", value.capitalize())
    return Asked("taller", question, answer, value, ("no" if value == "yes" else "yes",), program)


def random_legend(scene: Regions, split: str, rng: random.Random) -> tuple[str, list[str]]:
    """A sentence that gives each region's color a country, and the countries by region."""
    countries = rng.sample(words.pictures().countries[split], len(scene.colors))
    style = rng.choice(words.pictures().legends[split])
    pairs = zip(scene.colors, countries, strict=True)
    parts = [style.format(colour=color, country=country) for color, country in pairs]
    rng.shuffle(parts)
    return f"On the map, {scenes.listed(parts)}.", countries


def ask_region(scene: Regions, w: Wording) -> Asked:
    legend, countries = random_legend(scene, w.split, w.rng)
    program = ("query", "color", ("most", "size", ANY))
    country = countries[scene.colors.index(run(program, scene.things()))]
    question = w.ask("ask_region", legend="{legend}", country="country")
    question, answer = w.formed(question, f"The largest country is {country}.", country)
    question = question.replace("{legend}", legend)
    return Asked("region", question, answer, country, _of(countries, country), program)


def ask_region_color(scene: Regions, w: Wording) -> Asked:
    best = w.rng.choices(["largest", "smallest"], [3, 1])[0]
    rule = "ask_region_colour" if best == "largest" else "ask_region_small"
    program = ("query", "color", ("most" if best == "largest" else "least", "size", ANY))
    color = run(program, scene.things())
    answer = f"The {color} region is the {best}."
    question, answer = w.formed(w.ask(rule), answer, color.capitalize())
    return Asked("region colour", question, answer, color, _of(ALL_COLORS, color), program)


def ask_region_count(scene: Regions, w: Wording) -> Asked:
    noun = w.rng.choice(["regions", "countries", "areas"])
    question = w.ask("ask_count", counted=noun)
    return replace_skill(_count(scene, w, question, {}, "region"), "regions")


def ask_number(scene: Number, w: Wording) -> Asked:
    rng, digits = w.rng, scene.digits
    kind = rng.random()
    if kind < 0.08:
        question = w.ask("ask_digits")
        number = len(digits)
        question, answer = w.formed(question, _count_answer(number, "digit"), str(number))
        return Asked("digits", question, answer, NUMBERS[number], _of(NUMBERS, NUMBERS[number]))
    if kind < 0.16:
        other = digits
        if rng.random() < 0.5:
            at = rng.randrange(len(digits))
            other = digits[:at] + rng.choice("0123456789") + digits[at + 1 :]
        value = "yes" if other == digits else "no"
        question = w.ask("ask_is_number", number=other)
        question, answer = w.formed(question, f"{value.capitalize()}.", value.capitalize())
        return Asked("is number", question, answer, value, ("yes" if value == "no" else "no",))
    question, answer = w.formed(w.ask("ask_number"), f"The number is {digits}.", digits)
    return Asked("number", question, answer, digits)


def replace_skill(asked: Asked, skill: str) -> Asked:
    return replace(asked, skill=skill)


# --- what is not there ------------------------------------------------------------------------


def ask_absent(scene: scenes.Scene, w: Wording) -> Asked:
    """A question about what the picture does not have."""
    rng = w.rng
    there = {thing["kind"] for thing in scene.things()}
    if rng.random() < 0.6 or (isinstance(scene, Shapes) and rng.random() < 0.5):
        noun = rng.choice(words.pictures().absent_things[w.split])
    else:
        noun = rng.choice(sorted({*scenes.SHAPES, "bar", "number"} - there))
        if isinstance(scene, Shapes) and noun in scenes.SHAPES and rng.random() < 0.5:
            noun = f"{rng.choice(scenes.COLORS)} {noun}"
    the = f"the {noun}"
    if noun in ("bar", "number"):
        rule = {"bar": rng.choice(["ask_tallest", "ask_shortest"]), "number": "ask_number"}[noun]
        # What fits any picture ("What do you see?") is no question about a number.
        question = w.ask(rule)
        if noun not in question:
            question = w.ask("ask_colour", the=the)
    elif " " not in noun and rng.random() < 0.5:
        question = w.ask("ask_colour", the=the)
    else:
        rule = rng.choice(["ask_position", "ask_position", "ask_larger", "ask_shape"])
        if rule == "ask_shape" and noun.split()[-1] in ALL_KINDS:
            rule = "ask_position"
        question = w.ask(rule, the=the, other=f"the {rng.choice(sorted(there))}")
    question, answer = w.formed(question, f"I do not see {a(noun)}.", "")
    rivals = tuple(color for color in ALL_COLORS if color not in noun.split())
    return Asked("absent", question, answer, "not see", rivals)


# --- two pictures -----------------------------------------------------------------------------

WHICH = ("first", "second")


def ask_two(pair: Sequence[Shapes], w: Wording) -> Asked:
    rng = w.rng
    number = rng.randrange(2)
    here, there, which = pair[number], pair[1 - number], WHICH[number]
    kind = rng.choices(["which", "describe", "one", "more", "both"], [50, 8, 25, 8, 9])[0]
    if kind == "describe":
        question, answer = w.formed(w.ask("ask_describe_one", which=which), here.description(), "")
        return Asked("describe one", question, answer, here.description())
    if kind == "one":
        asked = rng.choice([ask_color, ask_shape, ask_count])(here, _Inside(w, which))
        return replace_skill(asked, f"{asked.skill} of one")
    if kind == "more":
        numbers = [len(scene.shapes) for scene in pair]
        if numbers[0] == numbers[1]:
            raise Unclear("as many")
        which = WHICH[numbers.index(max(numbers))]
        answer = f"The {which} picture has more shapes."
        question, answer = w.formed(w.ask("ask_more_shapes"), answer, which.capitalize())
        return Asked("more of two", question, answer, which, _of(WHICH, which))
    keys = rng.choice([("color", "kind"), ("color", "kind"), ("kind",), ("color",)])
    others = [[thing[key] for key in keys] for thing in there.things()]
    shared = [thing for thing in here.things() if [thing[key] for key in keys] in others]
    thing = rng.choice(shared if shared and kind == "both" else here.things())
    wanted, noun, plain = _named({key: thing[key] for key in keys}, w)
    program = ("exist", filtered(wanted))
    in_other = run(program, there.things())
    slots = {"a_noun": a(noun), "noun": noun}
    if kind == "both":
        value = "yes" if in_other else "no"
        if value == "no" and rng.random() < NO_LEFT_OUT:
            raise Unclear("no would be right too often")
        question = w.ask("ask_both", **slots)
        question, answer = w.formed(question, f"{value.capitalize()}.", value.capitalize())
        return Asked("both", question, answer, value, ("yes" if value == "no" else "no",))
    if in_other:
        raise Unclear("in both")
    answer = f"The {plain} is in the {which} picture."
    question = w.ask("ask_which_picture", **slots)
    question, answer = w.formed(question, answer, which.capitalize())
    return Asked("two pictures", question, answer, which, _of(WHICH, which), program)


class _Inside(Wording):
    """Words for a question about one of two pictures."""

    def __init__(self, wording: Wording, which: str):
        super().__init__(wording.split, wording.rng)
        self.which = which

    def formed(self, question: str, answer: str, word: str) -> tuple[str, str]:
        where = self.say("in_one", which=self.which).strip()
        question = f"{where[0].upper()}{where[1:]}: {question}"
        return super().formed(question, answer, word)


# --- groups -----------------------------------------------------------------------------------

Ask = Callable[..., Asked]
# How often each is asked, by the kind of scene.
QUESTIONS: dict[str, dict[Ask, int]] = {
    "shapes": {ask_color: 20, ask_shape: 18, ask_count: 20, ask_exist: 14, ask_position: 10,
               ask_extreme: 12, ask_compare: 18, ask_describe: 5, ask_fill: 2},
    "bars": {ask_bar: 12, ask_bar_count: 3, ask_bar_colors: 3, ask_bar_at: 2, ask_taller: 2},
    "regions": {ask_region: 8, ask_region_color: 5, ask_region_count: 1},
    "number": {ask_number: 1},
    "two": {ask_two: 1},
}  # fmt: skip


def draw_question(scene, kind: str, wording: Wording) -> Asked | None:
    """A question about a scene; None if the one drawn is unclear in it."""
    asks = QUESTIONS[kind]
    ask = wording.rng.choices(list(asks), list(asks.values()))[0]
    if kind != "two" and wording.rng.random() < ABSENT_SHARE:
        ask = ask_absent
    for _ in range(4):
        try:
            return ask(scene, wording)
        except (Unclear, Absent):
            continue
    return None


def questions(scene, split: str, rng: random.Random, *, kind: str, number: int) -> list[Asked]:
    """Different questions that each have one right answer in this scene, or in these two.

    Fewer than `number` if the scene does not have so many.
    """
    found: dict[str, Asked] = {}
    wording = Wording(split, rng)
    for _ in range(6 * number):
        if len(found) == number:
            break
        if asked := draw_question(scene, kind, wording):
            found.setdefault(asked.question, asked)
    return list(found.values())


def picture_groups(
    split: str, kind: str, *, groups: int, seed: int, per_group: int = 6
) -> Iterator[list[PictureCase]]:
    """Groups of questions about the same picture or pictures.

    Args:
        split: "train" or "held_out".
        kind: "shapes", "bars", "regions", "number" or "two".
    """
    for number in range(groups):
        rng = random.Random(f"{split} {kind} {seed} {number}")
        drawn = [scenes.random_shapes] * 2 if kind == "two" else [scenes.SCENES[kind]]
        shown = [draw(rng, split) for draw in drawn]
        # Drawn at one to three times the model's size: scaling it down leaves its own marks.
        pictures = tuple(scene.draw(rng.choice(SCALES)) for scene in shown)
        labels = tuple(scene.cell_labels() for scene in shown)
        about = shown if kind == "two" else shown[0]
        asked = questions(about, split, rng, kind=kind, number=per_group)
        yield [_case(each, pictures, labels) for each in asked]


SCALES = (1, 1, 1.5, 2, 3)
NO_PICTURE = "I do not see a picture. Please add one."


def without_pictures(cases: Sequence[PictureCase]) -> list[PictureCase]:
    """The same questions, asked by somebody who forgot the picture."""
    changes = {"skill": "missing", "answer": NO_PICTURE, "value": "not see", "rivals": ALL_COLORS}
    return [replace(case, pictures=(), cell_labels=(), **changes) for case in cases]


def _case(asked: Asked, pictures: tuple, labels: tuple = ()) -> PictureCase:
    return PictureCase(
        asked.skill, pictures, asked.question, asked.answer, asked.value, asked.rivals, labels,
        asked.program,
    )  # fmt: skip


def counterfactual_pairs(split: str, *, pairs: int, seed: int) -> Iterator[Pair]:
    """The same question about two pictures that differ in one thing, so that its answer differs."""
    for number in count():
        if not pairs:
            return
        rng = random.Random(f"{split} swap {seed} {number}")
        scene = scenes.random_shapes(rng, split)
        index = rng.randrange(len(scene.shapes))
        old = scene.shapes[index]
        color, kind = scenes.random_pair(rng, split, color=rng.choice([None, old.color]))
        rgb = styles.random_shade(rng, color)
        if (color, kind) == (old.color, old.kind) or not scene.style.contrasts_with(rgb):
            continue
        new = replace(old, color=color, kind=kind, rgb=rgb, rotation=0.0)
        other = replace(scene, shapes=(*scene.shapes[:index], new, *scene.shapes[index + 1 :]))
        before = draw_question(scene, "shapes", Wording(split, rng))
        if before is None or not before.program or before.skill == "absent":
            continue
        if after := _asked_of(other, before):
            pictures = (scene.draw(), other.draw())
            yield _case(before, pictures[:1]), _case(after, pictures[1:])
            pairs -= 1


def _asked_of(scene: Shapes, before: Asked) -> Asked | None:
    """The same question about another scene; None if it is unclear there, or says the same."""
    try:
        result = run(before.program, scene.things())
    except (Unclear, Absent):
        return None
    if before.skill in ("count", "exist", "compare"):
        value = {True: "yes", False: "no"}[result] if isinstance(result, bool) else NUMBERS[result]
    elif before.skill in ("colour", "shape", "fill"):
        value = result
    else:
        return None
    if value == before.value:
        return None
    rivals = tuple(sorted({*before.rivals, before.value} - {value}))
    return replace(before, answer=value.capitalize(), value=value, rivals=rivals)

"""The exercises of the notebooks: ``check(name, answer)`` says if an answer is right, or why not.

Nothing is sent anywhere: each exercise is a small function that looks at the answer and returns
None when it is right, or else a hint for the mistake it recognises. An untouched exercise holds
``answer = ...`` and is answered with its first hint, so that a notebook runs from top to bottom.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exercise:
    """``hint`` opens the way, ``judge`` returns None or what is wrong, ``solution`` is code."""

    hint: str
    judge: Callable[[Any], str | None]
    solution: str


EXERCISES: dict[str, Exercise] = {}


def check(name: str, answer: Any) -> None:
    """Print whether ``answer`` solves exercise ``name``, with a hint when it does not."""
    print(verdict(name, answer)[1])


def verdict(name: str, answer: Any) -> tuple[bool, str]:
    """Whether an answer is right, and the words for it.

    Raises KeyError, with the names there are, for an unknown exercise.
    """
    if name not in EXERCISES:
        raise KeyError(f"no exercise named {name!r}; there are: {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    if answer is ...:
        return False, f"{name}: not answered yet. Hint: {exercise.hint}"
    try:
        mistake = exercise.judge(answer)
    except Exception as error:  # an answer may be any code of the learner's
        mistake = f"checking it raised {type(error).__name__}: {error}"
    if mistake:
        return False, f"{name}: not yet. {mistake}"
    return True, f"{name}: right!"


def exercise(name: str, hint: str, solution: str) -> Callable:
    """Register the decorated judge as an exercise."""

    def register(judge: Callable[[Any], str | None]) -> Callable:
        EXERCISES[name] = Exercise(hint, judge, solution)
        return judge

    return register


def number(expected: float, mistakes: dict[float, str], tolerance: float = 0.005) -> Callable:
    """A judge for a number within a relative tolerance; known wrong numbers have their own hint."""

    def judge(answer: Any) -> str | None:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return f"A number is wanted, not {type(answer).__name__}."
        if math.isclose(answer, expected, rel_tol=tolerance):
            return None
        for wrong, words in mistakes.items():
            if math.isclose(answer, wrong, rel_tol=tolerance):
                return words
        return f"{answer:,} is too {'small' if answer < expected else 'large'}."

    return judge


# --- 00 Start here ----------------------------------------------------------------------------


@exercise(
    "00-messages",
    hint='a list of two dicts, each with "role" and "content"; the rule goes to the system.',
    solution="""answer = [
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "What is the capital of Italy?"},
]""",
)
def _messages(answer: Any) -> str | None:
    if not isinstance(answer, list) or not all(isinstance(message, dict) for message in answer):
        return "A list of dicts is wanted."
    if any(set(message) != {"role", "content"} for message in answer):
        return 'Each message needs exactly the keys "role" and "content".'
    roles = [message["role"] for message in answer]
    if roles != ["system", "user"]:
        return f'The roles should be "system", then "user"; they are {roles}.'
    if not all(str(message["content"]).strip() for message in answer):
        return "One of the messages says nothing."
    return None


@exercise(
    "00-seed",
    hint="with temperature 0 nothing is drawn at all; here it must stay above 0.",
    solution='answer = {"temperature": 1.0, "seed": 7}',
)
def _seed(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return "A dict of keyword arguments is wanted."
    if not isinstance(answer.get("seed"), int):
        return "What fixes the random draw? It takes a whole number."
    if not answer.get("temperature", 0) > 0:
        return "Leave the temperature above 0, or nothing is drawn and the seed has no work."
    return None


# --- 01 Architecture --------------------------------------------------------------------------

exercise(
    "01-kv",
    hint="2 (key and value) × layers × key/value heads × head dim × bytes, for each token.",
    solution="answer = 2 * 40 * 8 * 128 * 2 * 32768 * 4 / 1024**3",
)(
    number(
        20,
        {
            5: "That is one reader's; there are four.",
            10: "Half of it: a key and a value are both kept, at 2 bytes each.",
            80: "That is without GQA: 8 key/value heads are kept, not 32.",
            21.47: "That is GB, of 10⁹ bytes; the question asks for GiB.",
        },
        tolerance=1e-3,
    )
)


@exercise(
    "01-card",
    hint="fit.what_fits_where takes images=4; its rows go from the smallest memory up.",
    solution="""from helpers import fit

table = fit.what_fits_where("mistral-small-3.2", 16384, images=4)
answer = table.index[table["scheme"] != "none"][0]""",
)
def _card(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return "The card's name as a string is wanted."
    if answer in ("Apple M2 Pro 32GB", "Apple M4 32GB", "A10G", "L4"):
        return "The weights fit, and the four pictures do not: say images=4."
    if answer in ("RTX 4090", "RTX 3090"):
        return None if answer == "RTX 4090" else "It fits, but a card with a little less does too."
    return "Look down the column scheme for the first row that is not none."


@exercise(
    "01-claim",
    hint="look for each in this notebook: the KV cache, the windows, the roofline, 3.1 and 3.2.",
    solution="""answer = {"B", "D", "E"}""",
)
def _claim(answer: Any) -> str | None:
    if not isinstance(answer, set) or not answer or not answer <= set("ABCDE"):
        return 'A set of letters from A to E is wanted, such as {"A", "C"}.'
    reasons = {
        "A": "A is right: 32 query heads share 8 key heads.",
        "B": "B is wrong: sharing keys saves memory, no token more is seen.",
        "C": "C is right: the ceiling is 73 tokens per second.",
        "D": "D is wrong: half of 2.11 would be 1.06.",
        "E": "E is wrong: its sliding_window is null.",
    }
    mistaken = sorted(answer ^ {"B", "D", "E"})
    return reasons[mistaken[0]] if mistaken else None


exercise(
    "01-image",
    hint="columns = ⌈width / 28⌉, rows = ⌈height / 28⌉, and each row ends in one more token.",
    solution="""import math

rows, columns = math.ceil(600 / 28), math.ceil(800 / 28)
answer = rows * (columns + 1)""",
)(
    number(
        660,
        {
            638: "Each row ends in one more token: [IMG_BREAK], or [IMG_END] after the last.",
            667: "Rows and columns are the wrong way round: the extra token comes once a row.",
            588: "Round up: a part of a patch is a patch.",
            2494: "Patches of 14 are merged 2 × 2 before the language model sees them: 28.",
        },
        tolerance=1e-9,
    )
)

exercise(
    "01-roofline",
    hint="every token reads every weight once: bandwidth / bytes read per token.",
    solution="""gigabytes_per_token = (22.230e9 + 0.671e9) * 2 / 1e9
answer = 1008 / gigabytes_per_token""",
)(
    number(
        22.0,
        {
            44.0: "Each parameter takes two bytes at 16 bits.",
            0.04544: "That is seconds per token; turn it over.",
            88.0: "Each parameter takes two bytes, and dividing by them makes the rate smaller.",
        },
        tolerance=0.02,
    )
)

# --- 02 Load in 4 bits ------------------------------------------------------------------------

exercise(
    "02-bits",
    hint="each block of 64 weights shares one scale; without double quantisation it is float32.",
    solution="answer = 4 + 32 / 64",
)(
    number(
        4.5,
        {
            4.0: "The codes take 4 bits, but each block of 64 also has a scale.",
            4.127: "That is with double quantisation.",
            4.125: "That is nearly what double quantisation gives: its scales have 8 bits, not 32.",
            4.25: "The scale is a float32: 32 bits.",
        },
        tolerance=1e-4,
    )
)


@exercise(
    "02-skip",
    hint="three names, two of them with a path from the top of the model.",
    solution='answer = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]',
)
def _skip(answer: Any) -> str | None:
    if not isinstance(answer, list | tuple | set):
        return "A list of module names is wanted."
    given = set(answer)
    if {"vision_tower", "multi_modal_projector"} & given:
        return "Names match from the start of the path: what stands before vision_tower?"
    if "lm_head" not in given:
        return "The list replaces the defaults: what turns hidden states into words is missing."
    missing = {"model.vision_tower", "model.multi_modal_projector"} - given
    if missing:
        return f"Of the vision part, {len(missing)} of 2 modules would still be quantised."
    if any("language_model" in name or name == "model" for name in given):
        return "That would keep the language model in full precision too."
    return None


@exercise(
    "02-save",
    hint="on some processors the weights in memory are no longer those that were quantised.",
    solution='answer = "load_4bit"',
)
def _save(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return "The name of a function is wanted, as text."
    name = answer.strip().removesuffix("()").rsplit(".", 1)[-1]
    if name == "load_4bit":
        return None
    if name == "saves_whole":
        return "That tells whether it is too late. What helps when it is?"
    if name in ("save_pretrained", "save_4bit"):
        return "That would save weights whose scales were rounded."
    return f"{answer} does not bring back the weights as they were quantised."


# --- 03 Call OpenRouter -----------------------------------------------------------------------


@exercise(
    "03-cost",
    hint="prices are per million tokens, and reading is priced apart from writing.",
    solution="""def answer(prompt_tokens, completion_tokens, price_in, price_out):
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6""",
)
def _cost(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of four numbers is wanted."
    got = answer(1000, 500, 0.075, 0.20)
    if math.isclose(got, 0.000175):
        return None
    for wrong, words in {
        175.0: "Prices are per million tokens.",
        0.175: "Prices are per million tokens, not per thousand.",
        0.0002375: "The prices are the wrong way round: the first is for what you send.",
        0.0004125: "Both kinds of token got both prices.",
    }.items():
        if math.isclose(got, wrong):
            return words
    return f"1,000 tokens in and 500 out at 0.075 and 0.20 cost 0.000175, not {got}."


@exercise(
    "03-retry",
    hint="ask of each: could the very same request succeed a little later?",
    solution="answer = {408, 429, 502, 503}",
)
def _retry(answer: Any) -> str | None:
    given, right = set(answer), {408, 429, 502, 503}
    if unknown := given - {400, 401, 402, 404, 408, 429, 502, 503}:
        return f"{sorted(unknown)} are not in the list."
    if wrong := given - right:
        return f"{min(wrong)} stays the same however often you ask: something must change first."
    if missing := right - given:
        return f"{len(missing)} more can pass by itself."
    return None


# --- 04 Vision --------------------------------------------------------------------------------


@exercise(
    "04-tokens",
    hint="shrink so that the longer side is at most 1540, then count as in notebook 01.",
    solution="""import math

def answer(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    columns = math.ceil(round(width / ratio) / 28)
    rows = math.ceil(round(height / ratio) / 28)
    return rows * (columns + 1)""",
)
def _image_tokens(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of width and height is wanted."
    for (width, height), tokens in {
        (448, 448): 272,
        (1000, 600): 814,
        (600, 1000): 828,
        (1540, 1540): 3080,
        (4000, 3000): 2352,
    }.items():
        got = answer(width, height)
        if got != tokens:
            why = "Was it shrunk first? " if max(width, height) > 1540 else ""
            return f"{width} × {height} is {tokens} tokens, not {got}. {why}".strip()
    return None


@exercise(
    "04-message",
    hint='two parts: {"type": "text", …} and {"type": "image_url", "image_url": {"url": …}}.',
    solution="""picture = "data:image/png;base64,iVBORw0KGgo="
answer = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What colour is the square?"},
        {"type": "image_url", "image_url": {"url": picture}},
    ],
}""",
)
def _image_message(answer: Any) -> str | None:
    if not isinstance(answer, dict) or answer.get("role") != "user":
        return 'A dict with the role "user" is wanted.'
    parts = answer.get("content")
    if not isinstance(parts, list):
        return "With a picture in it, the content is a list of parts."
    kinds = [part.get("type") for part in parts]
    if sorted(map(str, kinds)) != ["image_url", "text"]:
        return f'One "text" and one "image_url" part are wanted; there are {kinds}.'
    if kinds[0] != "text":
        return "OpenRouter recommends the text first."
    url = parts[1].get("image_url")
    if not isinstance(url, dict):
        return '"image_url" holds a dict with the key "url".'
    if not re.match(r"data:image/(png|jpeg|webp|gif);base64,", str(url.get("url"))):
        return "The address should be a data URL: data:image/png;base64,…"
    return None


@exercise(
    "04-pairs",
    hint="a guess is right for one picture of a pair half of the time; for both it is rarer.",
    solution="""def answer(pairs):
    return sum(first and second for first, second in pairs) / len(pairs)""",
)
def _pairs(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of a list of pairs is wanted."
    pairs = [(True, True), (True, False), (False, True), (True, True), (False, False)]
    got = answer(pairs)
    if got == 0.8:
        return "One right answer of two may be a guess: both must be right."
    if got == 0.6:
        return "That counts single answers; a pair counts once, if both are right."
    if not isinstance(got, float | int) or not math.isclose(got, 0.4):
        return f"For {pairs} it should return 0.4, and it returned {got!r}."
    if not math.isclose(answer([(True, True)]), 1):
        return "One pair, both right: it should return 1."
    return None


# --- 05 Tool calling --------------------------------------------------------------------------


@exercise(
    "05-id",
    hint="^[a-zA-Z0-9]{9}$",
    solution='answer = ["bbc5b7ede", "A1B2C3D4E"]',
)
def _ids(answer: Any) -> str | None:
    given, right = set(answer), {"bbc5b7ede", "A1B2C3D4E"}
    for wrong in sorted(given - right):
        if len(wrong) != 9:
            return f"{wrong!r} has {len(wrong)} characters."
        return f"{wrong!r} has a character that is neither a letter nor a digit."
    return f"{len(right - given)} more would be taken." if right - given else None


@exercise(
    "05-schema",
    hint='"parameters" is a JSON schema: type, properties and required.',
    solution="""answer = {
    "type": "function",
    "function": {
        "name": "convert",
        "description": "Convert an amount of money.",
        "parameters": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"},
                "currency": {"type": "string", "enum": ["EUR", "USD"]},
            },
            "required": ["amount", "currency"],
        },
    },
}""",
)
def _schema(answer: Any) -> str | None:
    from jsonschema import Draft202012Validator

    if not isinstance(answer, dict) or answer.get("type") != "function":
        return 'On the outside: {"type": "function", "function": {…}}.'
    function = answer.get("function", {})
    if function.get("name") != "convert":
        return 'The function\'s "name" should be "convert".'
    if not function.get("description"):
        return "The model chooses by the description, and there is none."
    schema = function.get("parameters", {})
    Draft202012Validator.check_schema(schema)
    takes = Draft202012Validator(schema).is_valid
    if not takes({"amount": 3.5, "currency": "EUR"}):
        return "It should take an amount of 3.5 and the currency EUR."
    if takes({"currency": "EUR"}) or takes({"amount": 1}):
        return 'A call with an argument missing should not pass: see "required".'
    if takes({"amount": 1, "currency": "XYZ"}):
        return 'Only EUR and USD should pass: see "enum".'
    if takes({"amount": "much", "currency": "EUR"}):
        return "An amount should be a number."
    return None


@exercise(
    "05-check",
    hint="three things may be wrong: it is no JSON object, a name is unknown, a name is missing.",
    solution="""import json

def answer(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)""",
)
def _check_arguments(answer: Any) -> str | None:
    if not callable(answer):
        return "A function of three arguments is wanted."
    allowed, required = ["city", "unit"], ["city"]
    for arguments, right, why in (
        ('{"city": "Oslo"}', True, "all that is required is there"),
        ('{"city": "Oslo", "unit": "celsius"}', True, "an optional one may be given"),
        ('{"city": ', False, "that is no JSON"),
        ('["city"]', False, "that is JSON, but no object"),
        ('{"unit": "celsius"}', False, "a required one is missing"),
        ('{"city": "Oslo", "town": "Oslo"}', False, "there is no such argument"),
    ):
        if answer(arguments, allowed, required) is not right:
            return f"{arguments} should give {right}: {why}."
    return None


# --- 06 Latency -------------------------------------------------------------------------------


@exercise(
    "06-stream",
    hint="the role-only delta is not a token; TPOT divides by the tokens after the first.",
    solution='answer = {"ttft": 300, "tpot": (340 - 300) / (4 - 1), "e2e": 350}',
)
def _stream(answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != {"ttft", "tpot", "e2e"}:
        return 'A dict with the keys "ttft", "tpot" and "e2e" is wanted, in milliseconds.'
    if answer["ttft"] == 100:
        return "At 100 ms only the role came: nothing to read yet."
    if answer["ttft"] != 300:
        return "TTFT: when did the first delta with something in it come?"
    if math.isclose(answer["tpot"], 40):
        return "TPOT: the second delta carries three tokens, and usage says four in all."
    if math.isclose(answer["tpot"], 10):
        return "TPOT: the first token is where the clock starts, so divide by n - 1."
    if not math.isclose(answer["tpot"], 40 / 3, rel_tol=0.01):
        return "TPOT: (last - first) / (n - 1), from the first token to the last."
    if answer["e2e"] != 350:
        return "End to end: until the stream is over, [DONE] included."
    return None


exercise(
    "06-rate",
    hint="each stream gives a token every 25 ms, and there are eight of them.",
    solution="answer = 8 / 0.025",
)(
    number(
        320,
        {
            40: "That is one stream; there are eight at once.",
            5: "Eight streams share nothing here: each gives 40 tokens a second.",
            0.2: "That is seconds; tokens per second are wanted.",
        },
    )
)

# --- 07 Serve it ------------------------------------------------------------------------------


@exercise(
    "07-flag",
    hint="a JSON object from the kind of input to how many.",
    solution="""answer = '{"image": 4}'""",
)
def _flag(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return "The value as a string is wanted, as it stands on the command line."
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return "vLLM reads it as JSON, and it is not: mind the braces and the double quotes."
    return None if value == {"image": 4} else "Four pictures: the key is image, the value 4."


exercise(
    "07-workshop",
    hint="requests per second × tokens per answer.",
    solution="answer = 30 * 2 / 60 * 300",
)(
    number(
        300,
        {
            18_000: "That is per minute.",
            150: "Each of them asks twice a minute.",
            600: "That is what one learner reads in a minute.",
        },
    )
)

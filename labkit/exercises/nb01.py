"""Exercises of notebook 01, Architecture notes."""

import re
from typing import Any

from labkit.exercises.answers import items
from labkit.exercises.engine import exercise, number_exercise

number_exercise(
    "01-kv",
    20,
    hint="For each token: 2 (key and value) × layers × key/value heads × head dim × bytes.",
    mistakes={
        5: "That is the cache of one user; there are four.",
        10: "That is half of it: a key and a value are stored, at 2 bytes each.",
        80: "That is without GQA: 8 key/value heads are stored, not 32.",
        21.47: "That is in GB (10⁹ bytes); the question asks for GiB.",
    },
    tolerance=1e-3,
    units=("GiB",),
)


@exercise(
    "01-card",
    hint="Call fit.what_fits_where with images=4. Its rows begin with the smallest memory.",
)
def judge_card(answer: Any) -> str | None:
    """The smallest GPU or Mac with room for weights, context and four images."""
    names = [answer] if isinstance(answer, str) else items(answer, "the name of a GPU or Mac")
    if len(names) != 1 or not isinstance(names[0], str):
        return "The answer should be the name of one GPU or Mac, as a string."
    name = re.sub(r"nvidia|geforce|apple|[^a-z0-9]", "", names[0].lower())
    if name in ("m2pro32gb", "m432gb", "a10g", "l4"):
        return "The weights fit, but the four images do not: pass images=4."
    if name in ("rtx4090", "4090"):
        return None
    if name in ("rtx3090", "3090"):
        return "It fits, but so does a GPU with less memory."
    return 'Take the first row whose "scheme" is not "none": it has the least memory.'


PLACES = "This notebook has each answer: see KV cache, windows, roofline and 3.2 against 3.1."


@exercise("01-claim", hint=PLACES)
def judge_claims(answer: Any) -> str | None:
    """The set of the wrong claims. The hint is about the first letter that is judged wrongly."""
    words = items(answer, 'a set of letters, such as {"A", "C"}')
    letters = set("".join(str(word).strip().upper() for word in words))
    if not letters or not letters <= set("ABCDE"):
        return 'The answer should be a set of letters from A to E, such as {"A", "C"}.'
    reasons = {
        "A": "A is right: 32 query heads share 8 key/value heads.",
        "B": "B is wrong: shared key/value heads save memory; no more tokens are seen.",
        "C": "C is right: the upper limit is 73 tokens per second.",
        "D": "D is wrong: half of 2.11 would be 1.06.",
        "E": "E is wrong: its sliding_window is null.",
    }
    wrong = {"B", "D", "E"}
    if letters < wrong:
        return f"Those are wrong, and {len(wrong - letters)} more. {PLACES}"
    mistaken = sorted(letters ^ wrong)
    return reasons[mistaken[0]] if mistaken else None


number_exercise(
    "01-image",
    660,
    hint="columns = ⌈width / 28⌉, rows = ⌈height / 28⌉, and each row ends with one more token.",
    mistakes={
        638: "Each row ends with one more token: [IMG_BREAK], or [IMG_END] after the last row.",
        667: "Rows and columns are the wrong way round: each row has one extra token.",
        588: "Round up: a part of a patch counts as a patch.",
        612.245: "Round up, rows and columns apart. Each row ends with one more token.",
        2494: "The language model sees patches of 28 pixels: 2 × 2 patches of 14, merged.",
    },
    tolerance=1e-6,
    units=("tokens", "image tokens"),
)

number_exercise(
    "01-roofline",
    22.0,
    hint="Each token reads every weight once: bandwidth / bytes read per token.",
    mistakes={
        44.0: "Each parameter takes two bytes at 16 bits.",
        21.0: "A token of text reads neither the vision encoder nor the table of embeddings.",
        0.04544: "That is seconds per token; take the inverse.",
        88.0: "Each parameter takes two bytes, so divide by 2 instead of multiplying.",
    },
    tolerance=0.02,
    units=("tokens per second", "tokens/s", "tokens/second", "tok/s", "t/s"),
)

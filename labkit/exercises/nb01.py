"""TODO."""

from typing import Any

from labkit.exercises.engine import exercise, number

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

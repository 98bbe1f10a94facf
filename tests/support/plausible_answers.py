"""Answers that learners would give to the exercises, and whether a fair teacher takes them.

They were written from the notebooks alone, without a look at the checks. Each case is an exercise's
name, an answer, and True if it is right; its comment says who would answer so.
"""

import ast
import functools
import json
import math
import re
from collections import OrderedDict
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Literal

import numpy as np
import pandas as pd
import pydantic
import torch

from helpers.model import configs, sizes
from helpers.tools import describe

CASES = []


# 00-messages: a rule of one word, and a question


def chat(system, user):
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


RULE, ITALY = "Answer with one word.", "What is the capital of Italy?"
ASKED = {"role": "user", "content": ITALY}
RULED = {"role": "system", "content": RULE}

CASES += [
    # the solution
    ("00-messages", chat(RULE, ITALY), True),
    # a tuple of dicts is nearly a list
    ("00-messages", tuple(chat(RULE, ITALY)), True),
    # shorter words of one's own
    ("00-messages", chat("One word only!", "Capital of Italy?"), True),
    # a polite writer, with a digit
    (
        "00-messages",
        chat("Please reply using exactly 1 word.", "Could you tell me Italy's capital?"),
        True,
    ),
    # writes the rule as a limit
    (
        "00-messages",
        chat("Your answers must be a single word, nothing else.", "Which city is Italy's capital?"),
        True,
    ),
    # says the limit the other way round
    ("00-messages", chat("Never use more than one word.", "Name the capital of Italy."), True),
    # types without capital letters
    ("00-messages", chat("answer in one word", "what is the capital of italy"), True),
    # a hyphen and a plural
    ("00-messages", chat("You give one-word answers.", ITALY), True),
    # the content comes first in each dict
    (
        "00-messages",
        [{"content": RULE, "role": "system"}, {"content": ITALY, "role": "user"}],
        True,
    ),
    # has seen messages made of parts
    (
        "00-messages",
        chat([{"type": "text", "text": RULE}], [{"type": "text", "text": ITALY}]),
        True,
    ),
    # gives the user a name, which the API allows
    ("00-messages", [RULED, {**ASKED, "name": "anna"}], True),
    # has mixed up the two roles
    ("00-messages", chat(ITALY, RULE), False),
    # puts both into the user message
    ("00-messages", [{"role": "user", "content": f"{ITALY} {RULE}"}], False),
    # forgets the rule
    ("00-messages", [ASKED], False),
    # a rule, but another one
    ("00-messages", chat("You are a helpful assistant.", ITALY), False),
    # one sentence is not one word
    ("00-messages", chat("Answer with one sentence.", ITALY), False),
    ("00-messages", chat("Reply in one sentence, no word more.", ITALY), False),
    # short is not one word
    ("00-messages", chat("Be brief.", ITALY), False),
    # copies a question about another country
    ("00-messages", chat(RULE, "What is the capital of France?"), False),
    # asks for something else about Italy
    ("00-messages", chat(RULE, "How many people live in Italy?"), False),
    # answers the question itself
    ("00-messages", "Rome", False),
    # adds the model's reply
    ("00-messages", [RULED, ASKED, {"role": "assistant", "content": "Rome"}], False),
    # thinks that the model's rule has the model's role
    ("00-messages", [{"role": "assistant", "content": RULE}, ASKED], False),
    # one dict from role to content
    ("00-messages", {"system": RULE, "user": ITALY}, False),
    # a list of such dicts
    ("00-messages", [{"system": RULE}, {"user": ITALY}], False),
    # the two texts alone
    ("00-messages", [RULE, ITALY], False),
    # the list as a JSON string
    ("00-messages", json.dumps(chat(RULE, ITALY)), False),
    # writes "text" instead of "content"
    ("00-messages", [{"role": "system", "text": RULE}, {"role": "user", "text": ITALY}], False),
    # has not begun
    ("00-messages", ..., False),
    # an empty list
    ("00-messages", [], False),
    # the result of append
    ("00-messages", None, False),
    # plays
    ("00-messages", "banana", False),
]

# 00-seed: sample at random, but repeatably

CASES += [
    # the solution
    ("00-seed", {"temperature": 1.0, "seed": 7}, True),
    # whole numbers, the other order
    ("00-seed", {"seed": 42, "temperature": 1}, True),
    # dict() with keywords, a seed of 0
    ("00-seed", dict(temperature=0.7, seed=0), True),
    # copies the cell above, with the limit on the length
    ("00-seed", {"temperature": 1.2, "max_tokens": 12, "seed": 7}, True),
    # the temperature that the makers recommend is random, too
    ("00-seed", {"temperature": 0.15, "seed": 123456}, True),
    # numbers from numpy
    ("00-seed", {"temperature": np.float64(0.8), "seed": np.int64(3)}, True),
    # an ordered dict
    ("00-seed", OrderedDict(seed=1, temperature=1.5), True),
    # also sets top_p
    ("00-seed", {"temperature": 0.9, "top_p": 0.95, "seed": 11}, True),
    # `**lab.seed(7)` on Mistral AI's own API
    ("00-seed", {"temperature": 1.0, "extra_body": {"random_seed": 7}}, True),
    # repeatable, but not random
    ("00-seed", {"temperature": 0, "seed": 7}, False),
    # repeatable by a temperature of 0 alone
    ("00-seed", {"temperature": 0.0}, False),
    # random, but not repeatable
    ("00-seed", {"temperature": 1.0}, False),
    # forgets the temperature
    ("00-seed", {"seed": 7}, False),
    # leaves the seed open
    ("00-seed", {"temperature": 1.0, "seed": None}, False),
    # strings instead of numbers
    ("00-seed", {"temperature": "1.0", "seed": "7"}, False),
    # True for "on"
    ("00-seed", {"temperature": True, "seed": True}, False),
    # a shortened name
    ("00-seed", {"temp": 1.0, "seed": 7}, False),
    # capital letters
    ("00-seed", {"Temperature": 1.0, "Seed": 7}, False),
    # a seed must be a whole number
    ("00-seed", {"temperature": 1.0, "seed": 0.5}, False),
    # colder than 0
    ("00-seed", {"temperature": -1, "seed": 7}, False),
    # as on a thermometer
    ("00-seed", {"temperature": 100, "seed": 7}, False),
    # the values have changed places
    ("00-seed", {"temperature": 7000, "seed": 1.5}, False),
    # the names only
    ("00-seed", {"temperature", "seed"}, False),
    # a list of names
    ("00-seed", ["temperature", "seed"], False),
    # writes the call's text
    ("00-seed", "temperature=1.0, seed=7", False),
    # the values only
    ("00-seed", (1.0, 7), False),
    # an empty dict
    ("00-seed", {}, False),
    # has not begun
    ("00-seed", ..., False),
    # the result of print
    ("00-seed", None, False),
]

# 01-claim: B, D and E are wrong

CASES += [
    # the solution
    ("01-claim", {"B", "D", "E"}, True),
    # a list, in another order
    ("01-claim", ["E", "B", "D"], True),
    # a tuple
    ("01-claim", ("B", "D", "E"), True),
    # a frozen set
    ("01-claim", frozenset("BDE"), True),
    # small letters
    ("01-claim", {"b", "d", "e"}, True),
    # set("…") forgotten
    ("01-claim", "BDE", True),
    # a sentence
    ("01-claim", "B, D and E", True),
    # with commas
    ("01-claim", "B, D, E", True),
    # an array
    ("01-claim", np.array(["B", "D", "E"]), True),
    # a column
    ("01-claim", pd.Series(["B", "D", "E"]), True),
    # a generator
    ("01-claim", (letter for letter in "BDE"), True),
    # the keys of a dict
    ("01-claim", {"B": "no", "D": "no", "E": "no"}.keys(), True),
    # the right claims instead of the wrong ones; also the stub's example
    ("01-claim", {"A", "C"}, False),
    # takes 1.29 for a half of 2.11
    ("01-claim", {"B", "E"}, False),
    # believes that GQA shows more tokens
    ("01-claim", {"D", "E"}, False),
    # believes that Small 3 has a window
    ("01-claim", {"B", "D"}, False),
    # believes that the H100 can do it
    ("01-claim", {"B", "C", "D", "E"}, False),
    # all of them
    ("01-claim", set("ABCDE"), False),
    # one letter that does not exist
    ("01-claim", {"B", "D", "E", "F"}, False),
    # one letter
    ("01-claim", "D", False),
    # positions
    ("01-claim", {2, 4, 5}, False),
    # a verdict for each claim
    ("01-claim", [False, True, False, True, True], False),
    # a dict of verdicts
    ("01-claim", {"A": True, "B": False, "C": True, "D": False, "E": False}, False),
    # how many are wrong
    ("01-claim", 3, False),
    # nothing is wrong
    ("01-claim", set(), False),
    # {} is a dict
    ("01-claim", {}, False),
    # not begun, printed, played
    ("01-claim", ..., False),
    ("01-claim", None, False),
    ("01-claim", "banana", False),
]

# 01-roofline: 22.0 tokens per second

CASES += [
    # the solution
    ("01-roofline", 1008 / ((22.230e9 + 0.671e9) * 2 / 1e9), True),
    # rounds
    ("01-roofline", 22, True),
    ("01-roofline", 22.01, True),
    # numpy
    ("01-roofline", np.float32(22.008), True),
    # the unit
    ("01-roofline", "22 tokens/s", True),
    ("01-roofline", "22.0 tokens per second", True),
    # exact numbers
    ("01-roofline", Decimal(1008) / Decimal("45.802"), True),
    ("01-roofline", Fraction(1008000, 45802), True),
    # a value of a column
    ("01-roofline", pd.Series([1008]).div(45.802).iloc[0], True),
    # one byte for each parameter
    ("01-roofline", 1008 / 22.901, False),
    # forgets lm_head
    ("01-roofline", 1008 / 44.46, False),
    # counts the embeddings, too
    ("01-roofline", 1008 / (2 * 23.572), False),
    # four bytes
    ("01-roofline", 1008 / (4 * 22.901), False),
    # bits for bytes
    ("01-roofline", 1008 / (16 * 22.901), False),
    # four bits
    ("01-roofline", 1008 / (0.5 * 22.901), False),
    # GiB and GB mixed
    ("01-roofline", 1008 / (45.802e9 / 2**30), False),
    # turned round: seconds for each token
    ("01-roofline", 45.802 / 1008, False),
    # off by 10⁹
    ("01-roofline", 1008e9 / 45.802, False),
    # the bytes only
    ("01-roofline", 45.802, False),
    # milliseconds for each token, which is another question
    ("01-roofline", "45.4 ms", False),
    # a range
    ("01-roofline", [20, 25], False),
    # not begun, printed, yes
    ("01-roofline", ..., False),
    ("01-roofline", None, False),
    ("01-roofline", True, False),
    # played
    ("01-roofline", "banana", False),
]

# 02-bits: 4.5

CASES += [
    # the solution
    ("02-bits", 4 + 32 / 64, True),
    # numpy
    ("02-bits", np.float32(4.5), True),
    # exact numbers
    ("02-bits", Fraction(9, 2), True),
    ("02-bits", Decimal("4.5"), True),
    # the unit
    ("02-bits", "4.5 bits", True),
    ("02-bits", "4.5 bits per parameter", True),
    # a string
    ("02-bits", "4.50", True),
    # a tensor
    ("02-bits", torch.tensor(4.5), True),
    # the table's column
    ("02-bits", pd.Series({"NF4": 4.5})["NF4"], True),
    # forgets the scales
    ("02-bits", 4, False),
    # with double quantization
    ("02-bits", 4 + 8 / 64 + 32 / (64 * 256), False),
    # a scale of 16 bits
    ("02-bits", 4 + 16 / 64, False),
    # a scale of 8 bits
    ("02-bits", 4 + 8 / 64, False),
    # a scale for each parameter
    ("02-bits", 36, False),
    # bytes
    ("02-bits", 4.5 / 8, False),
    ("02-bits", "4.5 bytes", False),
    # the scales only
    ("02-bits", 0.5, False),
    # rounds up
    ("02-bits", 5, False),
    # the two parts
    ("02-bits", (4, 0.5), False),
    # the name
    ("02-bits", "NF4", False),
    # not begun, printed, yes
    ("02-bits", ..., False),
    ("02-bits", None, False),
    ("02-bits", True, False),
]

# 02-skip: what stays in 16 bits

SKIP = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]

CASES += [
    # the solution
    ("02-skip", SKIP, True),
    # another order
    ("02-skip", SKIP[::-1], True),
    # a tuple
    ("02-skip", tuple(SKIP), True),
    # a set: the order plays no role
    ("02-skip", set(SKIP), True),
    # an array
    ("02-skip", np.array(SKIP), True),
    # a pandas index
    ("02-skip", pd.Index(SKIP), True),
    # joins two lists
    (
        "02-skip",
        ["lm_head", *(f"model.{p}" for p in ("multi_modal_projector", "vision_tower"))],
        True,
    ),
    # a name twice does no harm
    ("02-skip", [*SKIP, "lm_head"], True),
    # the names of the older transformers
    ("02-skip", ["vision_tower", "multi_modal_projector", "lm_head"], False),
    # forgets the output layer
    ("02-skip", SKIP[:2], False),
    # the output layer is not under `model`
    ("02-skip", [*SKIP[:2], "model.lm_head"], False),
    # forgets the projector
    ("02-skip", ["model.vision_tower", "lm_head"], False),
    # only the default
    ("02-skip", ["lm_head"], False),
    # one name of the three is short
    ("02-skip", ["model.vision_tower", "multi_modal_projector", "lm_head"], False),
    # nothing is quantized any more
    ("02-skip", ["model", "lm_head"], False),
    # keeps the language model, too
    ("02-skip", [*SKIP, "model.language_model"], False),
    # other words for the parts
    ("02-skip", ["model.vision_encoder", "model.projector", "model.output"], False),
    # a typing error
    ("02-skip", ["model.vison_tower", "model.multi_modal_projector", "lm_head"], False),
    # a comma forgotten between two strings
    ("02-skip", ["model.vision_tower", "model.multi_modal_projector" + "lm_head"], False),
    # a dict
    ("02-skip", {"vision": "model.vision_tower", "out": "lm_head"}, False),
    # a single name
    ("02-skip", "lm_head", False),
    # numbers
    ("02-skip", [0, 1, 2], False),
    # empty, not begun, printed
    ("02-skip", [], False),
    ("02-skip", ..., False),
    ("02-skip", None, False),
]

# 03-cost: the price of a request


def cost(prompt_tokens, completion_tokens, price_in, price_out):
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6


def cost_in_steps(p: int, c: int, pin: float, pout: float) -> float:
    million = 1_000_000
    total = 0.0
    for tokens, price in [(p, pin), (c, pout)]:
        total += tokens / million * price
    return total


def cost_numpy(*numbers):
    return np.dot(numbers[:2], numbers[2:]) / 10**6


def cost_decimal(a, b, c, d):
    return (Decimal(a) * Decimal(str(c)) + Decimal(b) * Decimal(str(d))) / 1_000_000


def cost_fraction(a, b, c, d):
    return (a * Fraction(c) + b * Fraction(d)) / 10**6


def cost_with_unit(unit, a, b, c, d):
    return (a * c + b * d) / unit


class Price:
    """A learner who likes classes."""

    def __call__(self, prompt_tokens, completion_tokens, price_in, price_out):
        return prompt_tokens * price_in / 1e6 + completion_tokens * price_out / 1e6


def cost_talks(prompt_tokens, completion_tokens, price_in, price_out):
    result = cost(prompt_tokens, completion_tokens, price_in, price_out)
    print("price:", result)
    return result


def cost_printed(prompt_tokens, completion_tokens, price_in, price_out):
    print((prompt_tokens * price_in + completion_tokens * price_out) / 1e6)


def cost_not_returned(prompt_tokens, completion_tokens, price_in, price_out):
    total = prompt_tokens * price_in + completion_tokens * price_out
    total /= 1e6


def cost_raises(prompt_tokens, completion_tokens, price_in, price_out):
    return prompt_tokens["prompt"] * price_in / 1e6


def cost_yields(prompt_tokens, completion_tokens, price_in, price_out):
    yield (prompt_tokens * price_in + completion_tokens * price_out) / 1e6


def cost_by_keywords(*, prompt_tokens, completion_tokens, price_in, price_out):
    return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6


CASES += [
    # the solution
    ("03-cost", cost, True),
    # a lambda
    ("03-cost", lambda p, c, i, o: p * i / 1e6 + c * o / 1e6, True),
    # short names, types, a loop
    ("03-cost", cost_in_steps, True),
    # numpy
    ("03-cost", cost_numpy, True),
    # exact numbers
    ("03-cost", cost_decimal, True),
    ("03-cost", cost_fraction, True),
    # a partial
    ("03-cost", functools.partial(cost_with_unit, 1e6), True),
    # an object that can be called
    ("03-cost", Price(), True),
    # prints and returns
    ("03-cost", cost_talks, True),
    # the right value, but with a default that is not needed
    ("03-cost", lambda p, c, i, o, per=1e6: (p * i + c * o) / per, True),
    # prints instead of returning
    ("03-cost", cost_printed, False),
    # forgets return
    ("03-cost", cost_not_returned, False),
    # calls the function
    ("03-cost", cost(1000, 500, 0.1, 0.3), False),
    # forgets the million
    ("03-cost", lambda p, c, i, o: p * i + c * o, False),
    # thousand for million
    ("03-cost", lambda p, c, i, o: (p * i + c * o) / 1e3, False),
    # cents
    ("03-cost", lambda p, c, i, o: (p * i + c * o) / 1e4, False),
    # the prices have changed places
    ("03-cost", lambda p, c, i, o: (p * o + c * i) / 1e6, False),
    # the arguments come in another order
    ("03-cost", lambda p, i, c, o: (p * i + c * o) / 1e6, False),
    # adds before multiplying
    ("03-cost", lambda p, c, i, o: (p + c) * (i + o) / 1e6, False),
    # the input only
    ("03-cost", lambda p, c, i, o: p * i / 1e6, False),
    # whole dollars
    ("03-cost", lambda p, c, i, o: (p * i + c * o) // 1_000_000, False),
    # brackets forgotten
    ("03-cost", lambda p, c, i, o: p * i + c * o / 1e6, False),
    # two prices
    ("03-cost", lambda p, c, i, o: (p * i / 1e6, c * o / 1e6), False),
    # too few arguments
    ("03-cost", lambda tokens, price: tokens * price / 1e6, False),
    # takes one dict
    ("03-cost", lambda usage: usage["prompt_tokens"], False),
    # treats a number as a dict
    ("03-cost", cost_raises, False),
    # yield for return
    ("03-cost", cost_yields, False),
    # names that must be given
    ("03-cost", cost_by_keywords, False),
    # cents are too coarse
    ("03-cost", lambda p, c, i, o: round((p * i + c * o) / 1e6, 2), False),
    # a text with a sign
    ("03-cost", lambda p, c, i, o: f"${(p * i + c * o) / 1e6}", False),
    # a formula as text
    ("03-cost", "(p * i + c * o) / 1e6", False),
    # not begun, printed
    ("03-cost", ..., False),
    ("03-cost", None, False),
]

# 04-tokens: the tokens of an image


def tokens(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    columns = math.ceil(round(width / ratio) / 28)
    rows = math.ceil(round(height / ratio) / 28)
    return rows * (columns + 1)


def tokens_whole_numbers(w, h):
    longer = max(w, h)
    if longer > 1540:
        w, h = round(w * 1540 / longer), round(h * 1540 / longer)
    return -(-h // 28) * (-(-w // 28) + 1)


def tokens_numpy(width, height):
    side = np.array([width, height], dtype=float)
    side = np.round(side / max(1, side.max() / 1540))
    columns, rows = np.ceil(side / 28)
    return rows * (columns + 1)


def tokens_kit(width, height):
    return sizes.image_tokens(width, height, configs.load("mistral-small-3.2-2506"))


def tokens_counted(width, height, longest=1540, side=28):
    ratio = max(width / longest, height / longest, 1)
    width, height = round(width / ratio), round(height / ratio)
    count = 0
    for _row in range(0, height, side):
        for _column in range(0, width, side):
            count += 1
        count += 1  # the row's end
    return count


def tokens_float(width, height):
    return float(tokens(width, height))


def tokens_not_shrunk(width, height):
    return math.ceil(height / 28) * (math.ceil(width / 28) + 1)


def tokens_without_row_ends(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    return math.ceil(round(width / ratio) / 28) * math.ceil(round(height / ratio) / 28)


def tokens_swapped(width, height):
    return tokens(height, width)


def tokens_rounded_down(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    return int(height / ratio) // 28 * (int(width / ratio) // 28 + 1)


def tokens_each_side_cut(width, height):
    return math.ceil(min(height, 1540) / 28) * (math.ceil(min(width, 1540) / 28) + 1)


def tokens_always_scaled(width, height):
    ratio = max(width, height) / 1540
    return math.ceil(round(height / ratio) / 28) * (math.ceil(round(width / ratio) / 28) + 1)


def tokens_pocket(width, height):
    ratio = max(width / 168, height / 168, 1)
    return math.ceil(round(height / ratio) / 28) * (math.ceil(round(width / ratio) / 28) + 1)


def tokens_one_end(width, height):
    return tokens_without_row_ends(width, height) + 1


def tokens_capped(width, height):
    return min(tokens_not_shrunk(width, height), 3080)


def tokens_old_patches(width, height):
    ratio = max(width / 1540, height / 1540, 1)
    return math.ceil(round(height / ratio) / 14) * (math.ceil(round(width / ratio) / 14) + 1)


def tokens_printed(width, height):
    print(tokens(width, height))


def tokens_raises(width, height):
    return width.size[0] * height


CASES += [
    # the solution
    ("04-tokens", tokens, True),
    # whole numbers only
    ("04-tokens", tokens_whole_numbers, True),
    # numpy: returns a float
    ("04-tokens", tokens_numpy, True),
    # the kit's function
    ("04-tokens", tokens_kit, True),
    # counts with loops
    ("04-tokens", tokens_counted, True),
    # a float
    ("04-tokens", tokens_float, True),
    # a lambda around it
    ("04-tokens", lambda w, h: tokens(w, h), True),
    # large images are forgotten
    ("04-tokens", tokens_not_shrunk, False),
    # row ends are forgotten
    ("04-tokens", tokens_without_row_ends, False),
    # width and height have changed places
    ("04-tokens", tokens_swapped, False),
    # rounds down
    ("04-tokens", tokens_rounded_down, False),
    # cuts each side by itself
    ("04-tokens", tokens_each_side_cut, False),
    # enlarges small images
    ("04-tokens", tokens_always_scaled, False),
    # the pocket model's limit
    ("04-tokens", tokens_pocket, False),
    # one end for the whole image
    ("04-tokens", tokens_one_end, False),
    # the largest number for all large images
    ("04-tokens", tokens_capped, False),
    # patches before they are merged
    ("04-tokens", tokens_old_patches, False),
    # divides the areas
    ("04-tokens", lambda w, h: w * h / 28**2, False),
    # returns both counts
    ("04-tokens", lambda w, h: (math.ceil(h / 28), math.ceil(w / 28) + 1), False),
    # prints
    ("04-tokens", tokens_printed, False),
    # thinks that it gets images
    ("04-tokens", tokens_raises, False),
    # takes one pair
    ("04-tokens", lambda size: tokens(*size), False),
    # the kit's function needs a config
    ("04-tokens", sizes.image_tokens, False),
    # the call
    ("04-tokens", tokens(800, 600), False),
    # not begun, printed, played
    ("04-tokens", ..., False),
    ("04-tokens", None, False),
    ("04-tokens", "banana", False),
]

# 04-message: an image and a question

URL = "data:image/png;base64,iVBORw0KGgo="
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
SQUARE = "What colour is the square?"


def parts(*content, role="user"):
    return {"role": role, "content": list(content)}


def text(words):
    return {"type": "text", "text": words}


CASES += [
    # the solution
    ("04-message", parts(text(SQUARE), PICTURE), True),
    # the image first
    ("04-message", parts(PICTURE, text(SQUARE)), True),
    # American spelling
    ("04-message", parts(text("What color is the square?"), PICTURE), True),
    # a request instead of a question
    ("04-message", parts(text("Name the colour of this square in one word."), PICTURE), True),
    # a longer question
    (
        "04-message",
        parts(text("Look at the image. Which colour does the square have?"), PICTURE),
        True,
    ),
    # sets the detail, as OpenAI's documents show
    (
        "04-message",
        parts(text(SQUARE), {"type": "image_url", "image_url": {"url": URL, "detail": "auto"}}),
        True,
    ),
    # a real, longer data URL
    (
        "04-message",
        parts(
            text(SQUARE),
            {
                "type": "image_url",
                "image_url": {
                    "url": URL[:-1] + "AAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4"
                },
            },
        ),
        True,
    ),
    # the content as a tuple, which becomes the same JSON
    ("04-message", {"content": (text(SQUARE), PICTURE), "role": "user"}, True),
    # the keys of the parts in the other order
    (
        "04-message",
        {
            "content": [
                {"text": SQUARE, "type": "text"},
                {"image_url": {"url": URL}, "type": "image_url"},
            ],
            "role": "user",
        },
        True,
    ),
    # the URL inside the text
    ("04-message", {"role": "user", "content": f"{SQUARE} {URL}"}, False),
    # no image
    ("04-message", {"role": "user", "content": SQUARE}, False),
    ("04-message", parts(text(SQUARE)), False),
    # no question
    ("04-message", parts(PICTURE), False),
    # another question
    ("04-message", parts(text("What do you see?"), PICTURE), False),
    # about another shape, copied from the notebook
    ("04-message", parts(text("What colour is the circle?"), PICTURE), False),
    # the wrong role
    ("04-message", parts(text(SQUARE), PICTURE, role="system"), False),
    # the wrong type
    ("04-message", parts(text(SQUARE), {"type": "image", "image": URL}), False),
    # Anthropic's form
    (
        "04-message",
        parts(
            text(SQUARE),
            {
                "type": "image",
                "source": {
                    "type": "base64",
                    "media_type": "image/png",
                    "data": "iVBORw0KGgo=",
                },
            },
        ),
        False,
    ),
    # the form of another OpenAI API
    (
        "04-message",
        parts({"type": "input_text", "text": SQUARE}, {"type": "input_image", "image_url": URL}),
        False,
    ),
    # base64 without its prefix
    (
        "04-message",
        parts(text(SQUARE), {"type": "image_url", "image_url": {"url": "iVBORw0KGgo="}}),
        False,
    ),
    # an address on the web instead of a data URL
    (
        "04-message",
        parts(
            text(SQUARE),
            {"type": "image_url", "image_url": {"url": "https://example.com/square.png"}},
        ),
        False,
    ),
    # the type of the part is missing
    ("04-message", parts(text(SQUARE), {"image_url": {"url": URL}}), False),
    # plain strings as parts
    ("04-message", parts(SQUARE, URL), False),
    # one part is no list
    ("04-message", {"role": "user", "content": PICTURE}, False),
    # the parts without the message
    ("04-message", [text(SQUARE), PICTURE], False),
    # JSON text
    ("04-message", json.dumps(parts(text(SQUARE), PICTURE)), False),
    # the URL only
    ("04-message", URL, False),
    # empty, not begun, printed
    ("04-message", {}, False),
    ("04-message", ..., False),
    ("04-message", None, False),
]

# 04-pairs: both right


def pairs_loop(pairs):
    count = 0
    for pair in pairs:
        if pair[0] and pair[1]:
            count += 1
    return count / len(pairs)


def pairs_pandas(pairs):
    return pd.DataFrame(pairs, columns=["a", "b"]).all(axis=1).mean()


def pairs_talk(pairs):
    both = [pair for pair in pairs if all(pair)]
    print(len(both), "of", len(pairs))
    return len(both) / len(pairs)


def pairs_printed(pairs):
    print(sum(all(pair) for pair in pairs) / len(pairs))


def pairs_return_too_early(pairs):
    count = 0
    for first, second in pairs:
        if first and second:
            count += 1
        return count / len(pairs)


def pairs_raises(pairs):
    return pairs.mean()


CASES += [
    # the solution
    ("04-pairs", lambda pairs: sum(a and b for a, b in pairs) / len(pairs), True),
    # a loop
    ("04-pairs", pairs_loop, True),
    # all()
    ("04-pairs", lambda pairs: sum(map(all, pairs)) / len(pairs), True),
    # numpy
    ("04-pairs", lambda pairs: np.mean(np.all(pairs, axis=1)), True),
    # pandas
    ("04-pairs", pairs_pandas, True),
    # an exact share
    ("04-pairs", lambda pairs: Fraction(pairs.count((True, True)), len(pairs)), True),
    # prints and returns
    ("04-pairs", pairs_talk, True),
    # products
    ("04-pairs", lambda pairs: sum(a * b for a, b in pairs) / len(pairs), True),
    # at least one is right
    ("04-pairs", lambda pairs: sum(a or b for a, b in pairs) / len(pairs), False),
    # the share of right answers
    ("04-pairs", lambda pairs: sum(a + b for a, b in pairs) / (2 * len(pairs)), False),
    # the answer changed
    ("04-pairs", lambda pairs: sum(a != b for a, b in pairs) / len(pairs), False),
    # equal, also when both are wrong
    ("04-pairs", lambda pairs: sum(a == b for a, b in pairs) / len(pairs), False),
    # the first only
    ("04-pairs", lambda pairs: sum(a for a, b in pairs) / len(pairs), False),
    # a number, not a share
    ("04-pairs", lambda pairs: sum(a and b for a, b in pairs), False),
    # percent
    ("04-pairs", lambda pairs: 100 * sum(a and b for a, b in pairs) / len(pairs), False),
    # whole division
    ("04-pairs", lambda pairs: sum(a and b for a, b in pairs) // len(pairs), False),
    # divides by the answers
    ("04-pairs", lambda pairs: sum(a and b for a, b in pairs) / (2 * len(pairs)), False),
    # the share that was guessed
    ("04-pairs", lambda pairs: 1 - sum(a and b for a, b in pairs) / len(pairs), False),
    # the pairs themselves
    ("04-pairs", lambda pairs: [pair for pair in pairs if all(pair)], False),
    # every pair, or not
    ("04-pairs", lambda pairs: all(a and b for a, b in pairs), False),
    # return inside the loop
    ("04-pairs", pairs_return_too_early, False),
    # prints
    ("04-pairs", pairs_printed, False),
    # a list has no mean
    ("04-pairs", pairs_raises, False),
    # takes one pair
    ("04-pairs", lambda first_right, second_right: first_right and second_right, False),
    # the call's result
    ("04-pairs", 0.5, False),
    # not begun, printed
    ("04-pairs", ..., False),
    ("04-pairs", None, False),
]

# 05-id: nine letters or digits

IDS = ["bbc5b7ede", "call_abc1", "A1B2C3D4E", "a1b2c3d4", "abc defgh"]
GOOD = ["bbc5b7ede", "A1B2C3D4E"]

CASES += [
    # the solution
    ("05-id", GOOD, True),
    # the other order
    ("05-id", GOOD[::-1], True),
    # a set
    ("05-id", set(GOOD), True),
    # a tuple
    ("05-id", tuple(GOOD), True),
    # a comprehension
    ("05-id", [i for i in IDS if len(i) == 9 and i.isalnum()], True),
    # a filter
    ("05-id", filter(re.compile(r"[A-Za-z0-9]{9}").fullmatch, IDS), True),
    # a generator
    ("05-id", (i for i in IDS if re.fullmatch("[a-zA-Z0-9]{9}", i)), True),
    # an array
    ("05-id", np.array(GOOD), True),
    # a column with a condition
    ("05-id", pd.Series(IDS)[[True, False, True, False, False]], True),
    # a sentence
    ("05-id", "bbc5b7ede and A1B2C3D4E", True),
    # small letters only
    ("05-id", ["bbc5b7ede"], False),
    # capital letters only
    ("05-id", ["A1B2C3D4E"], False),
    # the id that OpenAI would make
    ("05-id", ["call_abc1"], False),
    # takes the underscore for a letter: \w
    ("05-id", [i for i in IDS if re.fullmatch(r"\w{9}", i)], False),
    # nine characters of any kind
    ("05-id", [i for i in IDS if len(i) == 9], False),
    # letters and digits of any number
    ("05-id", [i for i in IDS if i.isalnum()], False),
    # all
    ("05-id", IDS, False),
    # those that are refused
    ("05-id", ["call_abc1", "a1b2c3d4", "abc defgh"], False),
    # writes them in small letters
    ("05-id", ["bbc5b7ede", "a1b2c3d4e"], False),
    # a typing error
    ("05-id", ["bbc5b7ed", "A1B2C3D4E"], False),
    # positions
    ("05-id", [0, 2], False),
    # truth values
    ("05-id", [True, False, True, False, False], False),
    # a dict of verdicts
    ("05-id", {i: i in GOOD for i in IDS}, False),
    # how many
    ("05-id", 2, False),
    # matches instead of ids
    ("05-id", [re.fullmatch("[a-zA-Z0-9]{9}", i) for i in IDS], False),
    # empty, not begun, printed
    ("05-id", [], False),
    ("05-id", ..., False),
    ("05-id", None, False),
]

# 05-schema: a function `convert`


def schema(amount, currency, required=("amount", "currency"), name="convert", **more):
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "Convert an amount of money.",
            "parameters": {
                "type": "object",
                "properties": {"amount": amount, "currency": currency},
                "required": list(required),
                **more,
            },
        },
    }


NUMBER = {"type": "number"}
CURRENCY = {"type": "string", "enum": ["EUR", "USD"]}


def strict_schema():
    made = schema(NUMBER, CURRENCY, additionalProperties=False)
    made["function"]["strict"] = True
    return made


def without_description():
    made = schema(NUMBER, CURRENCY)
    del made["function"]["description"]
    return made


def convert(amount: float, currency: Literal["EUR", "USD"]) -> float:
    """
    Convert money.

    Args:
        amount: How much.
        currency: The currency to convert to.
    """
    return amount


class Convert(pydantic.BaseModel):
    amount: float
    currency: Literal["USD", "EUR"]


class Currency(Enum):
    EUR = "EUR"
    USD = "USD"


class ConvertEnum(pydantic.BaseModel):
    amount: float
    currency: Currency


def from_pydantic(model):
    made = schema(NUMBER, CURRENCY)
    made["function"]["parameters"] = model.model_json_schema()
    return made


def required_in_each():
    made = schema({**NUMBER, "required": True}, {**CURRENCY, "required": True})
    del made["function"]["parameters"]["required"]
    return made


def required_beside_parameters():
    made = schema(NUMBER, CURRENCY)
    made["function"]["required"] = made["function"]["parameters"].pop("required")
    return made


def without_properties():
    made = schema(NUMBER, CURRENCY)
    made["function"]["parameters"] = {"amount": NUMBER, "currency": CURRENCY}
    return made


def flat():
    return {"type": "function", **schema(NUMBER, CURRENCY)["function"]}


CASES += [
    # the solution
    ("05-schema", schema(NUMBER, CURRENCY), True),
    # the other order
    (
        "05-schema",
        schema(NUMBER, {"enum": ["USD", "EUR"], "type": "string"}, ["currency", "amount"]),
        True,
    ),
    # strict, as OpenAI recommends
    ("05-schema", strict_schema(), True),
    # forgets the description, which the question asks for
    ("05-schema", without_description(), False),
    # describes each parameter
    (
        "05-schema",
        schema(
            {**NUMBER, "description": "How much money", "minimum": 0},
            {**CURRENCY, "description": "EUR or USD"},
        ),
        True,
    ),
    # the kit's describe()
    ("05-schema", describe(convert), True),
    # pydantic makes it, with titles
    ("05-schema", from_pydantic(Convert), True),
    # pydantic with an Enum, which uses $defs
    ("05-schema", from_pydantic(ConvertEnum), True),
    # an enum needs no type
    ("05-schema", schema(NUMBER, {"enum": ["EUR", "USD"]}), True),
    # a tuple becomes the same JSON
    ("05-schema", schema(NUMBER, {"type": "string", "enum": ("EUR", "USD")}), True),
    # the inner part only
    ("05-schema", schema(NUMBER, CURRENCY)["function"], False),
    # the parameters only
    ("05-schema", schema(NUMBER, CURRENCY)["function"]["parameters"], False),
    # without the inner dict
    ("05-schema", flat(), False),
    # any currency
    ("05-schema", schema(NUMBER, {"type": "string"}), False),
    # the choice in words only
    ("05-schema", schema(NUMBER, {"type": "string", "description": "EUR or USD"}), False),
    # one more currency, from the notebook's example
    ("05-schema", schema(NUMBER, {"type": "string", "enum": ["EUR", "USD", "CHF"]}), False),
    # small letters
    ("05-schema", schema(NUMBER, {"type": "string", "enum": ["eur", "usd"]}), False),
    # a string instead of a list
    ("05-schema", schema(NUMBER, {"type": "string", "enum": "EUR, USD"}), False),
    # an amount of text
    ("05-schema", schema({"type": "string"}, CURRENCY), False),
    # no cents
    ("05-schema", schema({"type": "integer"}, CURRENCY), False),
    # Python's name of the type
    ("05-schema", schema({"type": "float"}, CURRENCY), False),
    # Python's type
    ("05-schema", schema({"type": float}, CURRENCY), False),
    # types instead of schemas
    ("05-schema", schema("number", "string"), False),
    # one is required
    ("05-schema", schema(NUMBER, CURRENCY, ["amount"]), False),
    # none is required
    ("05-schema", schema(NUMBER, CURRENCY, []), False),
    # `required` inside each parameter
    ("05-schema", required_in_each(), False),
    # `required` in the wrong place
    ("05-schema", required_beside_parameters(), False),
    # properties forgotten
    ("05-schema", without_properties(), False),
    # another name
    ("05-schema", schema(NUMBER, CURRENCY, name="convert_currency"), False),
    # JSON text
    ("05-schema", json.dumps(schema(NUMBER, CURRENCY)), False),
    # the Python function
    ("05-schema", convert, False),
    # empty, not begun, printed
    ("05-schema", {}, False),
    ("05-schema", ..., False),
    ("05-schema", None, False),
]

# 05-check: check the arguments


def valid(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)


def valid_loops(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except json.JSONDecodeError:
        return False
    if type(given) is not dict:
        return False
    for name in required:
        if name not in given:
            return False
    return all(name in allowed for name in given)


def valid_broad(text, names, needed):
    try:
        keys = json.loads(text).keys()
        return not (set(needed) - keys) and not (keys - set(names))
    except Exception:
        return False


def valid_numpy(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return np.False_
    if not isinstance(given, dict):
        return np.False_
    names = list(given)
    return np.bool_(np.isin(required, names).all() and np.isin(names, allowed).all())


def valid_pydantic(arguments, allowed, required):
    try:
        given = pydantic.TypeAdapter(dict).validate_json(arguments)
    except pydantic.ValidationError:
        return False
    return all(n in given for n in required) and all(n in allowed for n in given)


def check_raises(arguments, allowed, required):
    given = json.loads(arguments)
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)


def check_any_json(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    try:
        return set(required) <= set(given) <= set(allowed)
    except TypeError:
        return False


def check_only(condition):
    def check(arguments, allowed, required):
        try:
            given = json.loads(arguments)
        except ValueError:
            return False
        return isinstance(given, dict) and condition(set(given), set(allowed), set(required))

    return check


def check_eval(arguments, allowed, required):
    try:
        given = eval(arguments)
    except Exception:
        return False
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)


def check_literal(arguments, allowed, required):
    try:
        given = ast.literal_eval(arguments)
    except Exception:
        return False
    return isinstance(given, dict) and set(required) <= set(given) <= set(allowed)


def check_dict_given(arguments, allowed, required):
    return set(required) <= set(arguments) <= set(allowed)


def check_truthy(arguments, allowed, required):
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    if not isinstance(given, dict) or set(given) - set(allowed):
        return False
    return all(bool(given.get(name)) for name in required)


def check_in_text(arguments, allowed, required):
    return all(name in arguments for name in required)


def check_printed(arguments, allowed, required):
    print(valid(arguments, allowed, required))


def check_strings(arguments, allowed, required):
    return "True" if valid(arguments, allowed, required) else "False"


def check_returns_values(arguments, allowed, required):
    return json.loads(arguments) if valid(arguments, allowed, required) else False


def check_reversed(arguments, allowed, required):
    return not valid(arguments, allowed, required)


def check_swapped(arguments, required, allowed):
    return valid(arguments, allowed, required)


def check_falls_through(arguments, allowed, required):
    if valid(arguments, allowed, required):
        return True


CASES += [
    # the solution
    ("05-check", valid, True),
    # loops
    ("05-check", valid_loops, True),
    # catches everything
    ("05-check", valid_broad, True),
    # truth values from numpy
    ("05-check", valid_numpy, True),
    # pydantic
    ("05-check", valid_pydantic, True),
    # a condition that was made elsewhere
    ("05-check", check_only(lambda given, allowed, required: required <= given <= allowed), True),
    # differences
    (
        "05-check",
        check_only(lambda given, allowed, required: not (required - given or given - allowed)),
        True,
    ),
    # a lambda around it
    ("05-check", lambda a, b, c: valid(a, b, c), True),
    # does not catch broken JSON
    ("05-check", check_raises, False),
    # takes a list of names for an object
    ("05-check", check_any_json, False),
    # only the required names
    ("05-check", check_only(lambda given, allowed, required: required <= given), False),
    # only the allowed names
    ("05-check", check_only(lambda given, allowed, required: given <= allowed), False),
    # all allowed names must be there
    ("05-check", check_only(lambda given, allowed, required: given == allowed), False),
    # no optional names
    ("05-check", check_only(lambda given, allowed, required: given == required), False),
    # one of the required names is enough
    ("05-check", check_only(lambda g, a, r: bool(g & r) and g <= a), False),
    # valid JSON is enough
    ("05-check", check_only(lambda given, allowed, required: True), False),
    # eval
    ("05-check", check_eval, False),
    # Python's literals are no JSON
    ("05-check", check_literal, False),
    # thinks that it gets a dict
    ("05-check", check_dict_given, False),
    # a required argument of 0 or "" is there, but not true
    ("05-check", check_truthy, False),
    # looks for the names in the text
    ("05-check", check_in_text, False),
    # prints
    ("05-check", check_printed, False),
    # strings
    ("05-check", check_strings, False),
    # returns the arguments
    ("05-check", check_returns_values, False),
    # the wrong way round
    ("05-check", check_reversed, False),
    # the arguments have changed places
    ("05-check", check_swapped, False),
    # nothing after the if
    ("05-check", check_falls_through, False),
    # two arguments
    ("05-check", lambda arguments, allowed: True, False),
    # the call
    ("05-check", True, False),
    # not begun, printed
    ("05-check", ..., False),
    ("05-check", None, False),
]

# 06-rate: 320 tokens per second

CASES += [
    # the solution
    ("06-rate", 8 / 0.025, True),
    # a whole number
    ("06-rate", 320, True),
    # milliseconds first
    ("06-rate", 1000 / 25 * 8, True),
    # numpy
    ("06-rate", np.float64(320), True),
    # a sum of eight streams
    ("06-rate", pd.Series([40.0] * 8).sum(), True),
    # exact numbers
    ("06-rate", Fraction(8000, 25), True),
    ("06-rate", Decimal("320"), True),
    # the unit
    ("06-rate", "320 tokens/s", True),
    ("06-rate", "320 tokens per second", True),
    # one answer only
    ("06-rate", 40, False),
    # divides by eight
    ("06-rate", 5, False),
    # forgets the milliseconds
    ("06-rate", 8 / 25, False),
    # a factor of ten
    ("06-rate", 3200, False),
    # multiplies
    ("06-rate", 8 * 25, False),
    # tokens per millisecond instead, then times a million
    ("06-rate", 320_000, False),
    # turned round
    ("06-rate", 0.025 / 8, False),
    # in words, wrong
    ("06-rate", "40 tokens/s each", False),
    # the right number, another unit
    ("06-rate", "320 tokens per minute", False),
    # eight numbers
    ("06-rate", [40] * 8, False),
    # not begun, printed, yes, played
    ("06-rate", ..., False),
    ("06-rate", None, False),
    ("06-rate", True, False),
    ("06-rate", "banana", False),
]

# 07-flag: {"image": 4}

CASES += [
    # the solution
    ("07-flag", '{"image": 4}', True),
    # no space
    ("07-flag", '{"image":4}', True),
    # more spaces
    ("07-flag", ' { "image" : 4 } ', True),
    # json.dumps
    ("07-flag", json.dumps({"image": 4}, indent=2), True),
    # a string from numpy
    ("07-flag", np.str_('{"image": 4}'), True),
    # a value of the table
    ("07-flag", pd.Series(['{"image": 10}']).str.replace("10", "4")[0], True),
    # no videos, which this model cannot read anyway
    ("07-flag", '{"image": 4, "video": 0}', True),
    # with the quotes for the shell
    ("07-flag", "'{\"image\": 4}'", True),
    # the flag in front of its value
    ("07-flag", "--limit-mm-per-prompt '{\"image\": 4}'", True),
    # the longer form that newer versions take, too
    ("07-flag", '{"image": {"count": 4}}', True),
    # the form of older versions
    ("07-flag", "image=4", False),
    # the number
    ("07-flag", 4, False),
    ("07-flag", "4", False),
    # single quotes are no JSON
    ("07-flag", str({"image": 4}), False),
    # no quotes
    ("07-flag", "{image: 4}", False),
    # a plural
    ("07-flag", '{"images": 4}', False),
    # the number as a string
    ("07-flag", '{"image": "4"}', False),
    # one for each of four
    ("07-flag", '{"image": [1, 1, 1, 1]}', False),
    # another kind of part
    ("07-flag", '{"image_url": 4}', False),
    # one image
    ("07-flag", '{"image": 1}', False),
    # a bracket is missing
    ("07-flag", '{"image": 4', False),
    # a list
    ("07-flag", '["image", 4]', False),
    # the flag without its value
    ("07-flag", "--limit-mm-per-prompt", False),
    # a word
    ("07-flag", "four", False),
    # empty, not begun, printed
    ("07-flag", "", False),
    ("07-flag", ..., False),
    ("07-flag", None, False),
]

# 08-fair: what makes a comparison unfair

CASES += [
    # the solution, in other forms
    ("08-fair", ["B", "C", "E", "G"], True),
    ("08-fair", {"G", "E", "C", "B"}, True),
    ("08-fair", "B, C, E and G", True),
    ("08-fair", "BCEG", True),
    ("08-fair", ("b", "c", "e", "g"), True),
    # one is forgotten
    ("08-fair", ["B", "C", "E"], False),
    ("08-fair", ["B", "C", "G"], False),
    # thinks that greedy decoding is unfair
    ("08-fair", ["B", "C", "E", "F", "G"], False),
    # the fair ones
    ("08-fair", ["A", "D", "F"], False),
    # all of them, none of them, one
    ("08-fair", list("ABCDEFG"), False),
    ("08-fair", [], False),
    ("08-fair", "B", False),
    # a letter that is not there, numbers
    ("08-fair", ["B", "C", "E", "G", "H"], False),
    ("08-fair", [2, 3, 5, 7], False),
    ("08-fair", ..., False),
]

# 08-scorer: one word in the first line


def one_word_solution(text):
    lines = [line for line in text.splitlines() if line.strip()]
    words = lines[0].split() if lines else []
    return len([word for word in words if any(letter.isalnum() for letter in word)]) == 1


def one_word_by_pattern(text):
    first = text.strip().split("\n")[0]
    return len(re.findall(r"\S*\w\S*", first)) == 1


CASES += [
    # the solution
    ("08-scorer", one_word_solution, True),
    # a pattern
    ("08-scorer", one_word_by_pattern, True),
    # a pattern that finds two words in "don't"
    ("08-scorer", lambda t: len(re.findall(r"\w+", t.strip().partition("\n")[0])) == 1, False),
    # the verdict as 1 or 0, or of numpy
    ("08-scorer", lambda t: int(one_word_by_pattern(t)), True),
    ("08-scorer", lambda t: np.bool_(one_word_solution(t)), True),
    # the whole text
    ("08-scorer", lambda t: len(t.split()) == 1, False),
    # the first line, even if it is empty
    ("08-scorer", lambda t: len(t.split("\n")[0].split()) == 1, False),
    # raises on an empty answer
    ("08-scorer", lambda t: len(t.strip().splitlines()[0].split()) == 1, False),
    # at most one word
    ("08-scorer", lambda t: len(re.findall(r"\w+", t.strip().partition("\n")[0])) <= 1, False),
    # counts punctuation as a word
    ("08-scorer", lambda t: len(t.strip().partition("\n")[0].split()) == 1, False),
    # no blank in it
    ("08-scorer", lambda t: " " not in t.strip(), False),
    # returns the word, returns the count, prints
    ("08-scorer", lambda t: t.split()[0] if t.split() else "", False),
    ("08-scorer", lambda t: len(t.split()), False),
    ("08-scorer", lambda t: None, False),
    # the verdict itself
    ("08-scorer", True, False),
    ("08-scorer", ..., False),
]

# 08-seat: the gain of the left seat

CASES += [
    ("08-seat", -0.583, True),
    # rounded
    ("08-seat", -0.58, True),
    ("08-seat", -0.59, True),
    ("08-seat", np.float64(-0.5826), True),
    ("08-seat", pd.Series([-0.5826]), True),
    ("08-seat", "-0.58", True),
    # the wrong sign
    ("08-seat", 0.58, False),
    # the share of the left seat, with ties and without
    ("08-seat", 68 / 252, False),
    ("08-seat", 68 / 202, False),
    # its log-odds without ties
    ("08-seat", math.log(68 / 134), False),
    # what was planted, or no bias
    ("08-seat", -0.8, False),
    ("08-seat", 0, False),
    # the interval, the words
    ("08-seat", (-0.85, -0.32), False),
    ("08-seat", "right", False),
    ("08-seat", ..., False),
]

# 09-labels: ids where the assistant writes


def labels_solution(ids, turns):
    made = [-100] * len(ids)
    for start, stop in turns:
        made[start:stop] = ids[start:stop]
    return made


def labels_in_place(ids, turns):
    for place in range(len(ids)):
        if not any(start <= place < stop for start, stop in turns):
            ids[place] = -100
    return ids


CASES += [
    ("09-labels", labels_solution, True),
    # a comprehension
    (
        "09-labels",
        lambda ids, turns: [
            t if any(a <= n < b for a, b in turns) else -100 for n, t in enumerate(ids)
        ],
        True,
    ),
    # a tuple
    ("09-labels", lambda ids, turns: tuple(labels_solution(ids, turns)), True),
    # numpy
    ("09-labels", lambda ids, turns: np.array(labels_solution(ids, turns)), True),
    # the whole prompt
    ("09-labels", lambda ids, turns: list(ids), False),
    # nothing is learned
    ("09-labels", lambda ids, turns: [-100] * len(ids), False),
    # the end of a turn is left out
    ("09-labels", lambda ids, turns: labels_solution(ids, [(a, b - 1) for a, b in turns]), False),
    # the first turn alone
    ("09-labels", lambda ids, turns: labels_solution(ids, turns[:1]), False),
    # 0 instead of -100
    (
        "09-labels",
        lambda ids, turns: [0 if t == -100 else t for t in labels_solution(ids, turns)],
        False,
    ),
    # shifted by one, which the model does itself
    ("09-labels", lambda ids, turns: [*labels_solution(ids, turns)[1:], -100], False),
    # the learned ids alone
    ("09-labels", lambda ids, turns: [t for a, b in turns for t in ids[a:b]], False),
    # changes the input
    ("09-labels", labels_in_place, False),
    # a mask
    (
        "09-labels",
        lambda ids, turns: [any(a <= n < b for a, b in turns) for n in range(len(ids))],
        False,
    ),
    ("09-labels", [-100, -100, 3], False),
    ("09-labels", ..., False),
    ("09-labels", None, False),
]

# 09-rank: r = 8 on 5120 → 32768
CASES += [
    ("09-rank", 8 * (5120 + 32768), True),
    ("09-rank", 303104, True),
    ("09-rank", "303,104", True),
    ("09-rank", "303104 parameters", True),
    ("09-rank", 5120 * 32768, False),
    ("09-rank", 8 * 5120, False),
    ("09-rank", 8 * 32768, False),
    ("09-rank", 5120 + 32768, False),
    ("09-rank", 8 * 5120 * 32768, False),
    ("09-rank", 2 * 8 * (5120 + 32768), False),
    ("09-rank", "303 thousand", False),
    ("09-rank", ..., False),
    ("09-rank", None, False),
]

# 09-memory: 92 million parameters, 16 bytes each
CASES += [
    ("09-memory", 92e6 * 16 / 1e9, True),
    ("09-memory", 1.47, True),
    ("09-memory", "1.472 GB", True),
    ("09-memory", "1,47 GB", True),
    ("09-memory", 0.368, False),
    ("09-memory", 0.736, False),
    ("09-memory", 1.104, False),
    ("09-memory", 92e6 * 16 / 2**30, False),
    ("09-memory", 1472, False),
    ("09-memory", 92e6 * 16, False),
    ("09-memory", 0.184, False),
    ("09-memory", ..., False),
    ("09-memory", None, False),
]

# 09-evidence: what speaks for a gain
CASES += [
    ("09-evidence", ["B", "D", "F"], True),
    ("09-evidence", {"B", "D", "F"}, True),
    ("09-evidence", "B, D and F", True),
    ("09-evidence", "BDF", True),
    ("09-evidence", ["b", "d", "f"], True),
    ("09-evidence", ["B"], False),
    ("09-evidence", ["B", "D"], False),
    ("09-evidence", ["A", "B", "D", "F"], False),
    ("09-evidence", ["B", "C", "D", "F"], False),
    ("09-evidence", "ABCDEF", False),
    ("09-evidence", [1, 3, 5], False),
    ("09-evidence", [], False),
    ("09-evidence", ..., False),
    ("09-evidence", None, False),
]

# 10-memory: 5600 prompt tokens

CASES += [
    # the solution
    ("10-memory", sum(20 * n + 100 * (n - 1) for n in range(1, 11)), True),
    # by hand
    ("10-memory", 5600, True),
    # Gauss
    ("10-memory", 20 * 55 + 100 * 45, True),
    # numpy
    ("10-memory", np.sum(np.arange(1, 11) * 20 + np.arange(10) * 100), True),
    # the unit
    ("10-memory", "5,600 tokens", True),
    # in a list
    ("10-memory", [5600], True),
    # the last request
    ("10-memory", 1100, False),
    # the whole conversation
    ("10-memory", 10 * 120, False),
    # the questions only
    ("10-memory", 10 * 20, False),
    # with each answer in its own prompt
    ("10-memory", sum(120 * n for n in range(1, 11)), False),
    # ten times the last
    ("10-memory", 11_000, False),
    # another unit
    ("10-memory", "5600 USD", False),
    # each prompt
    ("10-memory", [20, 140, 260], False),
    # not begun, printed
    ("10-memory", ..., False),
    ("10-memory", None, False),
]

# 10-edit: the n-th question changed


def edit_solution(messages, number, text):
    places = [i for i, message in enumerate(messages) if message["role"] == "user"]
    return [*messages[: places[number - 1]], {"role": "user", "content": text}]


def edit_counting(messages, number, text):
    kept, seen = [], 0
    for message in messages:
        seen += message["role"] == "user"
        if seen == number:
            break
        kept.append(message)
    return [*kept, {"role": "user", "content": text}]


def edit_copying(messages, number, text):
    new = [dict(message) for message in messages]
    place = [i for i, message in enumerate(new) if message["role"] == "user"][number - 1]
    new[place]["content"] = text
    return new[: place + 1]


def edit_keeping_all(messages, number, text):
    new = [dict(message) for message in messages]
    place = [i for i, message in enumerate(new) if message["role"] == "user"][number - 1]
    new[place]["content"] = text
    return new


def edit_in_place(messages, number, text):
    place = [i for i, message in enumerate(messages) if message["role"] == "user"][number - 1]
    messages[place]["content"] = text
    return messages[: place + 1]


CASES += [
    # the solution
    ("10-edit", edit_solution, True),
    # counts the questions
    ("10-edit", edit_counting, True),
    # copies and cuts
    ("10-edit", edit_copying, True),
    # a tuple of messages
    ("10-edit", lambda m, n, t: tuple(edit_solution(m, n, t)), True),
    # keeps what followed
    ("10-edit", edit_keeping_all, False),
    # changes the list that was given
    ("10-edit", edit_in_place, False),
    # appends the new question at the end
    ("10-edit", lambda m, n, t: [*m, {"role": "user", "content": t}], False),
    # the place of a message, not of a question
    ("10-edit", lambda m, n, t: [*m[:n], {"role": "user", "content": t}], False),
    # counts from 0
    ("10-edit", lambda m, n, t: edit_solution(m, min(n + 1, 2), t), False),
    # forgets the question
    ("10-edit", lambda m, n, t: edit_solution(m, n, t)[:-1], False),
    # without the system prompt
    ("10-edit", lambda m, n, t: edit_solution(m, n, t)[1:], False),
    # without the tools
    (
        "10-edit",
        lambda m, n, t: [
            each for each in edit_solution(m, n, t) if "tool" not in f"{each['role']}{[*each]}"
        ],
        False,
    ),
    # another role
    (
        "10-edit",
        lambda m, n, t: [*edit_solution(m, n, t)[:-1], {"role": "me", "content": t}],
        False,
    ),
    # a text, the other order of arguments, nothing
    ("10-edit", lambda m, n, t: t, False),
    ("10-edit", lambda m, n: m, False),
    ("10-edit", lambda m, n, t: None, False),
    ("10-edit", ..., False),
    ("10-edit", None, False),
]

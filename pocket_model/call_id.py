"""Ids of tool calls, in the only form that Mistral's tokenizers accept."""

import random
import string
from collections.abc import Callable

CALL_ID_PATTERN = "[a-zA-Z0-9]{9}"
_CHARACTERS = string.ascii_letters + string.digits


def new_call_id(random_below: Callable[[int], int] = random.randrange) -> str:
    """A random id of nine letters and digits.

    Args:
        random_below: returns a random integer from 0 to its argument minus 1. It is called nine
            times, so that a seeded generator gives the same id again.
    """
    return "".join(_CHARACTERS[random_below(len(_CHARACTERS))] for _ in range(9))

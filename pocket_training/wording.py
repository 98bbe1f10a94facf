"""TODO."""

from random import Random

from pocket_training import tool_words as words

FRAMED_SHARE = 0.3  # of the training requests: with words of courtesy before or after


def framed(template: str, rng: Random) -> str:
    """A request as people begin and end one. Words after a text that is not quoted would be its."""
    if rng.random() < 0.4 and template.endswith((".", "?")):
        return f"{template} {rng.choice(words.CLOSINGS)}"
    return f"{rng.choice(words.OPENINGS)} {template}"

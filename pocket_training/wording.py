"""Words of courtesy around a request."""

from random import Random

from pocket_training import words

COURTESY_SHARE = 0.3  # of the training requests: with words of courtesy before or after


def with_courtesy(template: str, split: str, rng: Random) -> str:
    """A training request, at times as people begin and end one; a held-out one as it is.

    Words that follow a text without quotation marks would become part of that text.
    """
    if split != "train" or rng.random() >= COURTESY_SHARE:
        return template
    if rng.random() < 0.4 and template.endswith((".", "?")):
        return f"{template} {rng.choice(words.courtesies().closings)}"
    return f"{rng.choice(words.courtesies().openings)} {template}"

"""How one request's next token is chosen: the same rule in both engines."""

from dataclasses import dataclass, field

import torch

from pocket_model.server.grammar import Guide

# Dividing by less overflows to infinity, and the differences that it magnifies are rounding.
GREEDY_BELOW = 1e-5


@dataclass
class Sampler:
    """Temperature, nucleus and seed of one request; it owns its random numbers.

    `temperature` 0, or next to it, takes the likeliest token. With a `seed` the same prompt gives
    the same tokens, whatever other requests run beside it. A `guide` rules out tokens first and
    is told of the chosen one.
    """

    temperature: float
    top_p: float = 1.0
    seed: int | None = None
    guide: Guide | None = None
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self):
        self._generator = torch.Generator()
        if self.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """The next token's id, from `logits` of shape [vocabulary]."""
        if self.guide is None:
            return self._draw(logits)
        token = self.guide.must_come
        if token is None:
            token = self._draw(self.guide.mask(logits))
        self.guide.accept(token, self._generator)
        return token

    def go_on(self, logits: torch.Tensor, most: int) -> list[int]:
        """The next token, and up to ``most`` in all with those that must follow it.

        Nobody has to choose them, so the model need not be asked again for each.
        """
        chosen = [self.choose(logits)]
        while self.guide and len(chosen) < most and (token := self.guide.must_come) is not None:
            self.guide.accept(token, self._generator)
            chosen.append(token)
        return chosen

    def _draw(self, logits: torch.Tensor) -> int:
        if self.temperature < GREEDY_BELOW:
            return int(logits.argmax())
        probabilities = torch.softmax(logits.double() / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, tokens = probabilities.sort(descending=True)
            # A token stays while the mass before it has not reached top_p: the first always does.
            dropped = ordered.cumsum(0) - ordered >= self.top_p
            # Drawn in the vocabulary's order: a token's luck must not hang on its rank, which
            # rounding can change.
            probabilities[tokens[dropped]] = 0
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _only(scores: torch.Tensor, row: int, token: int) -> None:
    """Leave `token` alone possible in a row, so that the engine's argmax takes it."""
    scores[row] = float("-inf")
    scores[row, token] = 0.0

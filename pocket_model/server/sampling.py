"""How one request's next token is chosen, by a rule and a random stream of its own."""

import secrets
from dataclasses import dataclass, field

import torch

from pocket_model.server.grammar import Guide

# Dividing by less overflows to infinity, and the differences that it magnifies are rounding.
MIN_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class LogProbability:
    """How likely the model found a token, before temperature, top-p and any grammar.

    Attributes:
        own: the natural logarithm of its probability.
        likeliest: the likeliest tokens at its place, each with the same.
    """

    own: float
    likeliest: list[tuple[int, float]]


@dataclass
class Sampler:
    """Temperature, top-p and seed of one request, with a random generator of its own.

    A `temperature` of 0, or nearly 0, takes the likeliest token. With a `seed`, the same prompt
    gives the same tokens, whatever other requests run at the same time. A `guide` rules out
    tokens first, and then advances by the chosen token. `logprobs` is how many of the likeliest
    tokens are told with each; None tells nothing.
    """

    temperature: float
    top_p: float = 1.0
    seed: int | None = None
    guide: Guide | None = None
    logprobs: int | None = None
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self):
        seed = secrets.randbits(63) if self.seed is None else self.seed
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def error(self) -> str | None:
        """Why the guide could not go on, if so; the answer is then not what it should be."""
        return self.guide.error if self.guide else None

    def sample(self, logits: torch.Tensor) -> int:
        """The next token's id, from `logits` of shape (vocabulary,)."""
        if self.guide is None:
            return self._draw(logits)
        token = self.guide.forced_token
        if token is None:
            token = self._draw(self.guide.mask(logits))
        self.guide.advance(token, self._generator)
        return token

    def sample_run(self, logits: torch.Tensor, max_tokens: int) -> list[int]:
        """The next token and those that the guide forces after it, which need no model.

        Their log probabilities do: if these are asked for, a run has one token.

        Args:
            logits: shape (vocabulary,).
            max_tokens: limit of the whole run.
        """
        run = [self.sample(logits)]
        while self._forces_another and len(run) < max_tokens:
            run.append(self.sample(logits))
        return run

    @property
    def _forces_another(self) -> bool:
        return self.logprobs is None and bool(self.guide) and self.guide.forced_token is not None

    def log_probability(self, logits: torch.Tensor, token: int) -> LogProbability | None:
        """How likely the model found a token that was chosen from `logits`, if that is asked."""
        if self.logprobs is None:
            return None
        logs = torch.log_softmax(logits.float(), dim=-1)
        tokens = _likeliest(logits.float(), self.logprobs)
        likeliest = list(zip(tokens.tolist(), logs[tokens].tolist(), strict=True))
        return LogProbability(float(logs[token]), likeliest)

    def _draw(self, logits: torch.Tensor) -> int:
        if self.temperature < MIN_TEMPERATURE:
            return int(logits.argmax())
        probabilities = torch.softmax(logits.double() / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered, tokens = probabilities.sort(descending=True)
            # A token stays while the mass before it has not reached top_p: the first always does.
            dropped = ordered.cumsum(0) - ordered >= self.top_p
            # Tokens are drawn in the vocabulary's order. In the sorted order, rounding could
            # change a token's rank, and with it what the seed draws.
            probabilities[tokens[dropped]] = 0
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _likeliest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ids of the likeliest tokens; of equal ones the lowest first, which `argmax` takes."""
    least = logits.topk(count).values[-1] if count else torch.inf
    tokens = (logits >= least).nonzero()[:, 0]
    return tokens[logits[tokens].argsort(descending=True, stable=True)][:count]

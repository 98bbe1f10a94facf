"""The sampler against scipy and numpy; the stop-string filter against plain `str.find`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pocket_model.reply import StopText
from pocket_model.server.sampling import Sampler

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 3.0])


def softmax(logits, temperature):
    scaled = np.exp(logits.numpy().astype(float) / temperature)
    return scaled / scaled.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    sampler = Sampler(temperature, seed=0)
    drawn = np.bincount([sampler.sample(LOGITS) for _ in range(4000)], minlength=5)
    expected = softmax(LOGITS, temperature) * 4000
    assert stats.chisquare(drawn, expected).pvalue > 1e-3


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    # probabilities 0.64, 0.23, 0.09, …: 0.8 needs the first two
    sampler = Sampler(1.0, top_p=0.8, seed=0)
    assert {sampler.sample(LOGITS) for _ in range(500)} == {4, 0}


def test_temperature_zero_is_the_likeliest_and_tiny_ones_do_not_overflow():
    assert Sampler(0).sample(LOGITS) == 4
    assert Sampler(1e-6, seed=0).sample(LOGITS * 100) == 4


def test_a_seed_repeats_and_no_seed_does_not():
    def draw(seed):
        sampler = Sampler(1.0, seed=seed)
        return [sampler.sample(torch.zeros(1000)) for _ in range(20)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_a_seed_gives_the_same_tokens_after_a_change_of_ranks():
    """Rounding that puts close tokens in another order changes few draws, with top_p too."""
    generator = torch.Generator().manual_seed(0)
    for top_p in (1.0, 0.9):
        same = 0
        for seed in range(300):
            logits = torch.randn(1000, generator=generator)
            nudged = logits + 1e-3 * torch.randn(1000, generator=generator)
            drawn = [Sampler(1.5, top_p, seed).sample(each) for each in (logits, nudged)]
            same += drawn[0] == drawn[1]
        assert same >= 290


class NeverTheBest:
    """A guide that rules out the likeliest token and remembers what was chosen."""

    forced_token = None  # there is always a choice

    def __init__(self):
        self.chosen = []

    def mask(self, logits):
        return logits.masked_fill(logits == logits.max(), float("-inf"))

    def advance(self, token, generator):
        self.chosen.append((token, int(torch.randint(1000, (1,), generator=generator))))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_guide_rules_out_tokens_and_draws_from_the_same_seed(temperature):
    guides = [NeverTheBest(), NeverTheBest()]
    for guide in guides:
        sampler = Sampler(temperature, seed=5, guide=guide)
        chosen = [sampler.sample(LOGITS) for _ in range(50)]
        assert 4 not in chosen
        assert [token for token, _ in guide.chosen] == chosen
    assert guides[0].chosen == guides[1].chosen
    assert (torch.tensor([2.0, 1.0, 0.0, -1.0, 3.0]) == LOGITS).all()  # left as they were


@given(
    st.text("ab<", max_size=30),
    st.lists(st.text("ab<", min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_stop_text_cuts_where_the_first_stop_string_stands(text, stops, step):
    stopper = StopText(stops)
    sent = ""
    for start in range(0, len(text), step):
        sent += stopper.add(text[start : start + step])
        if stopper.hit:
            break
    sent += stopper.rest()
    if not stopper.hit:
        assert sent == text
        assert all(stop not in text for stop in stops)
    else:
        # Pieces of one character find the stop string that is complete first; larger pieces may
        # complete several at once, and then the one that begins first counts.
        assert text.startswith(sent)
        assert any(text[len(sent) :].startswith(stop) for stop in stops)
        assert all(stop not in sent for stop in stops)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_of_equally_likely_tokens_the_chosen_one_is_told_first(count):
    logits = torch.zeros(49_196)
    logits[[7, 300, 4_000, 31_000]] = torch.tensor([5.0, 9.0, 9.0, 9.0])
    sampler = Sampler(temperature=0, logprobs=count)
    (token,) = sampler.sample_run(logits, 1)
    told = sampler.log_probability(logits, token)
    ids = [300, 4_000, 31_000, 7, 0, 1, 2, 3, 4, 5, 6, *range(8, 17)]
    assert token == 300
    assert [found for found, _ in told.likeliest] == ids[:count]

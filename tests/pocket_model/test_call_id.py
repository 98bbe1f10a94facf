"""Call ids: nine letters and digits, from the caller's own random numbers."""

import random
import re
import string

import torch

from pocket_model.call_id import CALL_ID_PATTERN, new_call_id

CHARACTERS = string.ascii_letters + string.digits


def test_ids_have_the_form_and_differ():
    ids = {new_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(CALL_ID_PATTERN, call_id) for call_id in ids)
    assert set("".join(ids)) <= set(CHARACTERS)


def test_a_seeded_generator_gives_the_ids_of_random_choices():
    rng, same = random.Random(5), random.Random(5)
    for _ in range(20):
        expected = "".join(rng.choices(CHARACTERS, k=9))
        assert new_call_id(lambda size: int(same.random() * size)) == expected


def test_torchs_generator_draws_as_many_numbers_as_characters():
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    indices = torch.randint(len(CHARACTERS), (9,), generator=generator)
    call_id = new_call_id(lambda size: int(torch.randint(size, (), generator=same)))
    assert call_id == "".join(CHARACTERS[index] for index in indices)
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=same))

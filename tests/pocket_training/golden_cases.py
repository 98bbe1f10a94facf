"""Hashes of generated cases: what the recipe makes from a seed must not change by accident.

`python tests/pocket_training/golden_cases.py` prints the hashes as JSON. A change on purpose (a
word added, a template changed) renews the file: ... > tests/pocket_training/golden_cases.json
"""

import dataclasses
import hashlib
import json
import sys
from itertools import chain, islice
from random import Random

import numpy as np
from PIL import Image

from pocket_model.build import ensure_built
from pocket_model.chat_format import ChatFormat
from pocket_training import chat_tasks
from pocket_training.examples import ExampleEncoder
from pocket_training.mixed_tasks import mixed_examples
from pocket_training.picture_tasks import counterfactual_pairs as picture_pairs
from pocket_training.picture_tasks import picture_groups
from pocket_training.scenes import SCENES
from pocket_training.tool_tasks import SKILLS, SPLITS, tool_groups
from pocket_training.tool_tasks import counterfactual_pairs as tool_pairs

CASES = 1000
SEED = 7


def feed(digest, value) -> None:
    """Add a value to a hash by what it holds, whatever its fields are called."""
    if isinstance(value, Image.Image):
        digest.update(repr(value.size).encode() + value.tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(repr(value.shape).encode() + value.tobytes())
    elif dataclasses.is_dataclass(value):
        feed(digest, [getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, list | tuple):
        digest.update(b"[")
        for item in value:
            feed(digest, item)
        digest.update(b"]")
    else:
        digest.update(json.dumps(value).encode() + b";")


def digest_of(cases, count: int = CASES) -> str:
    digest = hashlib.sha256()
    counted = 0
    for case in islice(cases, count):
        feed(digest, case)
        counted += 1
    assert counted == count
    return digest.hexdigest()[:24]


def hashes() -> dict[str, str]:
    """One hash for 1,000 cases of each skill or kind of picture, in each split."""
    digests = {}
    encoder = ExampleEncoder(ChatFormat(ensure_built() / "tekken.json"))
    for split in SPLITS:
        for skill in SKILLS:
            groups = tool_groups(split, skill, groups=200, per_group=5, seed=SEED)
            digests[f"{split} tools {skill}"] = digest_of(chain.from_iterable(groups))
        pairs = tool_pairs(split, pairs=500, seed=SEED)
        digests[f"{split} tools counterfactual"] = digest_of(chain.from_iterable(pairs))
        for kind in (*SCENES, "two"):
            groups = picture_groups(split, kind, groups=CASES, seed=SEED)
            digests[f"{split} pictures {kind}"] = digest_of(chain.from_iterable(groups))
        pairs = picture_pairs(split, pairs=500, seed=SEED)
        digests[f"{split} pictures counterfactual"] = digest_of(chain.from_iterable(pairs))
        digests[f"{split} chats"] = digest_of(chat_tasks.prompts(split, 300, SEED), 300)
        mixed = (mixed_examples(encoder, split, Random(i)) for i in range(100))
        digests[f"{split} mixed"] = digest_of(chain.from_iterable(mixed), 200)
    return digests


if __name__ == "__main__":
    json.dump(hashes(), sys.stdout, indent=2)
    print()

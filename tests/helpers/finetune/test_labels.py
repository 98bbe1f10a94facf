"""Labels against conversations that were marked by hand, and planted faults that must be found."""

import pytest
import torch

from helpers import wire
from helpers.finetune import labels

# What is between « and » is learned; the rest is only read.
BY_HAND = [
    "<s>[INST]Hello[/INST]«Hi!</s>»",
    "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hello[/INST]«Hi!</s>»",
    "<s>[INST]a[/INST]«b</s>»[INST]c[/INST]«d</s>»",
    "<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][INST]a[/INST]«b</s>»[INST]c[/INST]«d</s>»",
    '<s>[INST]Order 4812.[/INST]«{"topic": "delivery", "order": 4812}</s>»',
    "<s>[INST]What is 2+2?[/INST]«4</s>»[INST]And 3+3?[/INST]«6</s>»[INST]5+5?[/INST]«10</s>»",
    "<s>[INST]naïve 水[/INST]«🌊 ok</s>»",
    "<s>[INST]Two\nlines[/INST]«One\n\ntwo</s>»",
    "<s>[INST]same[/INST]«same</s>»",
    "<s>[SYSTEM_PROMPT]Fill in the record.[/SYSTEM_PROMPT][INST]x[/INST]«null</s>»",
]


def messages_of(marked: str) -> list[dict[str, str]]:
    marked = marked.removeprefix("<s>")
    found = []
    for start, end, role in (("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "system"),):
        if marked.startswith(start):
            content, marked = marked.removeprefix(start).split(end, 1)
            found.append({"role": role, "content": content})
    for turn in marked.split("[INST]")[1:]:
        asked, told = turn.split("[/INST]")
        found.append({"role": "user", "content": asked})
        found.append({"role": "assistant", "content": told.strip("«»").removesuffix("</s>")})
    return found


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return wire.from_file(model_folder / "tekken.json")


def shown(tokenizer, example: labels.Example) -> str:
    """An example as in `BY_HAND`, from its ids and labels."""
    tekken = tokenizer.instruct_tokenizer.tokenizer
    text, learning = b"", False
    for token, label in zip(example.ids, example.labels, strict=True):
        assert label in (token, -100)
        if (label != -100) != learning:
            learning = not learning
            text += ("«" if learning else "»").encode()
        special = tekken.is_special(token)
        text += tekken.id_to_piece(token).encode() if special else tekken.id_to_byte_piece(token)
    return text.decode() + ("»" if learning else "")


@pytest.mark.parametrize("marked", BY_HAND)
def test_the_labels_are_those_marked_by_hand(tokenizer, marked):
    example = labels.encode(tokenizer, messages_of(marked))
    assert shown(tokenizer, example) == marked
    assert labels.faults(example, labels.end_id(tokenizer)) == []


def test_mistrals_own_vocabulary_gives_the_same_places():
    for marked in BY_HAND:
        example = labels.encode(wire.tokenizer("v11"), messages_of(marked))
        assert shown(wire.tokenizer("v11"), example) == marked


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (lambda e, end: [-100 if t == end else t for t in e.labels], "would not stop"),
        (lambda e, end: e.ids, "prompt is learned"),
        (lambda e, end: [-100] * len(e.ids), "Nothing is learned"),
        # the second of two ends
        (lambda e, end: [*e.labels[:-1], -100], "would not stop"),
    ],
)
def test_planted_faults_are_found(tokenizer, plant, says):
    example = labels.encode(tokenizer, messages_of(BY_HAND[2]))
    end = labels.end_id(tokenizer)
    (found,) = labels.faults(labels.Example(example.ids, plant(example, end)), end)
    assert says in found


def test_what_the_format_forbids_is_told(tokenizer):
    asked = {"role": "user", "content": "a"}
    with pytest.raises(ValueError, match=r"forbids .*Expected last role Assistant"):
        labels.encode(tokenizer, [asked])


def test_a_batch_is_filled_on_the_right_and_what_is_filled_is_not_learned(tokenizer):
    examples = [labels.encode(tokenizer, messages_of(BY_HAND[n])) for n in (0, 5)]
    made = labels.batch(examples, labels.pad_id(tokenizer))
    short, long = (len(example.ids) for example in examples)
    assert {tuple(tensor.shape) for tensor in made.values()} == {(2, long)}
    assert made["attention_mask"].sum(1).tolist() == [short, long]
    assert (made["labels"][0, short:] == -100).all()
    assert (made["input_ids"][0, short:] == labels.pad_id(tokenizer)).all()
    assert made["labels"][1].tolist() == examples[1].labels
    assert made["input_ids"].dtype == torch.int64
    assert labels.pad_id(tokenizer) != labels.end_id(tokenizer)


def test_rows_are_as_long_as_the_longest_example():
    examples = [labels.Example([1, 5, 2], [-100, 5, 2]), labels.Example([1, 2], [-100, 2])]
    rows = labels.batch(examples, 0)
    assert rows["input_ids"].tolist() == [[1, 5, 2], [1, 2, 0]]
    assert rows["labels"].tolist() == [[-100, 5, 2], [-100, 2, -100]]
    assert rows["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_batch_needs_an_example():
    with pytest.raises(ValueError, match="no examples"):
        labels.batch([], 11)

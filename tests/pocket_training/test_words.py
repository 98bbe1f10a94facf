"""The files of words: what they must not hold is refused by file, line and key."""

import subprocess
import sys

import pytest

from pocket_training import words

CHATS = """\
subjects: {train: [rain, snow], held_out: [fog]}
phrasings:
  train: ["Why {}?"]
  held_out: ["How {}?"]
other_questions: {train: [Hello!], held_out: [Hi!]}
system_prompts: {train: [Be brief.], held_out: [Be kind.]}
mixed_system_prompts: {train: [Help.], held_out: [Answer.]}
open: {train: ["Why {it}?"], held_out: ["How {it}?"]}
rules: {it: [this, that]}
told: [{tell: ["It is {it}."], ask: ["Is it {it}?"]}]
noted: [I see.]
shortened: {you: u}
"""


@pytest.fixture
def read(tmp_path):
    """A function that reads a text as `chats.yaml`, with one part replaced."""

    def read(old: str, new: str) -> words.ChatWords:
        assert CHATS.count(old) == 1
        path = tmp_path / "chats.yaml"
        path.write_text(CHATS.replace(old, new), encoding="utf-8")
        return words.load(path, words.ChatWords)

    return read


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('\n  held_out: ["How {}?"]', "", r"line 2: phrasings\.held_out: Field required"),
        (
            "[rain, snow]",
            "[rain, snow, rain]",
            r"line 1: subjects\.train\.2: 'rain' is there twice",
        ),
        ("other_questions", "other_question", r"line 5: other_question: Extra inputs"),
        ("other_questions", "other_question", r"line 1: other_questions: Field required"),
        ("  held_out: [", "  heldout: [", r"line 4: phrasings\.heldout: Extra inputs"),
        ("  held_out: [", "  train: [", r"line 4: phrasings\.train: 'train' is there twice"),
        ("[Hi!]", "[Hi!, no]", r"line 5: other_questions\.held_out\.1\.str: Input should be"),
        ("[Hi!]", "[{times: 2, oft: [Hi!]}]", r"line 5: .*oft: Extra inputs"),
        (
            "[Be kind.]",
            "Be kind.",
            r"line 6: system_prompts\.held_out: Input should be a valid list",
        ),
        ("[Be kind.]", "[Be kind.", r"line 6: did not find expected"),
    ],
)
def test_what_is_refused_is_named_by_file_line_and_key(read, old, new, message):
    with pytest.raises(words.WordsError, match=rf"chats\.yaml, {message}"):
        read(old, new)


def test_an_entry_is_repeated_on_purpose_by_its_times(read):
    lists = read("[rain, snow]", "[ice, {times: 2, of: [rain, snow]}]")
    assert lists.subjects["train"] == ["ice", "rain", "snow", "rain", "snow"]
    assert lists.subjects["held_out"] == ["fog"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("customer: person", "customer: persn", r"'persn' is none of boolean, person"),
        ("{integer: [1, 99]}", "{integr: [1, 99]}", r"is none of boolean"),
        ("{number: [0.1, 90.0]}", "{number: [0.1, heavy]}", r"is none of boolean"),
    ],
)
def test_a_parameter_holds_what_is_known(tmp_path, old, new, message):
    path = tmp_path / "tools.yaml"
    text = (words.FOLDER / "tools.yaml").read_text(encoding="utf-8")
    line = text[: text.index(old)].count("\n") + 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(words.WordsError, match=rf"tools\.yaml, line {line}: parameters.*{message}"):
        words.load(path, words.ToolWords)


def test_a_file_is_read_by_those_who_use_its_words_only():
    """Drawing scenes reads no words, and questions about pictures read none about tools."""
    code = """
import sys
from random import Random
from pocket_training import scenes
for draw in scenes.SCENES.values():
    draw(Random(1), "train").draw()
assert not [name for name in sys.modules if name == "pocket_training.words"]
from pocket_training import picture_tasks, words
for kind in (*scenes.SCENES, "two"):
    list(picture_tasks.picture_groups("train", kind, groups=5, seed=1))
assert words.pictures.cache_info().currsize
read = (words.tools, words.chats, words.commands)
assert not any(each.cache_info().currsize for each in read)
assert not [name for name in sys.modules if name.startswith("pocket_training.tool")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""The widget of blind votes: buttons, keys, the file, and nothing of an answer becomes HTML."""

import ipywidgets as widgets
import pytest

from helpers.compare import votes
from helpers.compare.votes import Ballot, Vote
from helpers.widgets.votes import VIEW, VoteBox

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
BALLOTS = [
    Ballot("q1", "First?", "model A", "model B", "answer one", HOSTILE),
    Ballot("q2", HOSTILE, "model B", "model A", "", "answer four"),
    Ballot("q3", "Third?", "model A", "model B", "five", "six"),
]


@pytest.fixture
def box(tmp_path):
    return VoteBox(BALLOTS, tmp_path / "new" / "votes.jsonl", [Vote("q", "A", HOSTILE, "tie")])


def everything(box) -> str:
    pages = [box.prompt, box.left, box.right, box.status]
    return "".join(page.value for page in pages)


def test_a_click_votes_and_is_kept_at_once(box):
    box.buttons["left"].click()
    assert [vote.choice for vote in votes.read(box.path)] == ["left"]
    assert "Kept: left. 2 to go." in box.status.value
    box.buttons["tie"].click()
    box.buttons["right"].click()
    assert [(v.question, v.choice) for v in votes.read(box.path)] == [
        ("q1", "left"),
        ("q2", "tie"),
        ("q3", "right"),
    ]
    assert "none is open" in box.status.value
    assert all(button.disabled for button in box.buttons.values())
    box.vote("left")
    assert len(votes.read(box.path)) == 3


def test_keys_vote(box):
    for key in ("1", "x", "0", " ", "2"):
        box.key.value = key
        assert box.key.value in ("", " ")
    assert [vote.choice for vote in votes.read(box.path)] == ["left", "tie", "right"]


def test_another_key_is_explained(box):
    box.key.value = "9"
    assert "The keys are 1 (left), 2 (right) and 0 (tie)." in box.status.value
    assert not box.path.exists()


def test_no_name_is_shown(box):
    for _ in BALLOTS:
        assert "model" not in everything(box)
        box.vote("tie")


def test_texts_are_escaped(box):
    assert "<script" not in everything(box)
    assert "&lt;script&gt;" in everything(box)
    box.vote("tie")
    assert "<script" not in everything(box)
    assert "(no text)" in box.left.value
    assert "<script" not in box.as_html()


def test_a_session_goes_on_where_it_ended(box):
    box.vote("left")
    again = VoteBox(BALLOTS, box.path)
    assert [ballot.question for ballot in again.open] == ["q2", "q3"]
    other = Ballot("q1", "First?", "model A", "model B", "another answer", HOSTILE)
    assert VoteBox([other], box.path).open == [other]


def test_a_file_that_cannot_be_written_loses_no_ballot(tmp_path):
    (tmp_path / "folder").write_text("a file where the folder should be")
    box = VoteBox(BALLOTS, tmp_path / "folder" / "votes.jsonl")
    box.vote("left")
    assert "The vote is not kept" in box.status.value
    assert len(box.open) == 3


def test_without_a_front_end_the_recorded_votes_are_shown(box):
    bundle = box._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == box.box.model_id
    assert "1 recorded votes" in bundle["text/html"]
    assert "q | A |" in bundle["text/plain"]


def test_every_control_has_a_description(box):
    controls = [*box.buttons.values(), box.key]
    assert all(
        isinstance(control, widgets.DOMWidget) and control.description for control in controls
    )
    assert 'role="status"' in box.status.value

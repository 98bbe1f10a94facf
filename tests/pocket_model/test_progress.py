"""Progress in a terminal, in a pipe, in a notebook that a person sees, and in one without."""

import io
import sys

import pytest
from jupyter_client.manager import start_new_kernel

from labkit import notebooks
from pocket_model.progress import Progress

SLOW = """
import time
from pocket_model.progress import Progress
progress = Progress("Making 2 < 3")
progress.update("step 1 of 2: this", 0.25)
progress.end("It is made.")
quick = Progress("Quick", quiet_s=60)
quick.end("It was quick.")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_changes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    exec(SLOW)
    title, *lines = terminal.getvalue().replace("\n", "\r").split("\r")
    assert title == "Making 2 < 3."
    shown = [line.strip() for line in lines if line]
    assert shown[-2:] == ["[###---------] step 1 of 2: this, 0 s", "It is made."]
    assert all(len(line) == 39 for line in lines if line)  # each covers the one before


def test_the_end_of_a_block_keeps_the_sentence(capsys):
    with Progress("Making it") as progress:
        progress.update("step 1 of 2: this", 0.25)
        progress.end("It is made.")
    assert capsys.readouterr().err.splitlines()[-1] == "It is made."


def test_an_interrupted_step_leaves_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())

    def interrupted() -> None:
        with Progress("Making it") as progress:
            progress.update("step 1 of 2: this", 0.25)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert terminal.getvalue().rsplit("\r", 2)[1].strip() == ""


def test_an_end_without_a_sentence_clears_the_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    Progress("Making it").end()
    assert terminal.getvalue().rsplit("\r", 2)[1].strip() == ""


def test_a_pipe_gets_one_line_for_each_step(capsys):
    progress = Progress("Making it")
    for megabytes in (0, 40, 93):
        progress.update(f"step 1 of 2: downloading, {megabytes} of 93 MB", megabytes / 186)
    progress.update("step 2 of 2: unpacking", 0.5)
    progress.end("It is made.")
    out, err = capsys.readouterr()
    steps = ["  step 1 of 2: downloading", "  step 2 of 2: unpacking"]
    assert err.splitlines() == ["Making it.", *steps, "It is made."]
    assert out == ""


def test_what_is_quick_or_asks_for_no_lines_is_not_shown(capsys):
    for progress in (Progress("Making it", quiet_s=60), Progress("Making it", lines=False)):
        progress.update("step 1 of 2: this", 0.5)
        progress.end("It is made.")
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(extra_arguments=notebooks.KERNEL_OPTIONS)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def messages(kernel, person: bool) -> list[tuple[str, dict]]:
    """What a kernel shows; the page of a person, unlike a program, can answer questions."""
    shown = []
    reply = kernel.execute_interactive(
        SLOW,
        allow_stdin=person,
        timeout=60,
        output_hook=lambda message: shown.append((message["msg_type"], message["content"])),
    )
    assert reply["content"]["status"] == "ok"
    return [(kind, content) for kind, content in shown if kind not in ("status", "execute_input")]


def test_a_notebook_shows_one_output_that_changes_and_nothing_red(kernel):
    shown = messages(kernel, person=True)
    assert [kind for kind, _ in shown] == ["display_data"] + 3 * ["update_display_data"]
    assert len({content["transient"]["display_id"] for _, content in shown}) == 1
    assert "Making 2 &lt; 3.<br><progress" in shown[2][1]["data"]["text/html"]
    assert 'value="0.250"' in shown[2][1]["data"]["text/html"]
    texts = [content["data"]["text/plain"] for _, content in shown]
    assert texts[2:] == ["Making 2 < 3. step 1 of 2: this, 0 s", "It is made."]


def test_a_notebook_that_a_program_executes_shows_nothing(kernel):
    assert messages(kernel, person=False) == []

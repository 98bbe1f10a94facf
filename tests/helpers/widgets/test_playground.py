"""The playground: plain functions and widgets, with the pocket model and with scripted faults."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import ipywidgets as widgets
import pytest
from page_elements import Elements
from PIL import Image, ImageDraw
from scripted_chat import HANG, calls, lab_of, running, says

from helpers import connect, images
from helpers.backends import BackendError
from helpers.paths import DATA
from helpers.widgets import live, playground, uploads
from helpers.widgets.playground import app, column, starters, transcript
from labkit import toolbox
from pocket_model.build import MODEL_ID
from pocket_model.cache import CACHE_VARIABLE

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"' & </p>"
SHAPES = DATA / "images" / "shapes.png"


@pytest.fixture
def server():
    with running() as scripted:
        yield scripted


@pytest.fixture
def scripted_lab(server):
    return lab_of(server.url)


@pytest.fixture
def chat():
    return playground.Conversation(temperature=0, max_tokens=40)


def png(size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def wait(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def harmless(page: str) -> bool:
    """Whether a page has no script, no handler, and no picture but embedded ones."""
    for tag, attributes in Elements(page).elements:
        if tag == "script" or any(name.startswith("on") for name in attributes):
            return False
        if tag == "img" and not attributes["src"].startswith("data:image/"):
            return False
    return True


# One turn


def test_a_request_sends_the_whole_conversation(scripted_lab, server, chat):
    chat.system = "Be brief."
    server.script = [says("Pa", "ris."), says("Rome.")]
    turn = playground.send(scripted_lab, chat, "Capital of France?")
    assert (turn.answer, turn.prompt_tokens, turn.completion_tokens) == ("Paris.", 12, 3)
    assert turn.finish_reason == "stop"
    assert 0 < turn.first_token_s <= turn.total_s
    assert turn.usd is None
    playground.send(scripted_lab, chat, "And of Italy?")
    contents = [message["content"] for message in server.seen[1]["messages"]]
    assert contents == ["Be brief.", "Capital of France?", "Paris.", "And of Italy?"]
    assert server.seen[0]["stream_options"] == {"include_usage": True}
    assert "tools" not in server.seen[0]


def test_text_arrives_piece_by_piece(scripted_lab, server, chat):
    server.script, texts = [says("a", "b", "c")], []
    playground.send(scripted_lab, chat, "Go", on_change=lambda turn: texts.append(turn.text))
    assert [text for text in texts if text] == ["a", "ab", "abc"]


def test_calls_are_put_together_from_their_pieces_and_run(scripted_lab, server, chat):
    first = {"index": 0, "id": "aaaaaaaa1", "type": "function"}
    server.script = [
        calls(
            first | {"function": {"name": "calculate", "arguments": '{"expres'}},
            {"index": 0, "function": {"arguments": 'sion": "6*7"}'}},
            # another call at the same index, as Ollama sends it
            first
            | {"id": "aaaaaaaa2"}
            | {"function": {"name": "calculate", "arguments": '{"expression": "1+1"}'}},
        ),
        says("42 and 2."),
    ]
    turn = playground.send(scripted_lab, chat, "Compute", tools=toolbox.TOOLS)
    assert [message["role"] for message in turn.messages] == [
        *("user", "assistant", "tool", "tool", "assistant")
    ]
    assert [message["content"] for message in turn.messages[2:]] == ["42", "2", "42 and 2."]
    assert [message["role"] for message in server.seen[1]["messages"]][-2:] == ["tool", "tool"]
    assert turn.prompt_tokens == 24  # of both requests


@pytest.mark.pocket
def test_the_pocket_model_calls_a_tool_in_a_stream(lab, chat):
    question = "What is the population of Japan in millions?"
    turn = playground.send(lab, chat, question, tools=toolbox.TOOLS)
    assert not turn.error
    assert turn.messages[1]["tool_calls"][0]["function"]["name"] == "get_current_population"
    assert turn.messages[2]["role"] == "tool"
    assert turn.answer


@pytest.mark.pocket
def test_the_pocket_model_gets_the_picture(lab, chat):
    parts = []
    for color in ((220, 20, 20), (20, 20, 220)):
        picture = Image.new("RGB", (168, 168), "white")
        ImageDraw.Draw(picture).rectangle((40, 40, 120, 120), fill=color)
        parts.append(images.image_part(picture))
    red, blue = parts
    question, other = "What colour is the square?", playground.Conversation(temperature=0)
    first = playground.send(lab, chat, question, red)
    second = playground.send(lab, other, question, blue)
    assert "red" in first.answer
    assert "blue" in second.answer
    assert first.prompt_tokens > 36


def test_a_question_can_be_edited(scripted_lab, server, chat):
    part = images.image_part(png())
    server.script = [says("1"), says("2"), says("3"), says("new")]
    for text, picture in (("One", None), ("Two", part), ("Three", None)):
        playground.send(scripted_lab, chat, text, picture)
    turn = playground.resend(scripted_lab, chat, 2, "Zwei")
    assert [each.question for each in chat.turns] == ["One", "Zwei"]
    assert turn.picture == part
    assert len(server.seen[-1]["messages"]) == 3
    with pytest.raises(IndexError, match="no turn 3"):
        playground.resend(scripted_lab, chat, 3, "Drei")


def test_the_server_names_the_cost(server, chat):
    server.script = [says("yes")]
    server.script[0][-1]["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.00002}
    turn = playground.send(lab_of(server.url, "openrouter-sim"), chat, "Go")
    assert turn.usd == 0.00002
    assert "0.00002 USD (simulated)" in transcript.meter(turn)


# Stop, and time


def test_stop_closes_the_connection_and_keeps_the_text(scripted_lab, server, chat):
    server.script, server.pause_s = [says(*["word "] * 500)], 0.02
    stop = playground.Stop()
    threading.Timer(0.3, stop.set).start()
    turn = playground.send(scripted_lab, chat, "Go", stop=stop)
    assert turn.stopped
    assert not turn.error
    assert turn.answer.startswith("word word")
    assert server.hung_up.wait(30), "the server was not told"
    playground.send(scripted_lab, chat, "And now?")  # the conversation goes on
    assert [message["role"] for message in server.seen[-1]["messages"]] == [
        *("user", "assistant", "user")
    ]


def test_stop_wakes_a_stream_that_is_silent(scripted_lab, server, chat):
    server.script = [[*says("word")[:1], HANG]]
    stop = playground.Stop()
    threading.Timer(0.3, stop.set).start()
    turn = playground.send(scripted_lab, chat, "Go", stop=stop)
    assert (turn.stopped, turn.answer) == (True, "word")
    assert server.hung_up.wait(30)


def test_no_tool_runs_and_nothing_is_sent_after_stop(scripted_lab, server, chat):
    stop = playground.Stop()

    def tool() -> str:
        """Stop everything."""
        stop.set()
        return "done"

    call = {"index": 0, "id": "aaaaaaaa1", "function": {"name": "tool", "arguments": "{}"}}
    server.script = [calls(call), says("never")]
    turn = playground.send(scripted_lab, chat, "Go", tools=[tool], stop=stop)
    assert turn.stopped
    assert "Stopped" in turn.error
    assert len(server.seen) == 1
    assert chat.messages == []


@pytest.mark.parametrize("script", [[HANG], [*says("a")[:1], HANG]])
def test_a_server_that_hangs_does_not_hold_a_turn(scripted_lab, server, chat, script):
    server.script = [script]
    turn = playground.send(scripted_lab, chat, "Go", time_limit_s=0.5)
    assert turn.error
    assert "sent nothing" in turn.error or "longer than 0.5 s" in turn.error


# What fails


def test_a_wrong_key_is_said_in_words(server, chat, monkeypatch):
    monkeypatch.setenv("CUSTOM_API_KEY", "secret-of-this-test")
    key = "secret-of-this-test"
    server.script = [(401, {"error": {"message": f"bad key {key}"}})]
    turn = playground.send(lab_of(server.url, key=key), chat, "Go")
    assert "refuses the key" in turn.error
    assert "CUSTOM_API_KEY" in turn.error
    assert key not in turn.error
    assert chat.messages == []


def test_no_server_is_said_in_words(chat):
    with running() as gone:
        lab = lab_of(gone.url)
    turn = playground.send(lab, chat, "Go")
    assert "nothing listens on port" in turn.error
    assert "start the server" in turn.error


@pytest.mark.parametrize(
    ("answer", "says_so"),
    [
        ((400, {"error": {"message": "the prompt has 9,000 tokens of context"}}), "Shorten"),
        ((500, {"error": {"message": "boom"}}), "The server failed"),
        ((429, {"error": {"message": "slow down"}}), "Too many requests"),
        ((200, {"error": {"message": "no provider"}}), "no stream of events"),
        ([*says("half")[:1]], "broke before the answer was complete"),
        (says(""), "answered nothing"),
    ],
)
def test_what_a_server_says_becomes_words(scripted_lab, server, chat, answer, says_so):
    server.script = [answer]
    turn = playground.send(scripted_lab, chat, "Go")
    assert says_so in turn.error
    assert turn.answer is None
    assert "Traceback" not in turn.error


def test_rounds_without_an_answer_end(scripted_lab, server, chat):
    call = {"index": 0, "id": "aaaaaaaa1", "function": {"name": "calculate", "arguments": "{}"}}
    server.script = [calls(call) for _ in range(9)]
    turn = playground.send(scripted_lab, chat, "Go", tools=toolbox.TOOLS)
    assert "called tools 6 times" in turn.error
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    ("without", "text", "more", "says_so"),
    [
        (("tools",), "Go", {"tools": toolbox.TOOLS}, "does not support tools"),
        (("vision",), "Go", {"picture": images.image_part(png())}, "does not accept pictures"),
        ((), "x" * 1_000_000, {}, "1,000,000 characters"),
        ((), "  ", {}, "no question"),
    ],
)
def test_what_cannot_work_is_not_sent(server, chat, without, text, more, says_so):
    turn = playground.send(lab_of(server.url, without=without), chat, text, **more)
    assert says_so in turn.error
    assert server.seen == []


@pytest.mark.parametrize(
    ("system", "text", "says_so"),
    [("", "Hi \ud83d", "The question has half"), ("Be \udf0a", "Hi", "The system prompt has half")],
)
def test_half_of_a_character_is_not_sent(scripted_lab, server, chat, system, text, says_so):
    chat.system = system
    turn = playground.send(scripted_lab, chat, text)
    assert says_so in turn.error
    assert "Delete it" in turn.error
    assert server.seen == []
    for page in (transcript.turn_html(turn), transcript.as_text([turn], "A chat")):
        page.encode()  # a page can show it
    chat.system = ""
    assert playground.send(scripted_lab, chat, "Both halves: \N{WATER WAVE}").answer == "yes"
    chat.system = system
    if system:
        with pytest.raises(ValueError, match="half of a character"):
            playground.as_curl(scripted_lab, chat)


def test_half_of_a_character_in_the_widget_is_said_in_words(play, server, capfd):
    play.ui.question.value = "Hi \ud83d"
    play.ask()
    wait(lambda: "Not answered" in play.ui.status.value)
    assert "half of a character" in shown(play.left)
    assert play.ui.question.value == "Hi �"
    play.ui.system.value = "\ud83d"
    ask(play, "Hi")
    assert "The system prompt has half" in shown(play.left)
    play.ui.system.value = ""
    ask(play, "Hi")
    assert "yes" in shown(play.left)
    assert len(server.seen) == 1
    assert capfd.readouterr() == ("", "")


def test_half_of_a_character_from_a_server_does_not_stop_the_chat(scripted_lab, server, chat):
    server.script, server.pause_s = [says("word \ud83d", *["word "] * 500)], 0.02
    stop = playground.Stop()
    threading.Timer(0.5, stop.set).start()
    turn = playground.send(scripted_lab, chat, "Go", stop=stop)
    assert turn.answer.startswith("word �word")
    server.pause_s = 0
    assert playground.send(scripted_lab, chat, "And now?").answer == "yes"


# Files


def test_an_upload_is_read_in_the_form_of_both_versions():
    data = png()
    seven = {"a.png": {"metadata": {"name": "a.png", "size": len(data)}, "content": data}}
    eight = ({"name": "a.png", "type": "image/png", "size": 1, "content": memoryview(data)},)
    assert uploads.uploaded(seven) == uploads.uploaded(eight) == [("a.png", data)]
    assert uploads.uploaded({}) == uploads.uploaded(()) == []
    for value in (seven, eight):
        name, part = uploads.picture_of(value)
        assert name == "a.png"
        assert images.sent_size(part) == (8, 8)


def choose_file(upload, name, data):
    """What a page sends when a file was chosen, in the installed version of ipywidgets."""
    about = {"name": name, "type": "image/png", "size": len(data), "lastModified": 0}
    if widgets.__version__ < "8":
        upload.set_state({"metadata": [about], "_counter": 1, "data": [memoryview(data)]})
    else:
        about["last_modified"] = about.pop("lastModified")
        upload.set_state({"value": [about | {"content": memoryview(data)}]})


def test_the_installed_widget_has_one_of_the_two_forms():
    upload = widgets.FileUpload()
    assert uploads.uploaded(upload.value) == []
    choose_file(upload, "a.png", png())
    assert uploads.uploaded(upload.value) == [("a.png", png())]


@pytest.mark.parametrize(
    ("data", "says_so"),
    [
        (b"%PDF-1.7", "not a picture"),
        (b"", "not a picture"),
        (png()[:40], "damaged|not a picture"),
        (b"\0" * 9_000_001, "scale it down"),
    ],
)
def test_a_file_that_is_no_picture_is_refused(data, says_so):
    with pytest.raises(images.ImageError, match=says_so):
        uploads.picture_of(({"name": "x", "content": data},))


# Programs


def answered(lab, server, chat, text=HOSTILE, **more):
    server.script = [says("yes")]
    assert playground.send(lab, chat, text, **more).answer == "yes"


def run_program(text, **variables):
    command = [sys.executable, "-c", text]
    environment = {"PATH": os.environ["PATH"]} | variables
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_an_exported_program_sends_the_same_request(scripted_lab, server, chat):
    chat.system, chat.seed = HOSTILE, 7
    part = images.image_part(png())
    answered(scripted_lab, server, chat, picture=part, tools=toolbox.TOOLS)
    text = playground.as_python(scripted_lab, chat, toolbox.TOOLS)
    assert "k" * 20 not in text
    done = run_program(text, CUSTOM_API_KEY="from-the-environment")
    assert done.returncode == 0, done.stderr
    sent = {name: value for name, value in server.seen[0].items() if "stream" not in name}
    assert server.seen[1] == sent


def test_a_program_of_a_paid_backend_needs_its_key_and_does_not_have_it(server, chat):
    lab = lab_of(server.url, "mistral", key="very-secret-key-of-mine")
    chat.seed = 7
    answered(lab, server, chat)
    for text in (playground.as_python(lab, chat), playground.as_curl(lab, chat)):
        assert "very-secret" not in text
        assert "MISTRAL_API_KEY" in text
    text = playground.as_python(lab, chat)
    assert "KeyError: 'MISTRAL_API_KEY'" in run_program(text).stderr
    assert run_program(text, MISTRAL_API_KEY="x").returncode == 0
    assert server.seen[-1]["random_seed"] == 7  # Mistral's name for a seed


def test_an_exported_command_is_curl(scripted_lab, server, chat):
    answered(scripted_lab, server, chat, text=f"{HOSTILE} $HOME `id` JSON\nJSON\n'")
    text = playground.as_curl(scripted_lab, chat)
    first, body = text.split("\n", 1)
    words = shlex.split(first)
    assert words[0] == "curl"
    assert f"{server.url}/chat/completions" in words
    assert "Authorization: Bearer $CUSTOM_API_KEY" in words
    assert json.loads(body.removesuffix("JSON\n"))["messages"] == server.seen[0]["messages"]
    if shutil.which("curl") and shutil.which("bash"):
        server.script = [(200, {"answer": "yes"})]
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == {"answer": "yes"}
        assert server.seen[1]["messages"] == server.seen[0]["messages"]


@pytest.mark.pocket
def test_programs_run_against_the_pocket_model(lab, chat):
    turn = playground.send(lab, chat, "What is the capital of France?")
    done = run_program(playground.as_python(lab, chat))
    assert done.stdout.strip() == turn.answer.strip()


def test_nothing_is_exported_before_a_question(scripted_lab, chat):
    with pytest.raises(ValueError, match="ask a question first"):
        playground.as_python(scripted_lab, chat)


# The page


def test_nothing_that_was_written_becomes_html(server, chat):
    name = HOSTILE.replace(" ", "")
    call = {"index": 0, "id": "aaaaaaaa1", "function": {"name": name, "arguments": HOSTILE}}
    server.script = [calls(call), says(HOSTILE)]
    lab = lab_of(server.url)
    lab.model = HOSTILE
    turn = playground.send(lab, chat, HOSTILE, images.image_part(png()), tools=toolbox.TOOLS)
    server.script = [(500, {"error": {"message": HOSTILE}})]
    failed = playground.send(lab, chat, HOSTILE)
    page = transcript.as_html([turn, failed], HOSTILE)
    assert harmless(page)
    assert Elements(page).text.count("<script>alert(1)</script>") >= 3
    assert not harmless(f"<div>{HOSTILE}</div>")  # the test sees what it looks for


def test_a_long_text_is_cut_on_the_page_only(scripted_lab, server, chat):
    text = "word " * 20_000
    answered(scripted_lab, server, chat, text=text)
    assert len(transcript.turn_html(chat.turns[0])) < 10_000
    assert server.seen[0]["messages"][0]["content"] == text


def test_the_pocket_model_has_a_badge():
    turns = [
        playground.Turn([{"role": "user", "content": "Hi"}], backend, model, total_s=1.0)
        for backend, model in (
            ("pocket", MODEL_ID),
            ("openrouter-sim", "mistralai/mistral-small-3.2-24b-instruct"),
            ("vllm", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"),
        )
    ]
    assert ["small model" in transcript.turn_html(turn) for turn in turns] == [True, True, False]


def test_the_starters_have_the_measured_shares():
    rows = json.loads((DATA / "pocket" / "evaluation-stranger.json").read_text())["rows"]
    measured = {row["skill"]: (row["right"], row["of"]) for row in rows}
    prompts = starters.starters()
    assert len(prompts) == len(starters.PROMPTS) >= 6
    for prompt in prompts:
        assert (prompt.right, prompt.of) == measured[prompt.skill]
        assert f"{prompt.right / prompt.of:.0%} of {prompt.of}" in prompt.label


# The widget


@pytest.fixture
def play(server, monkeypatch):
    """A playground whose backends are scripted servers."""
    ready = {"custom": None, "openrouter-sim": None, "vllm": HOSTILE}
    monkeypatch.setattr(app, "ready_backends", lambda: ready)
    monkeypatch.setattr(app, "connect", lambda name: lab_of(server.url, name))
    made = playground.Playground(lab_of(server.url), toolbox.TOOLS, time_limit_s=120)
    yield made
    made.left.stop()
    made.right.stop()


def ask(play, text="Go"):
    play.ui.question.value = text
    play.ask()
    wait(lambda: not play.left.is_busy and not play.right.is_busy)
    wait(lambda: "under way" not in play.ui.status.value)


def shown(column_):
    return "".join(row.children[0].value for row in column_.turns.children)


def test_a_question_is_answered(play, server, capfd):
    play.ui.system.value, play.ui.seed.value = "Be brief.", "5"
    play.ui.temperature.value, play.ui.max_tokens.value = 0.5, 9
    server.script = [says("yes")]
    ask(play)
    assert "yes" in shown(play.left)
    assert "Answered" in play.ui.status.value
    assert play.ui.question.value == ""
    sent = server.seen[0]
    assert (sent["seed"], sent["temperature"], sent["max_tokens"]) == (5, 0.5, 9)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert capfd.readouterr() == ("", "")


def test_enter_and_the_button_send(play, server):
    play.ui.question.value = "One"
    play.ui.question._handle_custom_msg({"event": "submit"}, [])
    wait(lambda: len(server.seen) == 1 and not play.left.is_busy)
    play.ui.question.value = "Two"
    play.ui.send.click()
    wait(lambda: len(server.seen) == 2 and not play.left.is_busy)


def test_the_stop_button_stops(play, server):
    server.script, server.pause_s = [says(*["word "] * 500)], 0.02
    play.ui.question.value = "Go"
    play.ask()
    wait(lambda: "word word" in shown(play.left))
    play.ask()
    assert "under way" in play.ui.status.value  # a second question waits for the first
    play.ui.stop.click()
    wait(lambda: not play.left.is_busy)
    assert server.hung_up.wait(30)
    assert "stopped" in shown(play.left)
    server.pause_s = 0
    ask(play, "And now?")
    assert "yes" in shown(play.left)


def test_stop_frees_the_widget_from_a_server_that_hangs(play, server, monkeypatch):
    monkeypatch.setattr(column, "STOP_S", 0.2)
    server.script = [[HANG]]
    play.ui.question.value = "Go"
    play.ask()
    wait(lambda: server.seen)
    play.ui.stop.click()
    assert not play.left.is_busy
    assert "had not begun to answer" in shown(play.left)
    assert play.ui.question.value == "Go"  # given back
    ask(play, "Again")
    assert [turn.question for turn in play.left.chat.turns] == ["Again"]


def test_two_backends_answer_side_by_side(play, server):
    server.script = [says("first")]
    ask(play, "One")
    play.ui.compare.value = True
    assert (play.left.backend, play.right.backend) == ("custom", "openrouter-sim")
    ask(play, "Two")
    assert len(server.seen) == 3
    assert [len(each["messages"]) for each in server.seen[1:]] == [3, 3]
    assert "openrouter-sim" in shown(play.right)
    assert len(play.right.chat.turns) == 2
    play.ui.compare.value = False
    assert play.right.box.layout.display == "none"


def test_an_earlier_question_is_changed(play, server):
    for text in ("One", "Two", "Three"):
        ask(play, text)
    play.left.turns.children[1].children[1].click()
    assert play.ui.question.value == "Two"
    ask(play, "Zwei")
    assert [turn.question for turn in play.left.chat.turns] == ["One", "Zwei"]
    assert len(play.left.turns.children) == 2


def test_a_starter_fills_the_box(play):
    by_need = {(each.has_picture, each.has_tools): each for each in starters.starters()}
    play.ui.starter.value = by_need[True, False]
    assert "<img" in play.ui.picture.value
    play.ui.starter.value = by_need[False, True]
    assert play.ui.tools.value
    assert play.ui.picture.value == ""
    assert play.ui.question.value == by_need[False, True].text


def test_an_upload_goes_with_the_next_question_only(play, server):
    upload = play.ui.uploads.children[0]
    choose_file(upload, HOSTILE, png())
    assert play.ui.uploads.children[0] is not upload  # a new one, empty
    assert harmless(play.ui.picture.value)
    assert HOSTILE in Elements(play.ui.picture.value).text
    ask(play, "What is it?")
    assert server.seen[0]["messages"][0]["content"][1]["type"] == "image_url"
    assert play.ui.picture.value == ""
    choose_file(play.ui.uploads.children[0], "x.pdf", b"%PDF")
    assert "not a picture" in play.ui.status.value


def test_what_fails_is_in_the_widget_and_the_question_comes_back(play, server, capfd):
    server.script = [(500, {"error": {"message": HOSTILE}})]
    ask(play, "Go")
    assert "The server failed" in shown(play.left)
    assert harmless(shown(play.left))
    assert play.ui.question.value == "Go"
    play.ui.seed.value = "seven"
    play.ask()
    assert "whole number" in play.ui.status.value
    assert capfd.readouterr() == ("", "")


def test_a_backend_that_cannot_be_reached_is_said_in_words(play, server, monkeypatch):
    def refuse(name):
        raise BackendError("It is not there. Start it.")

    monkeypatch.setattr(app, "connect", refuse)
    play.ui.backend.value = "openrouter-sim"
    ask(play)
    assert "It is not there. Start it." in shown(play.left)


def test_backends_that_are_not_ready_have_their_reason(play):
    assert play.ui.backend.options == ("custom", "openrouter-sim")
    assert harmless(play.ui.missing.value)
    assert HOSTILE[:20] in Elements(play.ui.missing.value).text


def test_programs_are_shown_as_text(play, server):
    play.ui.python.click()
    assert "ask a question first" in play.ui.status.value
    ask(play)
    play.ui.python.click()
    assert play.ui.program.value.startswith("import os")
    play.ui.curl.click()
    assert play.ui.program.value.startswith("curl")


def test_a_new_chat_is_empty(play):
    ask(play)
    play.ui.new.click()
    assert play.left.chat.turns == []
    assert play.left.turns.children == ()


def test_without_a_front_end_the_conversation_is_shown(play, server):
    server.script = [says(HOSTILE)]
    ask(play, "Go")
    bundle = play._repr_mimebundle_()
    assert bundle[live.VIEW]["model_id"] == play.ui.box.model_id
    assert harmless(bundle["text/html"])
    assert "alert(1)" in bundle["text/plain"]


def test_a_cell_that_runs_again_stops_its_old_playground(play, server, monkeypatch):
    monkeypatch.setattr(live, "cell_id", lambda: "a cell")
    play._repr_mimebundle_()
    server.script, server.pause_s = [says(*["word "] * 500)], 0.02
    play.ui.question.value = "Go"
    play.ask()
    wait(lambda: "word" in shown(play.left))
    playground.Playground(lab_of(server.url))._repr_mimebundle_()
    assert server.hung_up.wait(30)
    assert not play.left.is_busy


def every_widget(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every_widget(child)


def test_every_control_has_a_label(play):
    kinds = (widgets.HTML, widgets.Box)
    controls = [each for each in every_widget(play.ui.box) if not isinstance(each, kinds)]
    assert len(controls) >= 18
    assert [each for each in controls if not each.description] == []
    assert len({each.description for each in controls}) == len(controls)


@pytest.mark.pocket
@pytest.mark.slow
def test_a_pocket_server_that_died_is_started_again(private_cache, monkeypatch):
    monkeypatch.setattr(app, "ready_backends", lambda: {"pocket": None})
    own = connect("pocket")
    play = playground.Playground(own)
    try:
        ask(play, "Hi")
        assert play.left.chat.turns[0].answer
        os.kill(server_process(private_cache), signal.SIGKILL)
        time.sleep(0.5)
        ask(play, "What is the capital of France?")
        assert "has ended" in shown(play.left)
        assert play.ui.question.value == "What is the capital of France?"
        play.ask()
        wait(lambda: not play.left.is_busy)
        assert play.left.chat.turns[-1].answer
        assert len(play.left.chat.turns) == 2
    finally:
        for lab in {id(each): each for each in (own, *play._labs.values())}.values():
            lab.close()


def server_process(cache) -> int:
    """The process of this cache's own server."""
    import psutil

    for process in psutil.process_iter(["pid", "environ", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        own = (process.info["environ"] or {}).get(CACHE_VARIABLE) == str(cache)
        if own and "pocket_model" in command:
            return process.pid
    raise AssertionError("the server was not found")


def test_a_stream_of_another_kind_is_no_traceback(server, chat):
    lab = lab_of(server.url)
    lab.client = SimpleNamespace(base_url=server.url)  # a simulated fault of the program itself
    turn = playground.send(lab, chat, "Go")
    assert "AttributeError" in turn.error

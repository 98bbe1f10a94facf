"""The programs in a terminal of any encoding, and the chat on a scripted server."""

import io
import json
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from pocket_model import lease

# runpy says so if another test has imported the module.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


def chunk(text: str | None, reason: str | None = None) -> dict:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


class ScriptedServer(BaseHTTPRequestHandler):
    """Answers each question with the next of `server.answers`: a status and chunks."""

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, chunks = self.server.answers.pop(0)
        self.send_response(status)
        kind = "text/event-stream" if status == 200 else "application/json"
        self.send_header("content-type", kind)
        self.end_headers()
        if status != 200:
            self.wfile.write(json.dumps({"error": {"message": "Too long."}}).encode())
        for each in chunks:
            self.wfile.write(f"data: {json.dumps(each)}\n\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedServer)
    server.asked, server.answers = [], []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def program(monkeypatch):
    """Run `python -m` with these words in a terminal of an encoding, with these bytes typed."""

    def run(*words: str, typed: bytes = b"", encoding: str = "utf-8") -> Done:
        out, err = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr("sys.argv", list(words))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding))
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(err, encoding))
        with pytest.raises(SystemExit) as exit_:
            runpy.run_module(words[0], run_name="__main__")
        sys.stdout.flush()
        sys.stderr.flush()
        return Done(exit_.value.code or 0, *(f.getvalue().decode(encoding) for f in (out, err)))

    return run


@pytest.fixture
def chat(program, server, monkeypatch):
    """The chat with these lines typed, on the scripted server instead of the pocket server."""
    held = SimpleNamespace(base_url=f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setattr(lease, "acquire", lambda *kind: held)

    def run(*lines: str, encoding: str = "utf-8") -> Done:
        typed = "".join(f"{line}\n" for line in lines).encode(encoding, "replace")
        return program("pocket_model", "chat", typed=typed, encoding=encoding)

    return run


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437", "ascii", "utf-16"])
def test_the_chat_in_any_encoding(server, chat, encoding):
    server.answers = [(200, [chunk("αγάπη 🙂"), chunk(None, "stop")])] * 2
    done = chat("'love' in Greek, é?", "once more", encoding=encoding)
    assert done.code == 0, done.err
    assert len(server.asked) == 2
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "αγάπη 🙂"}


def test_what_cannot_be_read_from_the_keyboard_does_not_end_the_chat(server, chat, program):
    server.answers = [(200, [chunk("Hi.", "stop")])]
    done = program("pocket_model", "chat", typed=b"caf\xe9\n")
    assert done.code == 0, done.err
    assert server.asked[0]["messages"][0]["content"] == "caf\ufffd"


def test_the_chat_begins_with_three_things_to_ask(server, chat):
    from pocket_model.__main__ import STARTERS

    done = chat("")
    assert done.code == 0
    assert len(STARTERS) == 3
    assert all(f"    {starter}\n" in done.err for starter in STARTERS)
    assert "often wrong" in done.err


ANSWERS = {  # chunks, and what is said
    "empty": ([chunk(""), chunk(None, "stop")], "an empty answer"),
    "blank": ([chunk(" \n", "stop")], "an empty answer"),
    "cut before a word": ([chunk(None, "length")], "the model's context is full"),
    "no finish reason": ([chunk("")], "the server ended"),
    "only usage": ([{"choices": [], "usage": None}], "the server ended"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_chat_goes_on_after_an_answer_without_text(server, chat, name):
    chunks, says = ANSWERS[name]
    server.answers = [(200, chunks), (200, [chunk("Hi.", "stop")])]
    done = chat("Hello?", "Are you there?")
    assert done.code == 0, done.err
    assert says in done.err
    assert "Hi." in done.out
    roles = [message["role"] for message in server.asked[1]["messages"]]
    assert roles == ["user", "user"]  # an empty assistant message would be refused


def test_the_chat_says_that_an_answer_was_cut_off_and_keeps_it(server, chat):
    server.answers = [(200, [chunk("It is", "length")]), (200, [chunk("Hi.", "stop")])]
    done = chat("Hello?", "Go on.")
    assert "cut off" in done.err
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "It is"}


@pytest.mark.parametrize(
    ("status", "chunks", "says"),
    [
        (400, [], "Too long. This conversation ends here"),
        (404, [], "Too long. This conversation ends here"),
        (200, [chunk("It"), {"error": {"message": "It broke."}}], "It broke. This conversation"),
    ],
)
def test_an_error_ends_the_chat_in_words(server, chat, status, chunks, says):
    server.answers = [(status, chunks)]
    done = chat("Hello?")
    assert done.code == 1
    assert says in done.out


@pytest.mark.parametrize("value", ["-1", "3", "nan", "inf", "warm"])
def test_a_temperature_out_of_range_is_refused_before_a_server_starts(program, monkeypatch, value):
    monkeypatch.setattr(lease, "acquire", None)  # fails if it is reached
    done = program("pocket_model", "chat", "--temperature", value)
    assert done.code == 2
    assert "temperature" in done.err


# Typer draws a frame of lines around its errors, and `helpers` prints "→" and "–".
@pytest.mark.parametrize(
    "command",
    [
        ["helpers", "claims"],
        ["pocket_model", "none"],
        ["openrouter_sim", "--port", "none"],
        ["pocket_training", "evaluate", "--against", "none"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize(
    ("encoding", "variables"),
    [
        ("ascii", {}),
        ("cp1252", {"COLUMNS": "1", "FORCE_COLOR": "1"}),
        ("cp437", {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "-3"}),
    ],
)
def test_no_terminal_ends_a_program(program, monkeypatch, command, encoding, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = program(*command, encoding=encoding)
    assert done.code in (0, 2)
    assert done.out or done.err

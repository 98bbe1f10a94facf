"""A workshop's server that goes away in the middle: what a learner reads, and that nothing is lost.

The real server is killed, between two requests and in the middle of an answer, and started again.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import nbformat.v4 as v4
import openai
import pytest
from nbclient import NotebookClient

from helpers import connect
from helpers.widgets.errors import words
from labkit import notebooks
from pocket_model.sharing import KEY_VARIABLE

KEY = "room-canary-0123456789"
LOST = "Nothing is lost"

pytestmark = pytest.mark.pocket


@pytest.fixture
def address(model_folder, monkeypatch) -> str:
    """The address of a server for a room; the environment has what learners set."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    monkeypatch.setenv("CUSTOM_BASE_URL", url)
    monkeypatch.setenv("CUSTOM_API_KEY", KEY)
    monkeypatch.delenv("CUSTOM_MODEL", raising=False)
    return url


@contextmanager
def server(url: str) -> Iterator[subprocess.Popen]:
    """The teacher's command, until the block ends."""
    port = url.rsplit(":", 1)[1].split("/")[0]
    command = [sys.executable, "-m", "pocket_model", "serve", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", port, "--batching"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {KEY_VARIABLE: KEY},
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.split()[:1] == ["CUSTOM_BASE_URL"]:
                break
        else:
            pytest.fail("".join(said))
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(lab, text="Write a sentence about the sea.", **settings):
    messages = [{"role": "user", "content": text}]
    return lab.client.chat.completions.create(
        model=lab.model, messages=messages, temperature=0, **({"max_tokens": 16} | settings)
    )


def test_a_learner_reads_what_happened_and_goes_on_with_the_same_connection(address):
    with server(address) as process:
        lab = connect("custom")
        before = ask(lab).choices[0].message.content
        process.kill()
        process.wait()
        with pytest.raises(openai.InternalServerError) as caught:
            ask(lab)
    said = caught.value.body["message"]
    assert said.startswith(f"The server at {address.removesuffix('/v1')} has gone: nothing listens")
    assert LOST in said
    assert "run this cell again" in said
    assert KEY not in str(caught.value)
    assert words(caught.value, lab) == said  # what the playground shows
    with server(address):
        assert ask(lab).choices[0].message.content == before
    lab.close()


def test_an_answer_that_breaks_off_has_its_words_and_keeps_what_came(address):
    received = []

    def read(stream, process):
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                received.append(chunk.choices[0].delta.content)
                process.kill()

    with server(address) as process:
        lab = connect("custom")
        with pytest.raises(openai.APIError, match=f"in the middle.*{LOST}") as caught:
            read(ask(lab, stream=True, max_tokens=400), process)
    assert received
    assert words(caught.value, lab, started=True) == caught.value.message
    lab.close()


def test_before_the_first_answer_the_words_are_those_of_connect(address):
    with pytest.raises(RuntimeError, match="No server answers") as caught:
        connect("custom")
    assert LOST not in str(caught.value)


def test_a_request_that_is_under_way_when_the_server_dies(address):
    with server(address) as process:
        lab = connect("custom")
        killer = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({process.pid}, 9)"]
        )
        with pytest.raises(openai.InternalServerError, match=LOST):
            list(iter(lambda: ask(lab, max_tokens=400), None))  # until an error ends it
        killer.wait()
    lab.close()


CELLS = [
    'from helpers import connect; lab = connect("custom"); kept = ["a first answer"]',
    """def ask(text):
    messages = [{"role": "user", "content": text}]
    reply = lab.client.chat.completions.create(
        model=lab.model, messages=messages, temperature=0, max_tokens=8
    )
    kept.append(reply.choices[0].message.content)
ask("What is the capital of Japan?"); print(len(kept))""",
    'ask("What is the capital of Italy?"); print(len(kept), kept[0])',
]


def test_in_a_notebook_the_words_come_last_and_the_variables_stay(address):
    book = v4.new_notebook(cells=[v4.new_code_cell(source) for source in CELLS])
    client = NotebookClient(book, kernel_name="python3", allow_errors=True, timeout=300)
    with client.setup_kernel():
        with server(address):
            for number in (0, 1):
                client.execute_cell(book.cells[number], number)
        client.execute_cell(book.cells[2], 2)
        (shown,) = map(notebooks.output_text, book.cells[2].outputs)
        assert LOST in shown.splitlines()[-1]
        with server(address):
            deadline = time.monotonic() + 60
            while httpx2.get(f"{address.removesuffix('/v1')}/health", trust_env=False).is_error:
                assert time.monotonic() < deadline
            client.execute_cell(book.cells[2], 2)
    assert "".join(map(notebooks.output_text, book.cells[1].outputs)).strip() == "2"
    assert "".join(map(notebooks.output_text, book.cells[2].outputs)).strip() == "3 a first answer"

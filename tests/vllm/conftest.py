"""vLLM with the embedded model, started by the kit's own command: `make test-vllm`.

The first run installs vLLM into the cache folder. A machine without vLLM skips the tests, but where
they must run (CI=true) that is a failure.
"""

import os
import signal
from collections.abc import Iterator
from functools import partial

import openai
import pytest
from serve_command import Served, serve

from helpers.backends import Lab, connect
from labkit.serving import processes
from labkit.serving.errors import ServingError
from labkit.serving.machine import check_platform, this_machine

KEY = "a-key-that-only-the-tests-know"


@pytest.fixture(scope="session", autouse=True)
def possible():
    """Skip everything where vLLM cannot run. No key of this machine is used."""
    try:
        check_platform(this_machine())
    except ServingError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_API_KEY", KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def served(possible) -> Iterator[Served]:
    """vLLM, ready. After all tests Ctrl-C ends it, and nothing must be left."""
    server = serve()
    assert server.read_until(r"^Ready after \d+ s"), server.text
    assert server.read_until("^Ctrl-C ends it")
    yield server
    left = server.end(signal.SIGINT)
    assert left == []
    assert "Ended. Nothing is left running." in server.text
    assert server.process.returncode == 0
    processes.check_port("127.0.0.1", server.port)


@pytest.fixture(scope="session")
def lab(served) -> Iterator[Lab]:
    connected = connect("vllm", model="pocket-small", base_url=served.base_url)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def client(lab) -> openai.OpenAI:
    return lab.client


@pytest.fixture(scope="session")
def ask(lab):
    """`create`, with the model's name and temperature 0."""
    return partial(lab.client.chat.completions.create, model=lab.model, temperature=0)

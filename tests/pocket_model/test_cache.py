"""The cache folder is one folder for every process, or an error that says what to do."""

import errno
import os
import threading
import time

import pytest

from pocket_model import build, cache
from pocket_model.cache import CACHE_VARIABLE, CacheError, cache_dir


def test_a_relative_folder_is_the_same_from_every_working_directory(tmp_path, monkeypatch):
    """The runner works in the user's folder, kernels in notebooks/, a server anywhere."""
    monkeypatch.setenv(CACHE_VARIABLE, os.path.relpath(tmp_path / "cache", cache.KIT))
    (tmp_path / "elsewhere").mkdir()
    for folder in (cache.KIT, cache.KIT / "notebooks", tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        assert cache_dir().resolve() == tmp_path / "cache", folder


@pytest.mark.parametrize(
    ("value", "folder"),
    [
        ("", "home/.cache/mistral-small-lab"),
        ("  ", "home/.cache/mistral-small-lab"),
        ("~", "home"),
        ("~/a b", "home/a b"),
        ("{tmp}/a/b/../c", "a/c"),
        ("{tmp}/with:colon", "with:colon"),
        ("{tmp}/link/c", "target/c"),
    ],
)
def test_forms_of_a_path(tmp_path, monkeypatch, value, folder):
    (tmp_path / "home").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(CACHE_VARIABLE, value.format(tmp=tmp_path))
    assert cache_dir().resolve() == tmp_path / folder
    assert cache_dir().is_dir()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{tmp}/file", r"/file cannot be written to \(it is a file\).*Set MISTRAL_LAB_CACHE to a"),
        ("{tmp}/file/below", r"cannot be written to \(Not a directory\)"),
        ("{tmp}/" + "x" * 300, r"cannot be written to \(File name too long\)"),
        ("~no such user/x", r"'~no such user/x', and that user has no home folder"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path, monkeypatch, value, says):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv(CACHE_VARIABLE, value.format(tmp=tmp_path))
    with pytest.raises(CacheError, match=says):
        cache_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_adapter_by_a_relative_path_is_found_by_every_process(tmp_path, monkeypatch):
    adapter = tmp_path / "mine.safetensors"
    adapter.write_bytes(b"")
    monkeypatch.setenv(build.ADAPTER_VARIABLE, os.path.relpath(adapter, cache.KIT))
    monkeypatch.chdir(tmp_path)
    assert build.find_adapter().resolve() == adapter


def test_a_disk_without_locks_is_said_in_words(tmp_path, monkeypatch):
    def acquire(*_, **__):  # simulated: what some network drives answer
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(cache.FileLock, "acquire", acquire)
    with (
        pytest.raises(CacheError, match=r"not supported.*MISTRAL_LAB_CACHE.*own disk"),
        cache.locked(tmp_path / "lock"),
    ):
        pass


def test_who_waits_for_a_lock_is_told_so(tmp_path):
    told = []
    with cache.locked(tmp_path / "lock", lambda: told.append("first")):
        other = threading.Thread(target=_lock_and_release, args=(tmp_path / "lock", told))
        other.start()
        while "second" not in told:
            time.sleep(0.01)
    other.join(10)
    assert told == ["second", "held"]


def _lock_and_release(path, told):
    with cache.locked(path, lambda: told.append("second")):
        told.append("held")

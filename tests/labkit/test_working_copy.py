"""The working copy: what is copied, what stays, and the JupyterLab that opens on it."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from helpers.paths import ROOT
from labkit import cli, notebooks, working_copy

NOTEBOOK = "03_some.ipynb"


def write(path, *sources, output=""):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].outputs = [nbformat.v4.new_output("stream", text=output)] if output else []
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def code(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The working copy and the originals, after a first `update`."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    originals, copies = tmp_path / "notebooks", tmp_path / "my"
    originals.mkdir()
    write(originals / NOTEBOOK, "answer = ...")
    (messages,) = working_copy.update(copies, originals)
    assert messages == f"Copied to my/: {NOTEBOOK}"
    assert code(copies / NOTEBOOK) == ["answer = ..."]
    assert working_copy.update(copies, originals) == []
    return copies, originals


def test_a_copy_that_was_only_run_is_renewed(folders):
    copies, originals = folders
    write(copies / NOTEBOOK, "answer = ...", output="mine")
    write(originals / NOTEBOOK, "answer = ...", "new = 1")
    assert working_copy.update(copies, originals) == [
        f"Updated, because you had not changed them: {NOTEBOOK}"
    ]
    assert code(copies / NOTEBOOK) == ["answer = ...", "new = 1"]


def test_the_kits_own_outputs_are_trusted_and_no_others(folders):
    copies, _ = folders
    notary = NotebookNotary()
    assert notary.check_signature(notebooks.read(copies / NOTEBOOK))
    write(copies / NOTEBOOK, "answer = ...", output="of somebody else")
    assert not notary.check_signature(notebooks.read(copies / NOTEBOOK))


def test_an_answer_stays_until_the_learner_says_otherwise(folders):
    copies, originals = folders
    write(copies / NOTEBOOK, "answer = 42")
    assert working_copy.update(copies, originals) == []  # nothing is newer
    write(originals / NOTEBOOK, "answer = ...", "new = 1")
    for _ in range(2):  # it is said each time
        (message,) = working_copy.update(copies, originals)
        assert "newer version" in message
        assert "python -m helpers lab --fresh 03" in message
        assert code(copies / NOTEBOOK) == ["answer = 42"]

    for number, answer in enumerate([["answer = 42"], ["answer = ...", "new = 1"]]):
        (message,) = working_copy.set_aside(["03"], copies, originals)
        kept = copies / re.search(r"my/(\S+\.ipynb)", message)[1]
        assert code(kept) == answer
        assert working_copy.update(copies, originals) == [f"Copied to my/: {NOTEBOOK}"]
        assert code(copies / NOTEBOOK) == ["answer = ...", "new = 1"]
        assert len(list(copies.glob("*.ipynb"))) == number + 2
    assert working_copy.set_aside(["03"], copies, originals)
    assert working_copy.set_aside(["03"], copies, originals) == []  # nothing to set aside


@pytest.mark.parametrize("damage", ["", "{}", "[1]", "not JSON"])
def test_a_folder_without_a_record_belongs_to_the_learner(folders, damage):
    copies, originals = folders
    (copies / working_copy.STATE / working_copy.RECORD).write_text(damage)
    write(copies / NOTEBOOK, "answer = 42")
    write(originals / NOTEBOOK, "answer = ...", "new = 1")
    (message,) = working_copy.update(copies, originals)
    assert "may have a newer version" in message
    assert "stays" in message
    assert code(copies / NOTEBOOK) == ["answer = 42"]


def test_a_broken_copy_and_a_notebook_that_is_gone_are_left_alone(folders):
    copies, originals = folders
    (copies / NOTEBOOK).write_text('{"cells": [{"cell_type"')
    write(originals / NOTEBOOK, "answer = 1")
    assert "stays" in working_copy.update(copies, originals)[0]
    (originals / NOTEBOOK).unlink()
    write(originals / "04_other.ipynb", "x")
    messages = working_copy.update(copies, originals)
    assert f"{NOTEBOOK} is no longer among the kit's notebooks. Your copy stays." in messages
    assert (copies / NOTEBOOK).exists()


def test_the_same_depth_and_no_work_for_git():
    assert working_copy.WORKING_COPY.parent == ROOT
    # Without a slash at the end, so that it may be a link to another folder.
    assert f"/{working_copy.WORKING_COPY.name}" in (ROOT / ".gitignore").read_text().splitlines()


def test_jupyterlab_has_these_settings(tmp_path):
    """The names exist in the installed version; a setting that is unknown there does nothing."""
    from jupyter_server.services.contents.filemanager import FileContentsManager
    from jupyterlab.commands import get_app_dir
    from jupyterlab.labapp import LabApp

    working_copy.write_settings(tmp_path, {"some:plugin": {"key": 1}})
    written = json.loads((tmp_path / working_copy.STATE / "settings/overrides.json").read_text())
    assert written.pop("some:plugin") == {"key": 1}
    for plugin, settings in written.items():
        package, name = plugin.split(":")
        schema = json.loads(Path(get_app_dir(), "schemas", package, f"{name}.json").read_text())
        assert settings.keys() <= schema["properties"].keys()
    (workspace,) = (tmp_path / working_copy.STATE / "workspaces").iterdir()
    assert json.loads(workspace.read_text())["metadata"]["id"] == working_copy.WORKSPACE
    for option in working_copy.command(tmp_path):
        if match := re.match(r"--(LabApp|FileContentsManager)\.(\w+)=", option):
            kind = {"LabApp": LabApp, "FileContentsManager": FileContentsManager}[match[1]]
            assert match[2] in kind.class_traits(config=True)


def test_the_layout_is_given_once(tmp_path):
    working_copy.write_settings(tmp_path)
    (workspace,) = (tmp_path / working_copy.STATE / "workspaces").iterdir()
    saved = json.loads(workspace.read_text())
    assert saved["data"]["layout-restorer:data"]["left"]["collapsed"]
    saved["data"] = {"tabs": "of the last visit"}
    workspace.write_text(json.dumps(saved))
    working_copy.write_settings(tmp_path)
    assert json.loads(workspace.read_text()) == saved


def test_the_command(monkeypatch, tmp_path, capsys):
    started = []
    monkeypatch.setattr(working_copy, "start", lambda command: started.append(command) or 0)
    monkeypatch.setattr(working_copy, "running", lambda: None)
    monkeypatch.setattr(working_copy, "update", lambda: ["one message"])
    monkeypatch.setattr(working_copy, "write_settings", lambda: None)
    assert cli.main(["lab", "3", "--port", "8899", "--no-browser"]) == 0
    (command,) = started
    assert "--ServerApp.port=8899" in command
    assert "--no-browser" in command
    assert any(option.endswith("lab/tree/my/03_openrouter.ipynb") for option in command)
    assert capsys.readouterr().out.startswith("one message\nJupyterLab opens my/03_openrouter")

    monkeypatch.setattr(working_copy, "set_aside", lambda names: [f"{names} set aside"])
    assert cli.main(["lab", "--fresh", "3"]) == 0
    assert any(option.endswith("lab/tree/my/03_openrouter.ipynb") for option in started[-1])

    monkeypatch.setattr(working_copy, "running", lambda: "http://localhost:8888/lab")
    assert cli.main(["lab"]) == 0
    assert len(started) == 2  # a second one would fight with the first over the same files
    assert "Restart Kernel" in capsys.readouterr().out
    assert cli.main(["lab", "99"]) == 2
    assert "00_start_here" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said_in_words(monkeypatch, tmp_path, capsys):
    (tmp_path / "my").touch()
    monkeypatch.setattr(
        working_copy, "update", lambda: working_copy.write_settings(tmp_path / "my")
    )
    assert cli.main(["lab"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: my/ cannot be written")
    assert str(tmp_path) not in line


def test_ctrl_c_leaves_the_question_to_jupyterlab(monkeypatch):
    class Process:
        def __init__(self, command):
            self.ends = [KeyboardInterrupt, KeyboardInterrupt, 0]

        def wait(self):
            end = self.ends.pop(0)
            if end is KeyboardInterrupt:
                raise end
            return end

    monkeypatch.setattr(working_copy.subprocess, "Popen", Process)
    assert working_copy.start(["jupyterlab"]) == 0

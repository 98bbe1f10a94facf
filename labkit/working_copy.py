"""JupyterLab on a working copy of the notebooks, so that answers never conflict with an update.

The copy is in `my/`, which Git ignores. It is as deep as `notebooks/`, so links such as
`../GLOSSARY.md` lead to the same files. Own answers are never overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

from helpers import paths
from labkit import notebooks

WORKING_COPY = paths.ROOT / "my"
# What was copied, by the hash of its cells. In the working copy, with what JupyterLab keeps.
STATE = ".lab"
RECORD = "copied.json"
WORKSPACE = "default"
# Defaults of JupyterLab for this folder. A user's own settings win over them.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",  # no question about news in the corner of the page
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {
        "defaultViewers": {"markdown": "Markdown Preview"}  # the glossary opens as a page
    },
}
LAYOUT = {
    "layout-restorer:data": {
        "main": {"dock": None, "current": None},
        "left": {"collapsed": True, "visible": True, "current": None, "widgets": []},
        "right": {"collapsed": True, "visible": True, "current": None, "widgets": []},
        "relativeSizes": [0, 1, 0],
    }
}


def cells_hash(path: Path) -> str:
    """SHA-256 of a notebook's cells without their outputs: running a notebook does not change it.

    A file that is not a notebook has the hash of its bytes.
    """
    data = path.read_bytes()
    try:
        cells = json.loads(data)["cells"]
        data = json.dumps([[cell["cell_type"], _joined(cell["source"])] for cell in cells]).encode()
    except (ValueError, KeyError, TypeError):
        pass
    return hashlib.sha256(data).hexdigest()


def _joined(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def update(folder: Path = WORKING_COPY, originals: Path = paths.NOTEBOOKS) -> list[str]:
    """Copy what is missing, and renew the copies in which no cell was changed.

    Args:
        folder: the working copy. It is made if it is missing.
        originals: the folder of the kit's notebooks.

    Returns:
        One sentence for each thing that the user should know.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    states, copied = compare(folder, originals), _read_record(folder)
    new, renewed, messages = [], [], []
    for original in notebooks.available(originals):
        name = original.name
        is_changed, has_newer = states.get(name, (False, True))
        if not is_changed:
            copied[name] = cells_hash(original)
            if has_newer:
                (renewed if name in states else new).append(name)
                paths.write_text(folder / name, original.read_text(encoding="utf-8"))
                _trust(folder / name)
        elif has_newer:
            has = "has" if name in copied else "may have"
            messages.append(
                f"{name} {has} a newer version. Your copy has changes of your own, so it "
                f"stays. For the new one: python -m helpers lab --fresh {original.stem[:2]}"
            )
    messages += [
        f"{name} is no longer among the kit's notebooks. Your copy stays."
        for name in copied
        if not (originals / name).exists() and (folder / name).exists()
    ]
    _write_record(folder, copied)
    if renewed:
        messages.insert(0, f"Updated, because you had not changed them: {', '.join(renewed)}")
    if new:
        messages.insert(0, f"Copied to {folder.name}/: {', '.join(new)}")
    return messages


def compare(
    folder: Path = WORKING_COPY, originals: Path = paths.NOTEBOOKS
) -> dict[str, tuple[bool, bool]]:
    """For each copy: whether it has changes of the user's own, and whether the kit's is newer."""
    copied, states = _read_record(folder), {}
    for original in notebooks.available(originals):
        name = original.name
        if (folder / name).exists():
            own, latest, before = cells_hash(folder / name), cells_hash(original), copied.get(name)
            states[name] = (own not in (latest, before), latest not in (own, before))
    return states


def _trust(copy: Path) -> None:
    """Let JupyterLab show the kit's own outputs as they are: it removes scripts of others."""
    from nbformat.sign import NotebookNotary

    NotebookNotary().sign(notebooks.read(copy))


def set_aside(
    names: list[str], folder: Path = WORKING_COPY, originals: Path = paths.NOTEBOOKS
) -> list[str]:
    """Rename copies, so that `update` makes new ones. Nothing is deleted.

    Args:
        names: which notebooks, as `notebooks.select` takes them.
        folder: the working copy.
        originals: the folder of the kit's notebooks.

    Returns:
        One sentence for each renamed file.

    Raises:
        ValueError: a name fits no notebook.
    """
    messages = []
    for original in notebooks.select(names, originals):
        copy = folder / original.name
        if not copy.exists():
            continue
        stem, number = f"{original.stem}-{date.today()}", 1
        while (kept := folder / f"{stem}{f'-{number}' if number > 1 else ''}.ipynb").exists():
            number += 1
        copy.rename(kept)
        messages.append(f"Your {original.name} is now {folder.name}/{kept.name}.")
    return messages


def _read_record(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / STATE / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the first time, or damaged: copies count as the user's own
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(folder: Path, copied: dict[str, str]) -> None:
    (folder / STATE).mkdir(exist_ok=True)
    paths.write_text(folder / STATE / RECORD, json.dumps(copied, indent=2) + "\n")


def write_settings(folder: Path = WORKING_COPY, settings: dict | None = None) -> None:
    """Write JupyterLab's defaults and its first layout for this folder.

    Args:
        folder: the working copy.
        settings: more defaults, by the id of their plugin.
    """
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    state = folder / STATE
    (state / "settings").mkdir(parents=True, exist_ok=True)
    text = json.dumps(SETTINGS | (settings or {}), indent=2)
    paths.write_text(state / "settings" / "overrides.json", text)
    workspaces = WorkspacesManager(str(state / "workspaces"))
    if not workspaces.load(WORKSPACE)["data"]:  # later visits find the tabs of the last one
        layout = {"data": LAYOUT, "metadata": {"id": WORKSPACE}}
        workspaces.save(WORKSPACE, json.dumps(layout))


def command(
    folder: Path = WORKING_COPY,
    first: str = "",
    *,
    port: int | None = None,
    browser: bool = True,
) -> list[str]:
    """The command that starts JupyterLab on the working copy; see `write_settings`.

    The folder above is JupyterLab's root, so that links to the glossary and to the data work. The
    user's own settings of JupyterLab are read, and its own workspaces are not touched.

    Args:
        folder: the working copy.
        first: the name of the notebook that opens; the list of files if empty.
        port: the port on this machine; JupyterLab finds a free one if None.
        browser: whether to open the browser.
    """
    state = folder / STATE
    address = "/".join(filter(None, ["/lab/tree", folder.name, first]))
    return [
        *[sys.executable, "-m", "jupyterlab"],
        f"--ServerApp.root_dir={folder.parent}",
        f"--FileContentsManager.preferred_dir={folder.name}",
        f"--LabApp.default_url={address}",
        f"--LabApp.app_settings_dir={state / 'settings'}",
        f"--LabApp.workspaces_dir={state / 'workspaces'}",
        "--LabApp.news_url=None",
        "--Application.log_level=ERROR",
        *([f"--ServerApp.port={port}"] if port else []),
        *([] if browser else ["--no-browser"]),
        # In a container everything runs as root. JupyterLab would refuse to start.
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]


def start(arguments: list[str]) -> int:
    """Run JupyterLab until it ends; returns its exit code."""
    process = subprocess.Popen(arguments)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # JupyterLab got it too, and asks whether to end
            continue


def running(folder: Path = WORKING_COPY) -> str | None:
    """The address of a JupyterLab that is open on this folder already; None if there is none."""
    from jupyter_server.serverapp import list_running_servers

    for server in list_running_servers():
        if os.path.realpath(server.get("root_dir", "")) == os.path.realpath(folder.parent):
            token = f"?token={server['token']}" if server.get("token") else ""
            return f"{server['url']}lab{token}"
    return None

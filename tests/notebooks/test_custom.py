"""Notebooks on one server for a room: `BACKEND = "custom"`, a key, and nothing else.

All notebooks, some minutes more: `python -m pytest tests/notebooks/test_custom.py --all-notebooks`.
"""

import os
import subprocess
import sys

import httpx2
import pytest

from helpers import connect
from labkit import notebooks, runner
from pocket_model.sharing import KEY_VARIABLE

KEY = "room-canary-0123456789"
USUAL = "00"

pytestmark = [pytest.mark.slow, pytest.mark.pocket]


@pytest.fixture(scope="module")
def room(model_folder, tmp_path_factory):
    """The address of a pocket server with a key; the three values are in the environment."""
    printed = tmp_path_factory.mktemp("serve") / "printed.txt"
    command = [sys.executable, "-m", "pocket_model", "serve", "--host", "127.0.0.1"]
    with printed.open("w") as sink:
        server = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=os.environ | {KEY_VARIABLE: KEY}
        )
    try:
        while "CUSTOM_BASE_URL" not in printed.read_text():
            assert server.poll() is None, printed.read_text()
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.1)
        line = next(row for row in printed.read_text().splitlines() if "CUSTOM_BASE_URL" in row)
        url = line.split()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUSTOM_BASE_URL", url)
            patch.setenv("CUSTOM_API_KEY", KEY)
            patch.delenv("CUSTOM_MODEL", raising=False)
            yield url
        assert KEY not in printed.read_text()
    finally:
        server.terminate()
        server.wait(10)


def test_the_key_is_asked_for(room):
    assert httpx2.get(f"{room}/models", trust_env=False).status_code == 401
    assert httpx2.get(f"{room.removesuffix('/v1')}/health", trust_env=False).status_code == 200
    lab = connect("custom")
    assert lab.model == "pocket-small"
    assert {"tools", "vision", "structured_output", "stream"} <= lab.supports


@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_a_notebook_runs(path, room, request, tmp_path):
    if path.stem[:2] != USUAL and not request.config.getoption("--all-notebooks"):
        pytest.skip("with --all-notebooks only")
    usage = f"{room.removesuffix('/v1')}/usage"
    headers = {"Authorization": f"Bearer {KEY}"}
    before = httpx2.get(usage, headers=headers, trust_env=False).json()
    report = runner.run("custom", [path.stem], tmp_path)
    (result,) = report.results
    assert (result.status, result.error) == ("passed", "")
    after = httpx2.get(usage, headers=headers, trust_env=False).json()
    assert after["completion_tokens"] > before["completion_tokens"] or path.stem[:2] in ("01", "02")
    for file in tmp_path.rglob("*.*"):
        assert KEY.encode() not in file.read_bytes(), file

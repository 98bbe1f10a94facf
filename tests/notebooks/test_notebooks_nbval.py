"""The committed outputs are what the notebooks give now, compared cell by cell by nbval."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers.backends import connect
from labkit import notebooks

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")


@pytest.fixture(scope="module")
def pocket():
    """Hold the embedded model's server open, so that the notebooks share one."""
    with closing(connect("pocket")) as lab:
        yield lab


@pytest.fixture(scope="module")
def kernel_settings(tmp_path_factory) -> Path:
    """IPython's folder, with the kit's options for kernels: nbval has no option for them."""
    folder = tmp_path_factory.mktemp("ipython")
    options = [option.removeprefix("--").split("=", 1) for option in notebooks.KERNEL_OPTIONS]
    lines = [value for name, value in options if name == "IPKernelApp.exec_lines"]
    (folder / "profile_default").mkdir()
    config = folder / "profile_default" / "ipython_kernel_config.py"
    config.write_text(f"get_config().IPKernelApp.exec_lines = {lines!r}\n")
    return folder


def nbval(path: Path, kernel_settings: Path) -> subprocess.CompletedProcess:
    """Run nbval over one notebook in a pytest of its own."""
    command = [
        *(sys.executable, "-m", "pytest", "--nbval", str(path), "-q", "--tb=short"),
        *("--nbval-sanitize-with", str(SANITIZE), "--nbval-cell-timeout", "600"),
        *("-p", "no:cacheprovider", "-o", "addopts="),
    ]
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "IPYTHONDIR": str(kernel_settings)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.pocket
@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_outputs_are_reproduced(path, pocket, kernel_settings):
    done = nbval(path, kernel_settings)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("shown", "code"), [("2\n", 0), ("3\n", 1)])
def test_nbval_sees_a_changed_output(tmp_path, kernel_settings, shown, code):
    import nbformat.v4 as v4

    cell = v4.new_code_cell("print(1 + 1)", execution_count=1)
    cell.outputs = [v4.new_output("stream", name="stdout", text=shown)]
    path = tmp_path / "00_probe.ipynb"
    notebooks.write(v4.new_notebook(cells=[cell]), path)
    assert nbval(path, kernel_settings).returncode == code

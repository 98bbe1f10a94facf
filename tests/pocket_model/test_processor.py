"""How torch's threads wait, and which CPUs compute bf16 fast."""

import json
import os
import subprocess
import sys

import pytest
import torch

from helpers.paths import ROOT
from pocket_model import processor

# The variables that torch's OpenMP runtimes read: GNU's, LLVM's and Intel's.
VARIABLES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "KMP_LIBRARY")
REPORT = f"""
import json, os, sys
import pocket_model
print(json.dumps([
    "torch" in sys.modules,
    {{name: os.environ[name] for name in {VARIABLES} if name in os.environ}},
]))
"""


@pytest.fixture
def nothing_set(monkeypatch):
    """An environment without these variables, and one that the test may change."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    return monkeypatch


def set_variables() -> dict[str, str]:
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def test_threads_sleep_soon_if_the_user_has_chosen_nothing(nothing_set):
    processor.wait_briefly()
    assert set_variables() == {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}


@pytest.mark.parametrize("value", ["infinite", "0", ""])
@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_chosen_stays_and_nothing_is_added(name, value, nothing_set):
    nothing_set.setenv(name, value)
    processor.wait_briefly()
    assert set_variables() == {name: value}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_importing_the_package_sets_them_before_torch_is_imported(chosen, expected, nothing_set):
    result = subprocess.run(
        [sys.executable, "-c", REPORT],
        env=os.environ | chosen,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.stdout, result.stderr
    assert json.loads(result.stdout) == [False, expected]


def test_every_module_that_imports_torch_sets_them_first(nothing_set):
    """Also where torch is imported by the server itself."""
    code = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            sys.exit()

sys.meta_path.insert(0, Finder())
import pocket_model.server.service
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "20000\n", result.stderr


def test_the_variable_shortens_the_wait_of_torchs_runtime(nothing_set):
    """GNU's runtime prints what it has read."""
    code = "import pocket_model, torch; torch.ones(9).sum()"
    environment = os.environ | {"OMP_DISPLAY_ENV": "verbose"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "GOMP_SPINCOUNT" not in result.stderr:
        pytest.skip("torch has another OpenMP runtime here")
    assert "GOMP_SPINCOUNT = '20000'" in result.stderr


def test_bf16_is_fast_where_onednn_has_it(monkeypatch):
    has_onednn = torch.backends.mkldnn.is_available()
    if has_onednn:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert processor.bf16_matmul_is_fast() == supported
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not processor.bf16_matmul_is_fast()


@pytest.mark.parametrize(
    ("has_amx", "has_bf16", "maker", "dtype"),
    [
        (True, True, "GenuineIntel", torch.bfloat16),
        (False, True, "GenuineIntel", torch.float32),
        (False, True, "AuthenticAMD", torch.bfloat16),
        (False, False, "AuthenticAMD", torch.float32),
        (False, True, None, torch.float32),  # the system does not say it
    ],
)
@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_many_rows_are_multiplied_in_the_faster_dtype(
    has_amx, has_bf16, maker, dtype, system, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    monkeypatch.setattr(processor, "bf16_matmul_is_fast", lambda: has_bf16)
    cpuinfo, words = tmp_path / "cpuinfo", f"AMD64 Family 26 Model 2 Stepping 1, {maker}"
    if system == "Linux":
        cpuinfo.write_text(f"processor : 0\nvendor_id : {maker}\n")
        words = ""
    monkeypatch.setattr(processor, "Path", lambda _: cpuinfo)
    monkeypatch.setattr(processor.platform, "processor", lambda: words)
    assert processor.dtype_for_many_rows() == dtype


@pytest.mark.skipif(sys.platform != "linux", reason="lscpu is a program of Linux")
def test_the_maker_of_this_cpu_is_known():
    shown = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
    assert processor.is_from_amd() == ("AuthenticAMD" in shown)


def test_what_the_user_has_chosen_of_kernels_stays(monkeypatch):
    first, second = processor.FEW_KERNELS
    monkeypatch.setenv(first, "7")
    monkeypatch.setenv(second, "")  # so that it is restored
    monkeypatch.delenv(second)
    processor.keep_few_kernels()
    assert os.environ[first] == "7"
    assert os.environ[second] == processor.FEW_KERNELS[second]


LINEARS = """
import psutil
from pocket_model import processor
{start}
import torch
weight = torch.ones(1536, 576, dtype=torch.bfloat16)
torch.nn.functional.linear(torch.ones(300, 576, dtype=torch.bfloat16), weight)
before = psutil.Process().memory_info().rss
for rows in range(1, 300):
    torch.nn.functional.linear(torch.ones(rows, 576, dtype=torch.bfloat16), weight)
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(not processor.bf16_matmul_is_fast(), reason="no bf16 in oneDNN here")
def test_products_of_many_sizes_take_little_memory():
    grown = {}
    for start in ("", "processor.keep_few_kernels()"):
        environment = {k: v for k, v in os.environ.items() if k not in processor.FEW_KERNELS}
        done = subprocess.run(
            [sys.executable, "-c", LINEARS.format(start=start)],
            capture_output=True, text=True, check=True, env=environment, timeout=60,
        )  # fmt: skip
        grown[start] = int(done.stdout)
    assert grown["processor.keep_few_kernels()"] < 0.7 * grown[""], grown

"""Machines that have no vLLM, and what they are told."""

import os
import platform
from dataclasses import replace

import pytest
from machines import LAPTOP

from labkit.serving.errors import ServingError
from labkit.serving.machine import check_platform, this_machine

GPU = (80 * 2**30,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "Windows"}, ["Windows", "WSL 2", "Ollama", "llama.cpp", "--engine pocket"]),
        ({"system": "Darwin"}, ["macOS", "Ollama", "llama.cpp", "--engine pocket"]),
        ({"system": "FreeBSD"}, ["FreeBSD", "Ollama"]),
        ({"architecture": "aarch64"}, ["aarch64", "x86-64", "Ollama"]),
        ({"cpu_flags": frozenset({"sse4_2"})}, ["AVX2", "llama.cpp"]),
    ],
)
def test_a_machine_without_vllm_is_told_what_to_use(changes, words):
    with pytest.raises(ServingError) as refused:
        check_platform(replace(LAPTOP, **changes))
    assert [word for word in words if word not in str(refused.value)] == []


@pytest.mark.parametrize("changes", [{}, {"architecture": "aarch64", "gpu_bytes": GPU}])
def test_a_machine_with_vllm_is_accepted(changes):
    check_platform(replace(LAPTOP, **changes))


def test_this_machine_is_read_as_other_tools_read_it():
    here = this_machine()
    assert (here.system, here.architecture) == (platform.system(), platform.machine())
    assert 1 <= here.cores <= os.cpu_count()
    assert here.free_bytes > 2**28

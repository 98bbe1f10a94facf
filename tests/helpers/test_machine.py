"""This machine in words: against what Python and PyTorch say of it."""

import os
import platform
from importlib import metadata

import torch

from helpers import machine


def test_the_hardware_is_this_machines(monkeypatch):
    text = machine.hardware()
    assert text.startswith(f"{os.cpu_count()} cores of ")
    assert f"({platform.system()}, {platform.machine()})" in text
    assert text.endswith("no GPU") == (not torch.cuda.is_available())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    assert machine.hardware().endswith(", H100")


def test_the_versions_are_those_installed():
    installed = machine.versions()
    assert installed.pop("python") == platform.python_version()
    assert installed == {name: metadata.version(name) for name in machine.PACKAGES}

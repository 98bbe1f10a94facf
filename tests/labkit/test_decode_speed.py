"""Decoding speeds in this process, and beside busy processes."""

import math
import subprocess

import psutil
import pytest
from safetensors import safe_open

from labkit import decode_speed, thread_spin


def test_every_way_decodes_and_reads_the_bytes_of_its_weights(model_folder):
    ways = [decode_speed.EAGER, "bf16", "int8", "int4", "nf4"]
    table = decode_speed.measure(ways, tokens=1, rounds=1)
    assert list(table.index) == ways
    assert (table["tokens_per_s"] > 0).all()
    # Counted in the file: inputs and outputs of each linear layer, and of the vocabulary's head.
    with safe_open(model_folder / "model.safetensors", framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    head = shapes["language_model.model.embed_tokens.weight"]
    of_layers = {n: s for n, s in shapes.items() if ".layers." in n and "proj" in n and "lang" in n}
    eager = 2 * (sum(map(math.prod, of_layers.values())) + math.prod(head))
    assert table.loc[decode_speed.EAGER, "MB"] == pytest.approx(eager / 1e6, rel=1e-3)
    # NF4 with double quantization: 4.127 bits (`02-bits`), and tables of about 1 KB a layer.
    in_nf4 = sum(map(math.prod, of_layers.values())) * 4.127 / 8 + 2 * math.prod(head)
    assert table.loc["nf4", "MB"] == pytest.approx(in_nf4 / 1e6, rel=0.01)
    # The server leaves out heads of zeros: a quarter of the queries, keys and values.
    for name in of_layers:
        place = 1 if "o_proj" in name else 0
        if "self_attn" in name:
            of_layers[name][place] = of_layers[name][place] * 3 // 4
    layers = of_layers.values()
    weights = sum(outputs * inputs for outputs, inputs in layers)
    outputs = sum(outputs for outputs, _ in layers)
    in_bf16 = 2 * (weights + head[0] * head[1])
    assert table.loc["bf16", "MB"] == pytest.approx(in_bf16 / 1e6)
    in_int8 = weights + 2 * outputs + head[0] * head[1] + 2 * head[0]
    # Two numbers for the weights of the last layer, and of the others' values.
    values = [s for n, s in of_layers.items() if "v_proj" in n and ".29." not in n]
    in_int8 += (weights + 2 * outputs) / 30
    in_int8 += sum(math.prod(shape) + 2 * shape[0] for shape in values)
    assert table.loc["int8", "MB"] == pytest.approx(in_int8 / 1e6)
    # int4: half a byte, and 4 bytes of scale and zero for 32 weights; the head stays in int8.
    in_int4 = weights * (1 / 2 + 4 / 32) + head[0] * head[1] + 2 * head[0]
    assert table.loc["int4", "MB"] == pytest.approx(in_int4 / 1e6)


def test_speed_beside_busy_processes_is_measured_and_nothing_stays(model_folder):
    table = thread_spin.measure({thread_spin.KIT: {}}, tokens=1, rounds=1)
    assert list(table.columns) == ["alone", "beside one", "beside two"]
    assert (table.loc[thread_spin.KIT] > 0).all()
    left = [process.cmdline() for process in psutil.Process().children(recursive=True)]
    assert not [line for line in left if thread_spin.BUSY in line or thread_spin.DECODER in line]


def test_only_the_kits_setting_is_the_kits(monkeypatch):
    """A child must not inherit what this process has set, or both settings would be the same."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "20000")
    show = "import os, pocket_model; print(os.environ.get('GOMP_SPINCOUNT'))"
    found = {}
    for name, settings in thread_spin.SETTINGS.items():
        environment = thread_spin.environment(settings)
        command = [thread_spin.sys.executable, "-c", show]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        found[name] = result.stdout.strip()
    kits = dict.fromkeys((thread_spin.SHORT, thread_spin.KIT), "20000")
    assert found == {thread_spin.DEFAULT: "None", **kits}

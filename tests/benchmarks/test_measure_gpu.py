"""The script that measures a GPU, run from beginning to end at a reduced size."""

import importlib.util
import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from helpers.model import sizes
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def script():
    path = ROOT / "benchmarks" / "measure_gpu.py"
    spec = importlib.util.spec_from_file_location("measure_gpu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_measures_every_scheme_and_reloads_the_same_model(script, tmp_path, monkeypatch):
    monkeypatch.setattr(
        script, "SMALL", script.SMALL | {"settings": [(8, 1), (8, 2)], "new_tokens": 3}
    )
    out, work = tmp_path / "out.json", tmp_path / "work"
    assert script.main(["--reduced", "--work", str(work), "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert not work.exists()
    assert result["reload_is_bit_identical"] is True
    assert set(result["loads"]) == {"bf16", "nf4", "nf4-dq", "nf4-dq saved"}
    settings = {(row["scheme"], row["batch"], row["cache"]) for row in result["speeds"]}
    assert {("bf16", 1, "static"), ("nf4-dq", 2, "dynamic")} <= settings
    assert all(row.get("decode_tokens_per_s", 0) > 0 for row in result["speeds"]), result["speeds"]
    for scheme in ("nf4", "nf4-dq"):
        rows = result["memory"][scheme]
        weights = ("quantized weights", "quantization state", "kept in 16 bits")
        total = sum(rows[part]["measured"] for part in weights)
        assert total == result["predicted_bytes"][scheme]
    assert result["saved"]["bytes"] < result["checkpoint_bytes"]
    plain, checkpointed = result["training"]
    for row in (plain, checkpointed):
        assert row["seconds"] > 0
        assert row["measured"]["adapter"] == row["planned"]["adapter"]
        assert row["measured"]["weights"] == row["planned"]["weights"]
    assert checkpointed["measured"]["activations"] < plain["measured"]["activations"]


def test_the_random_checkpoint_has_the_models_own_shape(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "SHARD_BYTES", 3_000_000)
    config = script.shape("mistral-small-3.2-2506", reduced=True)
    total = script.build(config, tmp_path / "model")
    assert len(list((tmp_path / "model").glob("model-*.safetensors"))) > 1
    assert total == sizes.weight_bytes(config, "bf16")
    model, report = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.all(model.model.language_model.norm.weight == 1)


def test_the_full_shape_is_the_24b(script):
    config = script.shape("mistral-small-3.2-2506", reduced=False)
    assert 23.9e9 < sizes.parameters(config) < 24.1e9


def test_a_folder_that_exists_is_not_touched(script, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert script.main(["--reduced", "--work", str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().out
    assert (tmp_path / "mine.txt").is_file()


@pytest.mark.parametrize(("says", "kept"), [("", "RuntimeError"), ("out of\nmemory", "out of")])
def test_a_setting_that_fails_is_a_row_with_its_reason(script, monkeypatch, says, kept):
    def fails(*_, batch, **__):
        if batch == 2:
            raise RuntimeError(says)
        return {"batch": batch, "decode_tokens_per_s": 1.0}

    monkeypatch.setattr(script.speed, "time_generation", fails)
    rows = list(script.speeds(None, "bf16", script.SMALL, [(8, 2), (8, 1)]))
    failed = [row for row in rows if row["batch"] == 2]
    assert {row["failed"] for row in failed} == {kept}
    assert [row["decode_tokens_per_s"] for row in rows if row["batch"] == 1] == [1.0]
    assert all({"scheme", "seconds_in_all"} <= row.keys() for row in rows)

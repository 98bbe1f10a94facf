"""The recorded run on a GPU, and what is computed from it."""

import pytest

from helpers.model import cards, configs, gpu_runs, sizes, training
from helpers.paths import ROOT

RUN = gpu_runs.load()


def test_the_run_is_of_the_whole_model_on_a_gpu():
    config = configs.load(RUN["model"])
    assert not RUN["reduced"]
    assert RUN["parameters"] == sizes.parameters(config)
    assert "H100" in RUN["hardware"]["gpu"]
    script, *_ = RUN["command"].removeprefix("python ").split()
    assert (ROOT / script).is_file()
    assert gpu_runs.source(RUN).startswith(RUN["command"])


def test_the_planner_predicts_todays_figures_of_the_run():
    """The prediction is computed anew: a change of the planner must still agree with the GPU."""
    config = configs.load(RUN["model"])
    for scheme in ("nf4", "nf4-dq"):
        rows = RUN["memory"][scheme]
        weights = ("quantized weights", "quantization state", "kept in 16 bits")
        measured = sum(rows[part]["measured"] for part in weights)
        assert sizes.weight_bytes(config, scheme) == measured
        assert sizes.kv_cache_bytes(config, 8192) == rows["KV cache"]["measured"]
        planned = sizes.activation_bytes(config, scheme, 8192, prefill_chunk=None)
        # An upper bound, and no more than a quarter above what it bounds.
        assert rows["activations"]["measured"] <= planned
        assert planned <= 1.25 * rows["activations"]["measured"]


def test_todays_training_plan_is_above_what_was_measured():
    for row, on in zip(RUN["training"], (False, True), strict=True):
        plan = training.plan(RUN["model"], rank=16, batch=1, tokens=2048, checkpointing=on)
        for part in ("weights", "adapter", "gradients", "optimizer", "logits"):
            assert plan.parts[part] == row["measured"][part], part
        peak = sum(row["measured"][part] for part in ("weights", "adapter", "step"))
        assert peak <= sum(plan.parts.values()) <= 1.12 * peak
    table = gpu_runs.training(RUN)
    assert (table["measured"] <= table["planned"]).all()
    assert table.loc["checkpointing", "measured"] < cards.gpu("RTX 4090").usable_bytes / 2**30


def test_no_speed_is_above_what_the_memory_allows():
    table = gpu_runs.speeds(RUN, "H100")
    assert table["share"].between(0.05, 1).all()
    one = table[(table["users"] == 1) & (table["prompt"] == 512)].set_index(["weights", "cache"])
    # By hand: 45.8 GB of weights (all but the embeddings) and 512 to 576 tokens of 160 KiB.
    by_hand = 3350e9 / (2 * (24.011e9 - 0.671e9 - 0.438e9) + 544 * 163840)
    assert one.loc[("bf16", "compiled"), "at most"] == pytest.approx(by_hand, rel=0.005)
    assert ("nf4-dq", "compiled") not in one.index


def test_what_could_not_be_run_is_told_with_its_reason():
    (reason,) = gpu_runs.failures(RUN)
    assert "bitsandbytes" in reason
    failed = sum("failed" in row for row in RUN["speeds"])
    assert len(gpu_runs.speeds(RUN, "H100")) == len(RUN["speeds"]) - failed


def test_memory_is_the_files_in_gb():
    table = gpu_runs.memory(RUN, "nf4-dq")
    stored = RUN["memory"]["nf4-dq"]["KV cache"]["measured"]
    assert table.loc["KV cache", "measured (GB)"] == pytest.approx(stored / 1e9)


def test_the_limits_of_another_gpu_are_refused():
    with pytest.raises(ValueError, match="H100 80GB HBM3, not of L4"):
        gpu_runs.speeds(RUN, "L4")


def test_a_step_that_did_not_fit_is_left_out():
    tried = RUN["training"]
    failed = {key: value for key, value in tried[0].items() if key != "measured"}
    table = gpu_runs.training(RUN | {"training": [failed, tried[1]]})
    assert list(table.index) == ["checkpointing"]

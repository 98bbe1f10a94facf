"""Batches, figures and comparisons, checked on values that are known."""

import json

import pandas as pd
import pytest
import yaml

from helpers import latency
from helpers.paths import DATA
from labkit.serving import commands, experiments, measure


def test_a_batch_is_written_as_openai_describes_it(tmp_path):
    path = tmp_path / "in.jsonl"
    experiments.write_batch(path, "m", ["One?", "Zwei “2”?"], max_tokens=3)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["custom_id"] for line in lines] == ["0", "1"]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert lines[1]["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Zwei “2”?"}],
        "max_tokens": 3,
    }


def test_a_batch_with_an_error_is_not_read_as_answers(tmp_path):
    path = tmp_path / "out.jsonl"
    body = {"choices": [{"message": {"content": "Paris."}}]}
    good = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    bad = {"custom_id": "b", "response": {"status_code": 400, "body": {}}, "error": None}
    path.write_text(json.dumps(good) + "\n")
    assert experiments.read_batch(path) == {"a": "Paris."}
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(ValueError, match="b: "):
        experiments.read_batch(path)


def test_figures_of_one_name_are_added_up():
    text = (
        "# HELP vllm:ended Requests\n# TYPE vllm:ended counter\n"
        'vllm:ended{reason="stop",model="a b"} 3.0\nvllm:ended{reason="length"} 2.0\n'
        'kv 0.25\nsince 1.5e+09\nunknown{a="1"} NaN\n'
    )
    found = experiments.read_metrics(text)
    assert found["vllm:ended"] == 5
    assert (found["kv"], found["since"]) == (0.25, 1.5e9)


def test_ratios_are_of_the_same_round():
    rows = pd.DataFrame(
        [
            {"round": number, "users": 1, "server": server, "tokens_per_s": rate * busy}
            for number, busy in enumerate([1.0, 0.1, 0.5])
            for server, rate in {"a": 10.0, "b": 30.0}.items()
        ]
    )
    table = experiments.paired(rows, "a", "b")
    assert table.loc[1, ["ratio", "least", "greatest"]].tolist() == pytest.approx([3, 3, 3])
    assert table.loc[1, "a"] == pytest.approx(5)


def test_prompts_differ_from_their_beginning_on():
    asked = experiments.prompts(40, "x")
    assert len({text.split()[0] for text in asked}) == 40


def test_the_manifest_has_the_flags_of_the_command():
    text = (DATA / "serving" / "values-24b.yaml").read_text(encoding="utf-8")
    (spec,) = yaml.safe_load(text)["servingEngineSpec"]["modelSpec"]
    given = " ".join(spec["vllmConfig"]["extraArgs"])
    assert set(commands.MISTRAL_FLAGS) <= set(given.replace("=", " ").split())
    assert given.endswith(f"--limit-mm-per-prompt={commands.IMAGES}")
    pinned = commands.environment.VLLM_GPU.file.read_text(encoding="utf-8")
    assert f"vllm=={spec['tag'].removeprefix('v')}\n" in pinned


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (latency.NOT_FINISHED, True),
        ("took longer than 60 s", True),
        ("APITimeoutError: Request timed out.", True),
        ("APIConnectionError: Connection error.", False),
    ],
)
def test_a_request_is_unaccounted_for_if_its_client_waited_in_vain(error, unknown):
    assert experiments._is_unknown(error) == unknown


def test_the_recorded_figures_are_complete():
    facts = json.loads(measure.FILE.read_text(encoding="utf-8"))
    assert facts["command"] == measure.COMMAND
    rows = pd.DataFrame(facts["throughput"]["rows"])
    assert sorted(rows["users"].unique()) == measure.LEVELS
    assert (rows["failed"] == 0).all()
    killed = facts["replicas"]["killed"]
    assert killed["answered"] + killed["failed"] == killed["sent"]
    assert killed["unaccounted"] == killed["afterwards_failed"] == 0
    assert len(facts["batch"]["answers"]) == 20


def test_a_renewed_section_leaves_date_and_machine_of_the_others(tmp_path, monkeypatch):
    file = tmp_path / "measured.json"
    monkeypatch.setattr(measure, "_version", lambda: "vllm 1")
    monkeypatch.setattr(measure.machine, "hardware", lambda: "the first machine")
    measure.keep(file, "load_test", {"a": 1})
    monkeypatch.setattr(measure.machine, "hardware", lambda: "the second machine")
    measure.keep(file, "adapter", {"b": 2}, renewed=True)
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["machine"] == "the first machine"
    assert (kept["load_test"], kept["adapter"]) == ({"a": 1}, {"b": 2})
    measure.keep(file, "load_test", {"a": 3})
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert (kept["machine"], kept["load_test"]) == ("the second machine", {"a": 3})

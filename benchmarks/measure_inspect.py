"""The share of right answers of the pocket model, by another program: inspect_ai.

    python -m venv inspect-env && inspect-env/bin/pip install inspect_ai==0.3.285 openai
    python benchmarks/measure_inspect.py

inspect_ai (UK AI Security Institute) has its own client, its own scorer `includes` and its own
statistics. It asks the pocket server the questions of `data/compare/questions.jsonl`, with the
settings of notebook 08. `includes` accepts an answer that has a target anywhere in it. The kit's
rules then judge the same answers, so that a difference is the scorers' alone. The answers and both
verdicts are written to `data/compare/inspect.json`. `--env` names another environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from helpers import connect
from helpers.compare import questions, scorers
from helpers.paths import DATA, write_text
from labkit.audit.measurements import report

QUESTIONS = DATA / "compare" / "questions.jsonl"
RESULT = DATA / "compare" / "inspect.json"
MAX_TOKENS = 16  # as in notebook 08

# It runs in inspect_ai's environment, so it imports nothing of the kit.
TASK = """
import json
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

@task
def pocket():
    rows = json.load(open("samples.json", encoding="utf-8"))
    return Task(dataset=[Sample(**row) for row in rows], solver=generate(), scorer=includes())
"""
# What each answer is read from, in inspect_ai's environment: its logs are a format of its own.
READ = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
assert log.status == "success", log.status
metrics = {name: m.value for name, m in log.results.scores[0].metrics.items()}
samples = [{"id": s.id, "answer": s.output.completion, "right": s.scores["includes"].value == "C"}
           for s in log.samples]
print(json.dumps({"metrics": metrics, "samples": samples}))
"""


def targets(rule: dict) -> list[str]:
    """What `includes` looks for: texts only, so a number in digits and in words."""
    if "any_of" in rule:
        return list(rule["any_of"])
    value = rule["value"]
    if isinstance(value, str):
        return [value]
    return [f"{value:g}", *([scorers.WORDS[value]] if value < len(scorers.WORDS) else [])]


def run(env: Path, folder: Path) -> dict:
    """inspect_ai's metrics and samples; ends the program if it fails."""
    asked = questions.load(QUESTIONS)
    rows = [{"id": q.id, "input": q.prompt, "target": targets(q.rule)} for q in asked]
    (folder / "samples.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "task.py").write_text(TASK, encoding="utf-8")
    lab = connect("pocket")
    variables = {"POCKET_API_KEY": "none", "POCKET_BASE_URL": str(lab.client.base_url)}
    command = [
        *(str(env / "bin" / "inspect"), "eval", "task.py", "--model"),
        *(f"openai-api/pocket/{lab.model}", "--temperature", "0", "--max-tokens", str(MAX_TOKENS)),
        *("--max-connections", "1", "--log-dir", "logs", "--log-format", "json"),
        *("--display", "plain"),
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | variables, capture_output=True, text=True
        )
    finally:
        lab.close()
    logs = list((folder / "logs").glob("*.json"))
    if done.returncode or not logs:
        sys.exit(f"inspect_ai wrote no result:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    read = [str(env / "bin" / "python"), "-c", READ, str(logs[0])]
    return json.loads(subprocess.run(read, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Run inspect_ai, judge its answers again, write the file, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", type=Path, default=Path("inspect-env"), help="its environment")
    env = parser.parse_args().env.resolve()
    pip = [str(env / "bin" / "python"), "-c", "import inspect_ai; print(inspect_ai.__version__)"]
    version = subprocess.run(pip, capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        result = run(env, Path(folder))
    rules = {question.id: question.rule for question in questions.load(QUESTIONS)}
    for sample in result["samples"]:
        sample["kit"] = scorers.judge(sample["answer"], rules[sample["id"]]) is None
    content = {
        "program": f"inspect_ai {version}, scorer includes",
        "command": "python benchmarks/measure_inspect.py",
        "date": date.today().isoformat(),
        "prompts_sha256": questions.prompts_hash(questions.load(QUESTIONS)),
        "sampling": {"temperature": 0, "max_tokens": MAX_TOKENS},
        **result,
    }
    write_text(RESULT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    kit = sum(sample["kit"] for sample in result["samples"]) / len(result["samples"])
    unequal = sum(sample["kit"] != sample["right"] for sample in result["samples"])
    detail = {"program": content["program"], "kit": round(kit, 4), "unequal_verdicts": unequal}
    report(round(result["metrics"]["accuracy"], 4), "share of right answers", **detail)


if __name__ == "__main__":
    main()

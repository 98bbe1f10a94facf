"""The notebooks are parametric: with other parameters, other answers, on the embedded model."""

import re
from pathlib import Path

import pytest

from labkit import notebooks, runner


def run(out: Path, stem: str, *pairs: str) -> str:
    """Run one notebook with these parameters; returns everything that it showed."""
    assert runner.run(names=[stem], out=out, pairs=list(pairs)).exit_code == runner.OK
    cells = notebooks.code_cells(notebooks.read(out / "pocket" / f"{stem}.ipynb"))
    return "\n".join(notebooks.output_text(output) for cell in cells for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.pocket
def test_another_model_is_taken_apart(tmp_path):
    assert "7,241,732,096" in run(tmp_path, "01_architecture", "MODEL=mistral-7b-v0.1")


@pytest.mark.slow
@pytest.mark.pocket
def test_another_question_is_read_and_answered_at_another_length(tmp_path):
    def prompt_tokens(text: str) -> int:
        return int(re.search(r"prompt tokens: +(\d+)", text)[1])

    first = run(tmp_path, "00_start_here", "QUESTION=Hello!", "MAX_TOKENS=3")
    other = run(tmp_path, "00_start_here", "QUESTION=Hello, hello, hello, hello!", "MAX_TOKENS=3")
    assert re.search(r"completion tokens: +3\b", first)
    assert prompt_tokens(other) > prompt_tokens(first)

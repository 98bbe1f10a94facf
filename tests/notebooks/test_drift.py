"""Every library symbol and keyword that the kit uses exists in the installed versions."""

import ast
from pathlib import Path

import drift
import pytest

from helpers.paths import ROOT
from labkit import notebooks
from labkit.freshness import PACKAGES

MODULES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    found = drift.problems(ast.parse(path.read_text(encoding="utf-8")), package)
    # Optional packages, which this environment may lack.
    optional = ("named 'trl'", "named 'datasets'", "named 'playwright'")
    assert [line for line in found if not any(name in line for name in optional)] == []


@pytest.mark.parametrize("path", notebooks.available(), ids=lambda path: path.stem)
def test_notebook(path: Path):
    cells = notebooks.code_cells(notebooks.read(path))
    # One tree, so that a name imported in one cell is known in the next.
    body = [node for cell in cells for node in notebooks.syntax_tree(cell).body]
    assert drift.problems(ast.Module(body, type_ignores=[])) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("import no_such_library", "no_such_library"),
        ("import transformers.no_such_part", "no_such_part"),
        ("from transformers import NoSuchModel", "NoSuchModel"),
        ("def later():\n    from pandas import NoFrame", "NoFrame"),
        ("import torch\ntorch.no_such_function(1)", "no_such_function"),
        ("import numpy as np\nnp.linalg.no_such_norm", "no_such_norm"),
        ("import pandas as pd\npd.DataFrame.no_such_method", "no_such_method"),
        ("import pandas as pd\npd.DataFrame([1], colums=['a'])", "colums"),
        ("import pandas as pd\nframe = pd.DataFrame([1])\nframe.rename(colums={})", "colums"),
        ("from helpers import connect\nconnect('pocket', modle='x')", "modle"),
        ("lab.client.chat.completions.create(model='m', mesages=[])", "mesages"),
        ("client.chat.completions.create(model='m', max_token=3)", "max_token"),
        ("lab.client.chat.completion.create(model='m')", "completion"),
        ("import openai\nopenai.OpenAI(api_kee='x')", "api_kee"),
    ],
)
def test_drift_is_seen(source, word):
    found = drift.problems(ast.parse(source))
    assert len(found) == 1
    assert word in found[0]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.nn.functional.softmax(x, dim=0)",
        "import numpy as np\nnp = 3\nnp.nothing",
        "from google.colab import userdata\nuserdata.get('x')",
        "lab.client.chat.completions.create(model='m', messages=[], extra_body={}, stream=True)",
        "lab.client.with_options(timeout=3).models.list()",
        "import pandas as pd\nframe = pd.DataFrame([1])\nframe.made_up_column.sum()",
        "import subprocess\nsubprocess.DETACHED_PROCESS",
    ],
)
def test_sound_code_is_let_through(source):
    assert drift.problems(ast.parse(source)) == []

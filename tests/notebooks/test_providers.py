"""Notebooks, helpers and the price of a run against servers that speak as four providers do.

Notebooks 00, 03, 04 and 05 against each of the four, some minutes more:
`python -m pytest tests/notebooks/test_providers.py --all-notebooks`.
"""

import contextlib

import jsonschema
import openai
import pytest
from dialects import DIALECTS, KEY, Refusal
from provider import serve

from helpers import batches, budget, connect, latency, openrouter, prices, replies, tools
from helpers.backends import BACKENDS, variable
from labkit import run_cost, runner

HELLO = [{"role": "user", "content": "Hello!"}]
# As `data:image/png`; only the form is checked.
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.fixture(scope="module")
def servers():
    """The scripted servers that run so far, by provider and by what answers."""
    with contextlib.ExitStack() as stack:
        running = {}

        def get(name: str, pocket_url: str | None):
            if (name, pocket_url) not in running:
                running[name, pocket_url] = stack.enter_context(serve(name, pocket_url))
            return running[name, pocket_url]

        yield get


@pytest.fixture
def script(request, servers, monkeypatch):
    """The scripted server of the provider that the test names.

    The pocket server answers if the test is marked so, else a stand-in without a model.
    """
    row = BACKENDS[request.param]
    if row.key_variable:
        monkeypatch.setenv(row.key_variable, KEY)
    for name in (
        *(budget.CAP_VARIABLE, budget.SPENT_VARIABLE, prices.PRICES_VARIABLE),
        variable(request.param, "URL"),
    ):
        monkeypatch.setenv(name, "")  # so that monkeypatch undoes what a run sets
        monkeypatch.delenv(name)
    url = None
    if request.node.get_closest_marker("pocket"):
        url = str(request.getfixturevalue("lab").client.base_url)
    script = servers(request.param, url)
    script.seen, script.failures, script.reasoning = [], [], None
    return script


@pytest.fixture
def provider(script, request):
    """A lab that is connected to it."""
    name = request.node.callspec.params["script"]
    connected = connect(name, base_url=script.url)
    yield connected
    connected.close()


def each(*names: str):
    return pytest.mark.parametrize("script", names or DIALECTS, indirect=True)


def ask(lab, messages=HELLO, **settings):
    request = {"model": lab.model, "messages": messages, "max_tokens": 3, "temperature": 0}
    return lab.client.chat.completions.create(**(request | settings))


@each()
def test_what_the_kit_sends_is_taken(script, provider):
    """A seed, a stream, counts where they are asked for, a call and its result, a schema."""
    ask(provider, temperature=1, **provider.seed(7))
    assert ("seed" in script.seen[-1]) != ("random_seed" in script.seen[-1])
    asked = {"stream_options": {"include_usage": True}}
    options = asked if "stream_options" in provider.supports else {}
    streamed = openrouter.collect(ask(provider, stream=True, **options))
    assert (streamed.complete, streamed.usage.completion_tokens) == (True, 3)

    def get_weather(city: str) -> str:
        """
        Get today's weather in a city.

        Args:
            city: The city, such as Paris.
        """
        return "sunny"

    question = [{"role": "user", "content": "What is the weather in Paris today?"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    trace = tools.run_tools(
        provider, question, [get_weather], max_rounds=1, temperature=0, max_tokens=40,
        tool_choice=named,
    )  # fmt: skip
    assert (trace.steps[0].name, trace.steps[0].content) == ("get_weather", "sunny")
    reply = ask(provider, trace.messages, tools=[tools.describe(get_weather)])
    assert reply.usage.prompt_tokens > 20
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    wanted = {"name": "x", "schema": schema | {"additionalProperties": False}, "strict": True}
    wanted = {"type": "json_schema", "json_schema": wanted}
    assert "1" in ask(provider, response_format=wanted, max_tokens=16).choices[0].message.content
    script.reasoning = "Let me think."
    assert replies.text_of(ask(provider).choices[0].message.content)


@each()
def test_latency_is_measured_with_the_servers_counts(script, provider):
    """Mistral AI (avante.nvim#2347) and Fireworks AI (Flowise#2866) refuse `stream_options`."""
    for _ in range(2):
        record = latency.stream_once(provider.client, provider.model, "Hello!", max_tokens=3)
        assert (record.error, record.output_tokens, record.finish_reason) == (None, 3, "length")
        assert record.sent <= record.deltas[0].at <= record.end
    refused = 1 if provider.backend in ("mistral", "fireworks") else 0
    assert len(script.seen) == 2 + refused  # refused once, and remembered
    record = latency.stream_once(provider.client, "other", "Hello!")
    assert record.error
    assert len(script.seen) == 3 + refused


# What each provider refuses although OpenAI takes it, from its documents and public reports.
REFUSED = [
    ("mistral", {"seed": 7}, 422, "body.seed: Extra inputs are not permitted"),
    ("mistral", {"stream_options": {"include_usage": True}}, 422, "body.stream_options: Extra"),
    ("mistral", {"extra_body": {"max_completion_tokens": 3}}, 422, "max_completion_tokens: Extra"),
    ("mistral", {"temperature": 1.8}, 422, "1.8 is greater than the maximum of 1.5"),
    ("mistral", {"messages": [HELLO[0] | {"name": "ann"}]}, 422, "body.messages.0"),
    ("together", {"stop": "x"}, 400, "stop"),
    ("together", {"messages": [{"role": "user", "content": [PICTURE]}]}, 400, "images"),
    ("fireworks", {"stream_options": {"include_usage": True}}, 400, "field: 'stream_options'"),
    ("fireworks", {"messages": [HELLO[0] | {"name": "ann"}]}, 400, "field: 'name'"),
    ("fireworks", {"max_tokens": 5000}, 400, "4096"),
    ("ollama", {"messages": [{"role": "assistant", "content": None}]}, 400, "<nil>"),
    ("ollama", {"messages": []}, 400, "too short"),
    ("ollama", {"model": "other"}, 404, "other"),
    ("mistral", {"model": "other"}, 400, "other"),
]


@pytest.mark.parametrize(("script", "change", "status", "says"), REFUSED, indirect=["script"])
def test_refusals_are_explained(script, provider, change, status, says):
    with pytest.raises(openai.APIStatusError) as refusal:
        ask(provider, **change)
    advice = openrouter.explain(refusal.value)
    assert (advice.code, advice.retry) == (status, False)
    assert says in advice.server


@each()
def test_a_full_server_is_asked_again(script, provider):
    refusals = {
        "mistral": script.dialect.error(429, "Rate limit exceeded"),
        "together": script.dialect.error(429, "Too many requests"),
        # LEAP#6: the error is a word, and the message is beside it.
        "fireworks": {"error": "Too Many Requests", "message": "You have exceeded your limits."},
        "ollama": script.dialect.error(503, "server busy, please try again"),
    }
    name = provider.backend
    status = 503 if name == "ollama" else 429
    script.failures = [Refusal(status, refusals[name], {"Retry-After": "0"})]
    heard = []
    reply = openrouter.complete(
        provider.client, on_retry=lambda advice, _: heard.append(advice), model=provider.model,
        messages=HELLO, max_tokens=2,
    )  # fmt: skip
    assert reply.usage.completion_tokens == 2
    assert [advice.code for advice in heard] == [status]
    assert heard[0].server


@each("mistral", "together")
def test_a_wrong_key_is_refused_before_a_run(script, monkeypatch, tmp_path):
    name = "mistral" if script.dialect.model.startswith("mistral-") else "together"
    monkeypatch.setenv(BACKENDS[name].key_variable, "another-key")
    with pytest.raises(runner.RunError, match="refuses the key"):
        runner.run(name, ["00"], tmp_path, max_usd=1, base_url=script.url)


@each()
def test_the_price_of_a_run(script, provider, monkeypatch):
    """Together AI lists it; for the others it is given, or the run is refused."""
    if provider.backend == "together":
        found = run_cost.find_price(provider)
        assert (found.input, found.output) == (0.8, 0.8)
        assert f"{script.url}/models, 20" in str(found)
    else:
        with pytest.raises(prices.BudgetError, match="--price"):
            run_cost.find_price(provider)
    found = run_cost.find_price(provider, "0.1,0.3")
    assert (found.input, found.output) == (0.1, 0.3)
    run_cost.use_price(provider.model, found)
    usage = {"prompt_tokens": 1e6, "completion_tokens": 1e6}
    assert prices.cost(usage, provider.model) == pytest.approx(0.4)


@each("mistral")
def test_a_batch_under_a_cap_is_paid_by_the_given_price(script, provider, monkeypatch, tmp_path):
    run_cost.use_price(provider.model, run_cost.Price(100, 300, "here"))
    frame = batches.run_batch(provider, ["Hi"], tmp_path / "a.jsonl", max_tokens=2, max_usd=0.01)
    assert frame["status"].tolist() == ["done"]
    assert 2 * 300e-6 < frame["usd"].sum() < 0.01
    monkeypatch.setenv(budget.CAP_VARIABLE, "0.0001")
    with pytest.raises(openai.APIStatusError) as refusal:
        ask(connect("mistral", base_url=script.url))
    assert refusal.value.status_code == 402


NOTEBOOKS = [(name, number) for number in ("00", "03", "04", "05") for name in DIALECTS]
USUAL = [(name, "00") for name in DIALECTS] + [("mistral", "05")]


@pytest.mark.slow
@pytest.mark.pocket
@pytest.mark.parametrize(("script", "number"), NOTEBOOKS, indirect=["script"])
def test_a_notebook_runs(script, number, request, tmp_path):
    name = request.node.callspec.params["script"]
    if (name, number) not in USUAL and not request.config.getoption("--all-notebooks"):
        pytest.skip("with --all-notebooks only")
    paid = {"max_usd": 9.0, "price": "0.1,0.3"} if BACKENDS[name].paid else {}
    report = runner.run(name, [number], tmp_path, base_url=script.url, **paid)
    (result,) = report.results
    assert (result.status, result.error) == ("passed", "")
    assert script.seen
    assert {body["model"] for body in script.seen} == {script.dialect.model}


@pytest.mark.parametrize("name", ["mistral", "together"])
def test_the_documents_are_held_against(name):
    """A reply that the provider's document does not describe is noticed."""
    dialect = DIALECTS[name]()
    choice = {"message": {"role": "assistant", "content": 3}, "finish_reason": "stop"}
    with pytest.raises(jsonschema.ValidationError):
        dialect.envelope("chat.completion", choice, None)

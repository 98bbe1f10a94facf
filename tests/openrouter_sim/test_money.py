"""Money under load: what was charged, what the budget booked and what the records say are equal.

Equal means to the last digit: each amount is taken with the digits that it is written with, and
these are added as decimals. Where a client cannot know what it paid (the stream broke off, the time
was up), the budget keeps the worst case, and `/generation` knows the truth.

The simulator is the real one; the model behind it is scripted, so that every run has the same
tokens. Nothing here is timed, except that some clients leave early.
"""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
from scripted_pocket import scripted_simulator

from helpers import batches, budget, jsonl, openrouter, prices
from openrouter_sim import faults

MODEL = "mistralai/mistral-small-3.2-24b-instruct"
KEY = "sk-or-v1-money-under-load"
AT_ONCE = 32


def exact(usd: float) -> Decimal:
    """An amount with the digits that it is written with."""
    return Decimal(repr(usd))


def total(amounts) -> Decimal:
    return sum(map(exact, amounts), Decimal(0))


@pytest.fixture
def sim(monkeypatch):
    with scripted_simulator(monkeypatch, prices.priced_models()) as simulator:
        yield simulator


class Bank:
    """A metered client of a simulator, and the ways to ask what was paid."""

    def __init__(self, sim: SimpleNamespace, folder: Path, key: str = KEY, cap_usd: float = 1.0):
        self.sim, self.folder, self.key = sim, folder, key
        self.spent_file = folder / "spent.jsonl"
        self.meter = budget.MeteredClient(cap_usd, MODEL, self.spent_file)
        self.sent: list = []
        self.meter.event_hooks = {"request": [self.sent.append]}
        self.client = openai.OpenAI(
            base_url=sim.base_url, api_key=key, http_client=self.meter, max_retries=0
        )
        self.lab = SimpleNamespace(client=self.client, model=MODEL)

    def charged(self) -> Decimal:
        return exact(openrouter.key_status(self.client).usage)

    def booked(self) -> Decimal:
        """What the meter counts, which is what its file says."""
        booked = self.meter.booked_usd
        assert booked == sum(Decimal(row["usd"]) for row in jsonl.read(self.spent_file))
        return booked

    def generations(self) -> list[dict]:
        """All that `/generation` knows of this key, asked over HTTP."""
        account = self.sim.simulator.gateway.accounts.of(f"Bearer {self.key}")[1]
        ids = list(account.generations)
        return [self.client.get(f"/generation?id={i}", cast_to=object)["data"] for i in ids]

    def worst_cases(self, kinds: set[str]) -> Decimal:
        """By hand: every byte a token, and all of `max_tokens`, at the snapshot's prices."""
        bodies = [request.content for request in self.sent if request.method == "POST"]
        requests = [(len(body), json.loads(body)) for body in bodies]
        return sum(
            size * Decimal("0.075e-6") + request["max_tokens"] * Decimal("0.2e-6")
            for size, request in requests
            if request["messages"][0]["content"].split(":")[0] in kinds
        )


def question(kind: str, number: int, fault: str = "", **more) -> dict:
    messages = [{"role": "user", "content": f"{kind}: What is {number}?"}]
    headers = {"extra_headers": {"X-Simulate": fault}} if fault else {}
    return {"model": MODEL, "messages": messages, "max_tokens": 6, **headers, **more}


# The ways to ask, and what the reply says that it cost; None if nothing was paid or said.


def whole(client, kind: str, number: int, fault: str) -> float | None:
    try:
        reply = openrouter.complete(client, attempts=2, **question(kind, number, fault))
    except (openai.APIError, openrouter.NoAnswer):
        return None
    return reply.usage.cost


def streamed(client, kind: str, number: int, fault: str) -> float | None:
    try:
        request = question(kind, number, fault, stream=True)
        got = openrouter.collect(client.chat.completions.create(**request))
    except openai.APIError:
        return None
    return got.usage.cost if got.usage else None


def leaves_a_stream(client, kind: str, number: int, _: str) -> None:
    request = question(kind, number, stream=True, max_tokens=500)
    stream = client.chat.completions.create(**request)
    for _chunk in zip(range(5), stream, strict=False):
        pass
    stream.close()


def leaves_a_whole_answer(client, kind: str, number: int, _: str) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(
            **question(kind, number, max_tokens=500)
        )


STATUSES = [name for name, fault in faults.FAULTS.items() if not fault.effect]
KNOWN = [
    *[(whole, fault) for fault in ("", "", "provider-down", "error-in-200", "unavailable 1")],
    *[(whole, fault) for fault in ("error-in-200 1", "slow", "moderation", "timeout 1")],
    *[(streamed, fault) for fault in ("", "", "comments", *STATUSES)],
]
UNKNOWN = [(streamed, fault) for fault in ("cut", "truncated", "mid-stream")]
UNKNOWN += [(leaves_a_stream, ""), (leaves_a_whole_answer, "")]


def test_every_ending_at_once(sim, tmp_path):
    """32 requests at a time, which end in every way that there is."""
    bank = Bank(sim, tmp_path)
    sim.pocket.token_s = 0.01
    jobs = [("known", *row) for row in KNOWN * 2] + [("unknown", *row) for row in UNKNOWN * 4]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask, bank.client, kind, n, fault) for n, (kind, ask, fault)
                 in enumerate(jobs)]  # fmt: skip
        said = [job.result() for job in asked]
    known = [usd for usd in said if usd is not None]
    assert len(known) == 2 * sum(fault in PAID for _, fault in KNOWN)
    assert min(known) > 0

    generations = wait_for_all_generations(bank, len(known) + 4 * len(UNKNOWN))
    whole_ones = [g for g in generations if g["finish_reason"] == "length"]
    # Each that was answered is charged once, and for what its reply says.
    assert Counter(known) == Counter(g["total_cost"] for g in whole_ones)
    assert total(g["total_cost"] for g in generations) == bank.charged()
    # The budget knows these, and keeps the worst case of the others: nothing less, nothing twice.
    assert bank.booked() == total(known) + bank.worst_cases({"unknown"})
    assert bank.charged() < bank.booked()
    # Who leaves pays what was generated until then, and no more is generated.
    left = [g for g in generations if g["cancelled"]]
    assert len(left) == 4 * 2
    assert all(0 < g["tokens_completion"] < 500 for g in left)
    assert min(g["total_cost"] for g in generations) > 0


PAID = ("", "provider-down", "unavailable 1", "error-in-200 1", "slow", "timeout 1", "comments")


def wait_for_all_generations(bank, count: int) -> list[dict]:
    """The simulator notices a little later that a client has left."""
    for _ in range(100):
        if len(generations := bank.generations()) >= count:
            return generations
        time.sleep(0.05)
    raise AssertionError(f"{len(generations)} generations of {count}")


def test_a_batch_is_charged_what_its_records_say(sim, tmp_path):
    bank = Bank(sim, tmp_path)
    path, prompts = tmp_path / "batch.jsonl", [f"What is {n}?" for n in range(AT_ONCE)]
    for fault in ("unavailable 1", "moderation", "provider-down"):
        batches.run_batch(
            bank.lab, prompts, path, concurrency=AT_ONCE, attempts=2, max_tokens=5,
            extra_headers={"X-Simulate": fault},
        )  # fmt: skip
    records = batches.read(path).values()  # other settings are other requests, in the same file
    done = [record["usd"] for record in records if record["status"] == "done"]
    assert Counter(r["status"] for r in records) == {"done": 2 * AT_ONCE, "failed": AT_ONCE}
    assert min(done) > 0
    assert total(done) == bank.charged() == bank.booked()
    assert Counter(done) == Counter(g["total_cost"] for g in bank.generations())


@pytest.mark.parametrize(
    ("key", "cap_usd", "words"),
    [(KEY, 0.0001, "cap is 0.0001 USD"), (faults.NEARLY_EMPTY, 1.0, "No credits")],
)
def test_nothing_is_charged_after_the_money_ran_out(sim, tmp_path, key, cap_usd, words):
    """402 of the kit, at the cap of a run; 402 of the service, for an empty account."""
    bank = Bank(sim, tmp_path, key, cap_usd)
    prompts = [f"What is {n}?" for n in range(4 * AT_ONCE)]
    table = batches.run_batch(
        bank.lab, prompts, tmp_path / "batch.jsonl", concurrency=4, max_tokens=8
    )
    done = table[table["status"] == "done"]["usd"]
    assert 4 < len(done) < len(prompts)
    assert words in table["error"].iloc[-1]
    assert total(done) == bank.charged() == bank.booked()
    assert bank.charged() <= Decimal(str(cap_usd))
    assert bank.client.get("/key", cast_to=object)["data"]["limit_remaining"] >= 0

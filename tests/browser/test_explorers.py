"""The explorers in Chromium, opened from the disk, without a kernel and without a network."""

import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import wire
from helpers.finetune.labels import Example, encode
from helpers.latency import Delta, Record
from helpers.model import configs, sizes
from helpers.widgets import (
    attention,
    call_pieces,
    failures,
    fits,
    four_bits,
    image_tokens,
    kv_cache,
    labels,
    next_token,
    quiz,
    timeline,
    tokens,
    trace,
)
from helpers.widgets.explorer import Explorer
from openrouter_sim import faults

HOSTILE = "<img src=x onerror=alert(1)>"
PIECES = [
    {"index": 0, "id": call_id, "function": {"name": name, "arguments": text}}
    for call_id, name, text in (
        ("a", "f", '{"text": '),
        (None, None, f'"{HOSTILE}"}}'),
        ("b", "g", "{}"),
    )
]
KV_MODELS = ["mistral-small-3.2-2506", "mistral-7b-v0.1", "gemma-2-27b"]
CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ATTENTION = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).tril()
ATTENTION /= ATTENTION.sum(-1, keepdim=True)
STREAM = Record(
    sent=1.0,
    role_only=1.05,
    deltas=[Delta(1.1 + n / 100, "content", text) for n, text in enumerate(("a", HOSTILE, "c"))],
    end=1.2,
    output_tokens=4,
)
CONVERSATION = [
    {"role": "user", "content": HOSTILE},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": '{"error": "it is closed"}'},
    {"role": "assistant", "content": f"Sorry. {HOSTILE}"},
]


def step(*likeliest, node=0, at=0):
    """A step whose first token was taken; each is (text, probability, node)."""
    entries = [
        {"text": text, "logprob": math.log(share), "node": to, "step": at, "ends": text == "</s>"}
        for text, share, to in likeliest
    ]
    return {"text": entries[0]["text"], "logprob": entries[0]["logprob"], "likeliest": entries}


def a_tree() -> Explorer:
    """Two tokens, and another second one, after which a third was computed."""
    second = [(" sea", 0.5, 0), (HOSTILE, 0.3, 1), ("</s>", 0.1, None), (" lake", 0.05, None)]
    other = step(*second, at=1) | {"text": HOSTILE, "logprob": math.log(0.3)}
    nodes = [
        {"steps": [step(("The", 0.9, 0), ("A", 0.1, None)), step(*second, at=1)]},
        {"steps": [other, step((" blue", 0.6, 1), (" red", 0.4, None), at=2)]},
    ]
    nodes[0] |= {"parent": None, "at": 0}
    nodes[1] |= {"parent": 0, "at": 1}
    data = {"question": HOSTILE, "seed": 7, "nodes": nodes}
    return Explorer(
        "The next token", pd.DataFrame({"token": ["The", " sea"]}), data, "next_token.js"
    )


def some_failures(simulator) -> Explorer:
    """Failures of each group, really sent; one has a message that looks like HTML."""
    hostile = faults.Fault(HOSTILE, 403, f"flagged: {HOSTILE}")
    names = ("rate-limit", "rate-limit-wait", "error-in-200", "truncated", "provider-down")
    some = {"moderation": hostile} | {name: faults.FAULTS[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "FAULTS", some)
        return failures.explore(simulator)


def some_labels() -> Explorer:
    """A conversation with the right labels, and with the prompt learned too."""
    chat = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": "a b"}]
    right = encode(wire.tokenizer(), chat)
    whole = Example(right.ids, right.ids)
    return labels.explore({"right": right, "whole": whole}, wire.tokenizer())


@pytest.fixture(scope="module")
def pages(tmp_path_factory, simulator):
    folder = tmp_path_factory.mktemp("explorers")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    small = configs.load("mistral-small-3.2-2506")
    small.vision_config.image_size = 168
    large = configs.load("mistral-small-3.2-2506")
    weights = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) / 50
    chat = [{"role": "user", "content": "Hi!"}]
    made = {
        "next_token": a_tree(),
        "tokens": tokens.explore(
            {"text": f"naïve 水 {HOSTILE}", "chat": chat}, usd_per_million=0.1
        ),
        "four_bits": four_bits.explore(weights),
        "image_tokens": image_tokens.explore(
            Image.fromarray(noise), {"24B": large, "small": small}
        ),
        "fits": fits.explore("mistral-small-3.2-2506"),
        "trace": trace.explore(CONVERSATION),
        "timeline": timeline.explore(STREAM),
        "attention": attention.explore(ATTENTION, ["a", HOSTILE, "c"], sharing=2),
        "kv_cache": kv_cache.explore(KV_MODELS),
        "call_pieces": call_pieces.explore(PIECES, ["f", "g"]),
        "failures": some_failures(simulator),
        "quiz": quiz.explore("03"),
        "labels": some_labels(),
    }
    for name, explorer in made.items():
        explorer.save(folder / f"{name}.html")
    return folder, made


@pytest.fixture
def open_page(chromium, pages):
    """Opens an explorer's page, and checks at the end that it had no error and asked no network."""
    opened, faults = [], []

    def go(name: str, scheme: str = "light", width: int = 1280):
        page = chromium.new_page(
            color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True
        )
        page.on("pageerror", lambda error: faults.append(f"{name}: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"{name}: {dialog.message}"))
        page.on(
            "request",
            lambda r: faults.append(r.url) if not r.url.startswith(("file:", "data:")) else None,
        )
        page.goto((pages[0] / f"{name}.html").as_uri())
        opened.append(page)
        return page

    yield go
    for page in opened:
        page.close()
    assert not faults, "\n".join(faults)


NAMES = [
    "next_token",
    "tokens",
    "four_bits",
    "image_tokens",
    "fits",
    "trace",
    "timeline",
    "attention",
    "kv_cache",
    "call_pieces",
    "failures",
    "quiz",
    "labels",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 800), ("dark", 380)])
def test_a_page_fits_and_replaces_its_table(open_page, name, scheme, width):
    page = open_page(name, scheme, width)
    assert page.locator(".kx-live").inner_text().strip()
    assert not page.locator(".kx-plain").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("img[src=x], [onerror]").count() == 0  # what was text stayed text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, serious_faults, name, scheme):
    assert serious_faults(open_page(name, scheme)) == []


def test_axe_would_find_it(chromium, serious_faults):
    page = chromium.new_page()
    page.set_content("<p style='color: #ccc'>pale</p><img src='data:,'><input>")
    assert {fault.split(":")[0] for fault in serious_faults(page)} >= {
        "color-contrast",
        "image-alt",
        "label",
    }
    page.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_control_is_reached_by_keyboard_and_has_a_name(open_page, name):
    page = open_page(name)
    controls = page.locator("button:enabled, input, select")
    count = controls.count()
    assert count
    reached = set()
    for _ in range(count + 2):
        page.keyboard.press("Tab")
        where = "[...document.querySelectorAll('button:enabled, input, select')]"
        reached.add(page.evaluate(f"{where}.indexOf(document.activeElement)"))
    assert set(range(count)) <= reached
    for number in range(count):
        named = "e => (e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText)"
        assert controls.nth(number).evaluate(named).strip()


def test_another_token_is_taken_and_the_answer_goes_on(open_page):
    page = open_page("next_token")
    answer, rows = page.locator(".kx-note").nth(1), page.locator(".kx-rows")
    assert answer.inner_text().split("\n") == ["The", "␣sea"] or "␣sea" in answer.inner_text()
    answer.locator("button").nth(1).click()
    assert "50.0 %" in rows.inner_text()
    rows.locator("button").nth(1).click()
    assert "␣blue" in answer.inner_text()
    assert HOSTILE.replace(" ", "␣") in answer.inner_text()
    rows.locator("button").nth(0).click()  # back to the first answer's own token
    assert "␣blue" not in answer.inner_text()
    rows.locator("button").nth(2).click()
    assert "the answer ends here" in page.locator("[role=status]").inner_text()
    rows.locator("button").nth(3).click()
    assert "was not computed" in page.locator("[role=status]").inner_text()


@pytest.mark.parametrize(
    ("temperature", "top_p", "min_p"), [(0, 1, 0), (0.5, 1, 0), (1.5, 0.6, 0), (1, 1, 0.3)]
)
def test_the_page_draws_with_the_shares_that_python_computes(
    open_page, pages, temperature, top_p, min_p
):
    page = open_page("next_token")
    page.locator(".kx-note").nth(1).locator("button").nth(1).click()
    for number, value in enumerate((temperature, top_p, min_p)):
        page.locator("input[type=range]").nth(number).fill(str(value))
    likeliest = pages[1]["next_token"].data["nodes"][0]["steps"][1]["likeliest"]
    logs = [each["logprob"] for each in likeliest]
    shares = next_token.shares(logs, temperature, top_p, min_p)
    shown = page.locator(".kx-rows > span.kx-number").all_inner_texts()[1::2]
    expected = [f"{100 * share:.1f} %" if share else "cut" for share in shares]
    assert shown == expected


def test_draws_follow_the_shares(open_page):
    page = open_page("next_token")
    counts = {"The": 0, "A": 0}
    for _ in range(200):
        page.locator("button", has_text="Draw a token").click()
        text = page.locator("[role=status]").inner_text()
        counts["A" if "“A”" in text else "The"] += 1
        page.locator("button", has_text="Back to the first answer").click()
    assert 5 <= counts["A"] <= 40  # of 200, with a probability of 0.1


def test_tokens_are_counted_and_shown_with_ids(open_page, pages):
    page, data = open_page("tokens"), pages[1]["tokens"].data["texts"]
    own = data["text"]["tokens"][tokens.MISTRAL]
    assert page.locator(".kx-tokens .kx-token").count() == len(own)
    assert f"{len(own)} tokens" in page.locator("[role=status]").inner_text()
    page.locator("input[type=checkbox]").check()
    assert page.locator("sub").all_inner_texts() == [str(token["id"]) for token in own]
    page.locator("select").first.select_option("chat")
    control = [t["text"] for t in data["chat"]["tokens"][tokens.MISTRAL] if t["kind"] == "control"]
    framed = page.locator(".kx-control").evaluate_all("all => all.map(e => e.firstChild.data)")
    assert framed == control
    page.locator("summary").click()
    counts = {name: len(each["tokens"][tokens.MISTRAL]) for name, each in data.items()}
    assert page.locator(".kx-rows > .kx-number").all_inner_texts() == [
        str(count) for count in sorted(counts.values())
    ]
    shares = [count / max(counts.values()) for count in sorted(counts.values())]
    widths = page.locator(".kx-rows .kx-now").evaluate_all(
        "all => all.map(e => e.offsetWidth / e.parentElement.offsetWidth)"
    )
    assert widths == pytest.approx(shares, abs=0.01)
    price = f"{counts['chat'] * 0.1:#.3g} USD for a million of these"
    assert price in page.locator("[role=status]").inner_text()


def test_each_weight_becomes_the_value_of_its_code(open_page, pages):
    page, data = open_page("four_bits"), pages[1]["four_bits"].data
    for scheme in four_bits.SCHEMES:
        page.locator("select").select_option(scheme)
        chosen = data["schemes"][scheme]
        for number in (0, 17, 63):
            page.locator("input[type=range]").fill(str(number))
            text = page.locator("[role=status]").inner_text()
            code = chosen["codes"][number]
            assert f"code {code}, in bits {code:04b}." in text
            assert f"It becomes {chosen['values'][code] * data['scale']:.5f}" in text
    assert page.locator(".kx-live table tr").count() == 1 + len(four_bits.BLOCKS)


def test_the_grid_is_the_models(open_page, pages):
    page, data = open_page("image_tokens"), pages[1]["image_tokens"].data
    for name in ("24B", "small"):
        page.locator("select").select_option(name)
        for number in (0, 3, 7):
            page.locator("input[type=range]").fill(str(number))
            entry = data["models"][name][number]
            assert f"{entry['tokens']} tokens" in page.locator("[role=status]").inner_text()
            lines = page.locator("svg line").count()
            assert lines == entry["rows"] + entry["columns"] + 2


def test_what_fits_is_said(open_page, pages):
    page, data = open_page("fits"), pages[1]["fits"].data
    for gpu, *places in (("RTX 4090", 4, 0, 0), ("T4", 2, 1, 0), ("H100", 6, 4, 1)):
        name = next(each for each in data["gpus"] if gpu in each)
        page.locator("select").select_option(name)
        for number, place in enumerate(places):
            page.locator("input[type=range]").nth(number).fill(str(place))
        sums = {s: sum(a[places[0]][places[1]][places[2]]) for s, a in data["needs"].items()}
        shown = page.locator(".kx-fits .kx-number").all_inner_texts()
        assert shown == [f"{size / 2**30:.1f} GiB" for size in sums.values()]
        fitting = [scheme for scheme, size in sums.items() if size <= data["gpus"][name]]
        said = page.locator("[role=status]").inner_text()
        assert (f"It fits in {', '.join(fitting)}." if fitting else "Nothing fits.") in said
    page.locator("input[type=range]").nth(0).fill("0")
    page.locator("input[type=range]").nth(2).fill("3")
    assert "more tokens than this context" in page.locator("[role=status]").inner_text()


def test_a_conversation_is_stepped_through(open_page):
    page = open_page("trace")
    steps, json_text = page.locator(".kx-lanes button"), page.locator(".kx-json")
    assert steps.count() == 4
    assert json.loads(json_text.inner_text()) == CONVERSATION[0]
    assert page.locator("button", has_text="Previous").is_disabled()
    for expected in (CALL, *CONVERSATION[2:]):
        page.locator("button", has_text="Next").click()
        assert json.loads(json_text.inner_text()) == expected
    assert page.locator("button", has_text="Next").is_disabled()
    assert steps.nth(2).inner_text().startswith("← ✗")
    steps.nth(1).click()
    assert json.loads(json_text.inner_text()) == CALL
    boxes = [steps.nth(number).bounding_box() for number in range(4)]
    assert boxes[0]["x"] == boxes[3]["x"] < boxes[1]["x"] == boxes[2]["x"]


def test_each_step_has_its_tokens(open_page):
    page = open_page("trace")
    for part in trace.wire_tokens(CONVERSATION):
        shown = page.locator(".kx-tokens .kx-token")
        assert shown.evaluate_all("all => all.map(e => e.title)") == [f"id {t}" for t in part]
        assert page.get_by_text(f"The model reads {len(part)} tokens:").is_visible()
        if (after := page.locator("button", has_text="Next")).is_enabled():
            after.click()
    page.locator(".kx-lanes button").nth(1).click()
    assert page.get_by_text("[TOOL_CALLS] a call begins").is_visible()


def test_a_stream_is_read_again_at_other_speeds(open_page, pages):
    page, data = open_page("timeline"), pages[1]["timeline"].data
    for each in data["definitions"]:
        page.locator("select").select_option(each["name"])
        said = page.locator("[role=status]").inner_text()
        assert f"first token (blue): {each['first']:.0f} ms" in said
        assert f"Then {each['each']:.1f} ms" in said
    played = page.locator(".kx-played")
    for button in page.locator("button").all():
        button.click()
        assert not played.inner_text().endswith("c")
        page.wait_for_function("document.querySelector('.kx-played').textContent.endsWith('c')")
        assert played.inner_text() == f"a{HOSTILE}c"


def test_the_heads_weights_are_drawn(open_page):
    page = open_page("attention")
    for layer, head in ((0, 0), (1, 3), (0, 2)):
        page.locator("input[type=range]").nth(0).fill(str(layer))
        page.locator("input[type=range]").nth(1).fill(str(head))
        shades = page.locator("svg rect[fill-opacity]").evaluate_all(
            "all => all.map(each => (each.getAttribute('fill-opacity') - 0.06) / 0.94)"
        )
        rows, columns = torch.tril_indices(3, 3)
        assert shades == pytest.approx(ATTENTION[layer, head, rows, columns].tolist(), abs=0.003)
        said = page.locator("[role=status]").inner_text()
        assert f"{100 * ATTENTION[layer, head, 2].max():.0f} %" in said
        assert f"with head {head ^ 1}." in said


def test_a_caches_bytes_are_the_planners(open_page):
    page = open_page("kv_cache")
    sliders = page.locator("input[type=range]")
    for number, model in enumerate(KV_MODELS):
        page.locator("select").select_option(index=number)
        for place, context in enumerate(kv_cache.CONTEXTS[:4]):
            sliders.nth(0).fill(str(place))
            sliders.nth(1).fill("2")
            own = sizes.kv_cache_bytes(configs.load(model), context, batch=4)
            shown = page.locator(".kx-sizes .kx-number").all_inner_texts()
            assert shown[0] == shown[2 + number]
            assert float(shown[0].removesuffix(" GiB")) == pytest.approx(own / 2**30, abs=0.006)
    sliders.nth(2).fill("23")  # half of Gemma's layers, and the cache is half as large
    half = sizes.kv_cache_bytes(configs.load(KV_MODELS[2]), 8192, batch=4) / 2
    shown = page.locator(".kx-sizes .kx-number").first.inner_text()
    assert float(shown.removesuffix(" GiB")) == pytest.approx(half / 2**30, abs=0.006)


def test_a_window_hides_the_tokens_before_it(open_page):
    page = open_page("kv_cache")
    token, window = (page.locator("input[type=range]").nth(number) for number in (4, 5))
    for width, seen, kept in ((1, 1, 0), (4, 4, 3), (12, 9, 9)):
        token.fill("9")
        window.fill(str(width))
        said = page.locator("[role=status]").nth(1).inner_text()
        assert f"Token 9 attends to {seen} of 9 tokens." in said
        assert said.endswith(f"keys and values of {kept}.")


def test_calls_are_put_together_by_the_chosen_rule(open_page):
    page = open_page("call_pieces")
    said = page.locator("[role=status]")
    page.locator("select").first.select_option("index")
    assert said.inner_text() == "1 call, 0 can be run."
    page.locator("select").first.select_option("id")
    assert said.inner_text() == "2 calls, 2 can be run."
    assert HOSTILE in page.locator(".kx-json").first.inner_text()
    page.locator("input[type=range]").fill("1")
    assert said.inner_text() == "1 call, 0 can be run. The stream has not ended."


def test_a_quiz_says_what_is_right_and_counts_first_choices(open_page):
    page, questions = open_page("quiz"), quiz.load("03")
    for number, question in enumerate(questions):
        box = page.locator(".kx-quiz").nth(number)
        assert question.text in box.inner_text()
        if number == 0:
            box.locator("button").nth((question.right + 1) % 4).click()
            assert "Choose again" in box.inner_text()
            assert question.why not in box.inner_text()
        box.get_by_role("button", name=question.options[question.right], exact=True).click()
        assert question.why in box.inner_text()
        assert box.locator("[aria-pressed=true]").count() == 1
    assert "4 of 5 right at the first choice" in page.locator(".kx").inner_text()


def test_failures_are_switched_by_keyboard_alone(open_page, pages):
    page, data = open_page("failures"), pages[1]["failures"].data
    slider = "document.activeElement.type === 'range'"
    names = [n for group in data["groups"] for n in data["faults"] if in_group(data, n, group)]
    assert sorted(names) == sorted(data["faults"])
    for place, name in enumerate(names):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        entry = data["faults"][name]
        assert page.locator("[aria-pressed=true]").all_inner_texts() == [name]
        facts = page.locator(".kx-facts").first.inner_text()
        said = [str(entry["status"]), entry["summary"], entry["action"], entry["server"]]
        assert all(part in facts for part in said)
        assert page.locator("pre").text_content() == entry["body"]
        assert page.locator("[role=status]").inner_text().startswith(f"{name}: {entry['title']}")
        for _ in names[place:]:
            page.keyboard.press("Tab")
        assert page.evaluate(slider)
        page.keyboard.press("Home")
        for failing in range(4):
            assert_timeline(page, data, name, failing)
            page.keyboard.press("ArrowRight")
        for _ in names[place:]:
            page.keyboard.press("Shift+Tab")


def in_group(data, name, group):
    return data["faults"][name]["group"] == group


def assert_timeline(page, data, name, failing):
    """The picture and the list have every attempt, every pause and every ending of one choice."""
    endings = page.locator(".kx-facts").nth(1).locator("span").all_inner_texts()
    rects, dashes, texts = 0, 0, page.locator("svg text").all_text_contents()
    for shown, runs in zip(endings, data["faults"][name]["runs"].values(), strict=True):
        run = runs[min(failing, len(runs) - 1)]
        found = run["attempts"]
        pauses = [f"{b['sent'] - a['ended']:.2f} s" for a, b in pairwise(found)]
        rects, dashes = rects + len(found), dashes + len(pauses)
        assert set(pauses) <= set(texts)
        for each, pause in zip(found, pauses, strict=False):
            assert f"pause {pause}, {each['why']}" in shown
        marks = [f"{'✗' if each['failed'] else '✓'} {each['status']}" for each in found]
        assert [mark for mark in marks if mark in texts and mark in shown] == marks
        assert " ".join(run["error"].split()) in shown
        assert run["ending"] in page.locator("[role=status]").inner_text()
    assert page.locator("svg rect").count() == rects
    assert page.locator("svg line[stroke-dasharray]").count() == dashes


def test_learned_tokens_are_marked_and_a_fault_is_told(open_page, pages):
    page, data = open_page("labels"), pages[1]["labels"].data["examples"]
    for name in ("right", "whole"):
        page.locator("select").select_option(name)
        learned = sum(token["learned"] for token in data[name]["tokens"])
        assert page.locator(".kx-learned").count() == learned
        note = page.locator("[role=status]").inner_text()
        assert f"{learned} of {len(data[name]['tokens'])} tokens are learned" in note
        assert ("prompt is learned" in note) == (name == "whole")

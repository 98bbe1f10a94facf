"""The long conversation of 3.2's model card, through the pocket server: a tool, a map, a tool.

Only the map tells which country "that country" is: with another map, another one must be named.
"""

import base64
import io
import json
import random
from dataclasses import replace

import pytest

from helpers import connect
from pocket_training import scenes, styles, tool_schemas

ARTICLE = (
    "OpenAI is an artificial intelligence research laboratory consisting of the non-profit OpenAI "
    "Incorporated and its for-profit subsidiary corporation OpenAI Limited Partnership."
)
TOOLS = [tool_schemas.known_tools()[name].schema for name in ("get_current_population", "rewrite")]
LEGEND = "On the map, Russia is green, Ukraine is red and Romania is yellow."
COUNTRIES = {"green": "Russia", "red": "Ukraine", "yellow": "Romania"}


@pytest.fixture(scope="module")
def lab(model_folder):
    connected = connect("pocket")
    yield connected
    connected.close()


def two_maps(seed: int) -> list[scenes.Regions]:
    """The same regions twice, two of the colors exchanged: first green is largest, then red."""
    drawn = scenes.random_regions(random.Random(seed), "held_out", count=3, plain=True)
    maps = []
    for first, second in (("green", "red"), ("red", "green")):
        others = iter((second, "yellow"))
        largest = drawn.largest()
        colors = tuple(first if k == largest else next(others) for k in range(3))
        rgbs = tuple(styles.SHADES[color][0] for color in colors)
        maps.append(replace(drawn, colors=colors, rgbs=rgbs))
    return maps


def history() -> list[dict]:
    """The turns before the map, as the model card has them."""
    call = {"name": "rewrite", "arguments": json.dumps({"text": ARTICLE})}
    outcome = {"action": "rewrite", "outcome": "OpenAI is a FOR-profit company."}
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {
            "role": "user",
            "content": f"Could you please make the below article more concise?\n\n{ARTICLE}",
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "bbc5b7ede", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "bbc5b7ede", "content": json.dumps(outcome)},
        {"role": "assistant", "content": "---\n\nOpenAI is a FOR-profit company."},
    ]


def ask(lab, messages):
    reply = lab.client.chat.completions.create(
        model=lab.model, messages=messages, tools=TOOLS, temperature=0, max_tokens=64
    )
    return reply.choices[0].message


# Maps that the model reads rightly in both forms, as it does five of the first nine.
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4, 5, 7])
def test_the_population_asked_for_is_that_of_the_country_on_the_map(lab, seed):
    for drawn in two_maps(seed):
        buffer = io.BytesIO()
        drawn.draw(3).save(buffer, "PNG")
        url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        question = f"Can you tell me what is the biggest country depicted on the map? {LEGEND}"
        parts = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        messages = [*history(), {"role": "user", "content": parts}]
        country = COUNTRIES[drawn.colors[drawn.largest()]]
        answer = ask(lab, messages)
        assert country in (answer.content or ""), answer
        messages += [
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": "What is the population of that country in millions?"},
        ]
        (call,) = ask(lab, messages).tool_calls
        assert call.function.name == "get_current_population"
        assert json.loads(call.function.arguments) == {"country": country, "unit": "millions"}

"""Conversations that mix tools and pictures, in the manner of Mistral Small 3.2's model card.

There the user has a text rewritten by a tool, then shows a map and asks for its largest country,
and then for "that country"'s population, which again takes a tool.
"""

import random
from dataclasses import replace

from mistral_common.protocol.instruct.chunk import ImageChunk, TextChunk
from mistral_common.protocol.instruct.messages import UserMessage

from pocket_training import picture_tasks, scenes, tool_requests, tool_results, tool_schemas, words
from pocket_training.examples import Exchange, Writer

def mixed_exchanges(writer: Writer, split: str, rng: random.Random) -> list[Exchange]:
    """Two exchanges of one conversation: the largest country on a map, then its population."""
    tools = [tool_schemas.known_tools()["get_current_population"].schema]
    history: list[dict] = []
    if rng.random() < 0.4:
        history.append({"role": "system", "content": rng.choice(words.chats().mixed_system_prompts[split])})
    if rng.random() < 0.6:
        rewrite = tool_schemas.known_tools()["rewrite"]
        tools.append(rewrite.schema)
        history += tool_results.result_case(tool_requests.request_for(rewrite, rng, split), rng, split).messages
    rng.shuffle(tools)
    scene = scenes.random_regions(rng, split)
    legend, countries = picture_tasks.random_legend(scene, split, rng)
    question = picture_tasks.phrased("region", split, rng, legend=legend)
    picture = ImageChunk(image=scene.draw(rng.choice([1, 2, 3])))
    asked = UserMessage(content=[picture, TextChunk(text=question)])
    country = countries[scene.largest()]
    answer = f"The largest country is {country}."
    unit = rng.choice(["millions", "thousands"])
    follow_up = {"role": "user", "content": rng.choice(words.tools().follow_ups[split]).format(unit=unit)}
    call = tool_requests.tool_call("get_current_population", {"country": country, "unit": unit}, tool_requests.call_id(rng))
    first = [*history, asked]
    second = [*first, {"role": "assistant", "content": answer}, follow_up]
    exchanges = [
        writer.answer(first, answer, tools),
        writer.calls(second, [call], tools, rng.choice(["numbered", "given"])),
    ]
    return [replace(exchange, words=(scene.words(),)) for exchange in exchanges]

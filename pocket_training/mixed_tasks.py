"""Conversations that mix tools and pictures, like the one in Mistral Small 3.2's model card.

There the user has a text rewritten by a tool, then shows a map and asks for its largest country.
Then the user asks for "that country"'s population, which again takes a tool.
"""

import random
from dataclasses import replace

from pocket_training import picture_tasks, scenes, words
from pocket_training.examples import Example, ExampleEncoder
from pocket_training.messages import assistant, call_id, system, tool_call, user, user_images
from pocket_training.tool_requests import request_for
from pocket_training.tool_results import result_case
from pocket_training.tool_schemas import known_tools


def mixed_examples(encoder: ExampleEncoder, split: str, rng: random.Random) -> list[Example]:
    """Two examples of one conversation: the largest country on a map, then its population."""
    tools = [known_tools()["get_current_population"].schema]
    history: list[dict] = []
    if rng.random() < 0.4:
        history.append(system(rng.choice(words.chats().mixed_system_prompts[split])))
    if rng.random() < 0.6:
        rewrite = known_tools()["rewrite"]
        tools.append(rewrite.schema)
        history += result_case(request_for(rewrite, rng, split), rng, split).messages
    rng.shuffle(tools)
    scene = scenes.random_regions(rng, split)
    asked = picture_tasks.ask_region(scene, picture_tasks.Wording(split, rng))
    first = [*history, user_images([scene.draw(rng.choice([1, 2, 3]))], asked.question)]
    country, answer = asked.value, asked.answer
    unit = rng.choice(["millions", "thousands"])
    follow_up = rng.choice(words.tools().follow_ups[split]).format(unit=unit)
    second = [*first, assistant(answer), user(follow_up)]
    call = tool_call("get_current_population", {"country": country, "unit": unit}, call_id(rng))
    examples = [
        encoder.text_example(first, answer, tools),
        encoder.calls_example(second, [call], tools, rng.choice(["numbered", "given"])),
    ]
    return [replace(example, cell_labels=(scene.cell_labels(),)) for example in examples]

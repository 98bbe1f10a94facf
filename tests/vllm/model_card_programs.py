"""The three programs of the 3.2 model card, as one would run them against a server of one's own.

Changed are the server's address, the model's name and the images. Two things had to be repaired:

- The card's `load_system_prompt` fills in its placeholders with `str.format`, which fails on any
  other brace, and two of its three programs do not fill them in at all.
- The card asks for 131,072 tokens. vLLM refuses a request for more tokens than its context has, so
  the limit is left to the server here.

    python tests/vllm/model_card_programs.py http://localhost:8000/v1 SYSTEM_PROMPT.txt

The system prompt is that of the model's repository on the Hub, or any text.
"""

import base64
import sys
from datetime import date, timedelta
from pathlib import Path

from openai import OpenAI

TEMP = 0.15
IMAGES = Path(__file__).resolve().parents[2] / "data" / "images"

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_population",
            "description": "Get the up-to-date population of a given country.",
            "parameters": {
                "type": "object",
                "properties": {
                    "country": {
                        "type": "string",
                        "description": "The country to find the population of.",
                    },
                    "unit": {
                        "type": "string",
                        "description": "The unit for the population.",
                        "enum": ["millions", "thousands"],
                    },
                },
                "required": ["country", "unit"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "rewrite",
            "description": "Rewrite a given text for improved clarity",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "The input text to rewrite"}
                },
            },
        },
    },
]
ARTICLE = (
    "OpenAI is an artificial intelligence research laboratory consisting of the non-profit OpenAI "
    "Incorporated and its for-profit subsidiary corporation OpenAI Limited Partnership."
)


def load_system_prompt(path: Path, model: str, today: date | None = None) -> str:
    """The text of a file, with the model's name and two dates filled in."""
    today = today or date.today()
    values = {"name": model, "today": today, "yesterday": today - timedelta(days=1)}
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def image(name: str) -> dict:
    """An image of this repository as a part of a message."""
    data = base64.b64encode((IMAGES / name).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def vision_reasoning(client: OpenAI, model: str, system: str) -> str:
    """What to do in the scene of a game."""
    question = (
        "What action do you think I should take in this situation? List all the possible actions "
        "and explain why you think they are good or bad."
    )
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": [{"type": "text", "text": question}, image("battle.png")]},
    ]
    response = client.chat.completions.create(model=model, messages=messages, temperature=TEMP)
    return response.choices[0].message.content


def function_calling(client: OpenAI, model: str, system: str) -> tuple[str, list]:
    """An earlier tool call, a question about a map, and a question that needs a tool."""
    arguments = '{"text": "' + ARTICLE + '"}'
    call = {"id": "bbc5b7ede", "type": "function"}
    messages = [
        {"role": "system", "content": system},
        {
            "role": "user",
            "content": f"Could you please make the below article more concise?\n\n{ARTICLE}",
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call | {"function": {"name": "rewrite", "arguments": arguments}}],
        },
        {
            "role": "tool",
            "content": '{"action":"rewrite","outcome":"OpenAI is a FOR-profit company."}',
            "tool_call_id": "bbc5b7ede",
            "name": "rewrite",
        },
        {"role": "assistant", "content": "---\n\nOpenAI is a FOR-profit company."},
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": "Can you tell me what is the biggest country depicted on the map?",
                },
                image("europe.png"),
            ],
        },
    ]
    options = {"model": model, "temperature": TEMP, "tools": TOOLS, "tool_choice": "auto"}
    response = client.chat.completions.create(messages=messages, **options)
    biggest = response.choices[0].message.content
    messages += [
        {"role": "assistant", "content": biggest},
        {"role": "user", "content": "What is the population of that country in millions?"},
    ]
    response = client.chat.completions.create(messages=messages, **options)
    return biggest, response.choices[0].message.tool_calls or []


def instruction_following(client: OpenAI, model: str, system: str) -> str:
    """A sentence whose words follow the alphabet."""
    messages = [
        {"role": "system", "content": system},
        {
            "role": "user",
            "content": "Write me a sentence where every word starts with the next letter in the "
            "alphabet - start with 'a' and end with 'z'.",
        },
    ]
    response = client.chat.completions.create(model=model, messages=messages, temperature=TEMP)
    return response.choices[0].message.content


def main(base_url: str, system_prompt: str) -> None:
    """Run all three and print the answers."""
    client = OpenAI(api_key="EMPTY", base_url=base_url)
    model = client.models.list().data[0].id
    system = load_system_prompt(Path(system_prompt), model)
    print("--- vision reasoning\n", vision_reasoning(client, model, system))
    print("--- function calling\n", *function_calling(client, model, system), sep="\n")
    print("--- instruction following\n", instruction_following(client, model, system))


if __name__ == "__main__":
    main(*sys.argv[1:3])

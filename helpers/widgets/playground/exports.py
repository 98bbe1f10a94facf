"""The last request of a chat as a program: Python with the openai package, or curl."""

import json
import pprint
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from helpers.backends import BACKENDS, Lab
from helpers.tools.schemas import describe
from helpers.widgets.playground.conversation import Conversation, is_sendable

if TYPE_CHECKING:
    from openai import OpenAI

NOTE = {
    "pocket": (
        "The pocket model has this address while a notebook uses it. For one that stays:",
        "python -m pocket_model serve --port 8001",
    ),
    "openrouter-sim": (
        "The simulator has this address while the notebook is open. For one that stays:",
        "python -m helpers simulate",
    ),
}


def request(lab: Lab, chat: Conversation, tools: Sequence[Callable] = ()) -> dict:
    """The body of the request that asked the last question, in OpenAI's form.

    Args:
        lab: from `connect`.
        chat: a chat with a question.
        tools: functions that the model may call.

    Raises:
        ValueError: the chat has no answered question, or a system prompt that cannot be sent.
    """
    if not is_sendable(chat.system):
        raise ValueError("The system prompt has half of a character in it. Delete that first.")
    messages = chat.messages
    while messages and messages[-1]["role"] != "user":
        messages.pop()
    if not messages:
        raise ValueError("There is nothing to export yet: ask a question first.")
    body = {"model": lab.model, "messages": messages, "temperature": chat.temperature}
    body |= {"max_tokens": chat.max_tokens}
    if tools:
        body["tools"] = [describe(function) for function in tools]
    seed = lab.seed(chat.seed) if chat.seed is not None else {}
    return body | seed.get("extra_body", seed)


def as_python(lab: Lab, chat: Conversation, tools: Sequence[Callable] = ()) -> str:
    """The last request as a Python program, which needs the openai package only.

    The key is read from the environment; it is never in the program.

    Raises:
        ValueError: the chat has no answered question.
    """
    body = request(lab, chat, tools)
    variable = BACKENDS[lab.backend].key_variable
    key = f'os.environ["{variable}"]' if variable else '"not-needed"'
    if variable and not BACKENDS[lab.backend].paid:
        key = f'os.environ.get("{variable}", "not-needed")'
    # What the openai package has no name for, such as Mistral's own seed, goes into extra_body.
    own = {name: body.pop(name) for name in [*body] if name == "random_seed"}
    lines = [f"    {name}={_literal(value)}," for name, value in body.items()]
    lines += [f"    extra_body={_literal(own)},"] if own else []
    imports = ["import os", ""] if variable else []
    notes = [f"# {line}" for line in NOTE.get(lab.backend, ())]
    text = [
        *imports,
        "import openai",
        "",
        *notes,
        f"client = openai.OpenAI(base_url={json.dumps(_base_url(lab.client))}, api_key={key})",
        "reply = client.chat.completions.create(",
        *lines,
        ")",
        "message = reply.choices[0].message",
        'print(message.content or "")',
    ]
    if tools:
        text += [
            "for call in message.tool_calls or []:",
            "    print(call.function.name, call.function.arguments)",
        ]
    return "\n".join(text) + "\n"


def as_curl(lab: Lab, chat: Conversation, tools: Sequence[Callable] = ()) -> str:
    """The last request as a command for a shell such as bash.

    The key is `$VARIABLE`, so that the shell reads it from the environment. The body is a here
    document: a picture can be longer than an argument of a command may be.

    Raises:
        ValueError: the chat has no answered question.
    """
    body = json.dumps(request(lab, chat, tools), ensure_ascii=False, indent=2)
    variable = BACKENDS[lab.backend].key_variable
    header = [f'-H "Authorization: Bearer ${variable}"'] if variable else []
    url = shlex.quote(f"{_base_url(lab.client)}/chat/completions")
    words = ["curl", "-sS", url, *header, "-H 'Content-Type: application/json'"]
    notes = [f"# {line}" for line in NOTE.get(lab.backend, ())]
    command = " ".join([*words, "--data-binary @- <<'JSON'"])
    return "\n".join([*notes, command, body, "JSON"]) + "\n"


def _base_url(client: "OpenAI") -> str:
    return str(client.base_url).rstrip("/")


def _literal(value: object) -> str:
    """A value as Python source, indented as an argument is."""
    return pprint.pformat(value, width=86, sort_dicts=False).replace("\n", "\n    ")

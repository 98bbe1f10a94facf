"""dspy: its language model, and a signature whose fields a schema holds."""

from typing import Literal

import dspy
import pytest


@pytest.fixture
def model(server):
    provider = "openrouter" if server.name == "simulator" else "openai"
    options = {"api_base": server.base_url, "api_key": server.api_key, "cache": False}
    return dspy.LM(
        f"{provider}/{server.model}", **options, max_tokens=60, temperature=0, num_retries=0
    )


def test_plain_and_a_second_turn(model):
    messages = [{"role": "user", "content": "Say hello."}]
    (answer,) = model(messages=messages)
    text = answer if isinstance(answer, str) else answer["text"]
    assert model(messages=[*messages, {"role": "assistant", "content": text}, *messages])


def test_a_signature(model):
    # With JSONAdapter dspy asks for a JSON schema, if it thinks that the model supports one. Else
    # the form is only in the prompt, which the small model cannot follow: then dspy's own error
    # about the form is right, and no error of the server's.
    signature = dspy.Signature(
        "text -> color: Literal['red', 'blue']", custom_types={"Literal": Literal}
    )
    with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
        try:
            assert dspy.Predict(signature)(text="The sky.").color in ("red", "blue")
        except dspy.utils.exceptions.AdapterParseError as error:
            assert "Error code" not in str(error)  # noqa: PT017

"""instructor, in the modes that the servers can hold by a grammar or a named tool.

Left out: PARALLEL_TOOLS and MD_JSON, where the small model's own words decide.
"""

from contextlib import suppress
from typing import Literal

import instructor
import openai
import pytest
from instructor.core import IncompleteOutputException
from pydantic import BaseModel


class Person(BaseModel):
    name: Literal["Ann", "Tom"]


class Anything(BaseModel):
    pass


@pytest.fixture
def client(server):
    def with_mode(mode):
        return instructor.from_openai(
            openai.OpenAI(**server.options), mode=getattr(instructor.Mode, mode)
        )

    return with_mode


@pytest.fixture
def request_(server):
    text = "This is Ann. Give me her name."
    return {
        "model": server.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 60,
    }


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"])
def test_an_object(client, request_, mode):
    create = client(mode).chat.completions.create
    assert isinstance(create(response_model=Person, max_retries=0, **request_), Person)


@pytest.mark.parametrize("mode", ["JSON", "JSON_O1"])
def test_any_object(client, request_, mode):
    # In these modes the schema is only in the prompt, so no fields are asked for.
    create = client(mode).chat.completions.create
    with suppress(IncompleteOutputException):  # the small model may write on and on
        assert isinstance(create(response_model=Anything, max_retries=0, **request_), Anything)


def test_with_the_completion_and_its_message_sent_back(client, request_):
    create = client("TOOLS").chat.completions.create_with_completion
    person, completion = create(response_model=Person, **request_)
    message = completion.choices[0].message.model_dump()
    call_id = message["tool_calls"][0]["id"]
    result = {"role": "tool", "tool_call_id": call_id, "content": "saved"}
    history = [*request_["messages"], message, result, {"role": "user", "content": "This is Tom."}]
    again, _ = create(response_model=Person, **request_ | {"messages": history})
    assert isinstance(person, Person)
    assert isinstance(again, Person)


def test_parts_of_an_object_while_it_is_streamed(client, request_):
    parts = list(client("TOOLS").chat.completions.create_partial(response_model=Person, **request_))
    assert Person.model_validate(parts[-1].model_dump())


def test_many_objects_are_one_call(client, request_):
    # The SDK puts all objects into one call of a named tool.
    create = client("TOOLS").chat.completions.create_iterable
    for person in create(response_model=Person, **request_ | {"max_tokens": 100}):
        assert isinstance(person, Person)

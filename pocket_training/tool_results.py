"""What a tool returns, and the answer that has to name it."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from pocket_training import words
from pocket_training.messages import assistant, assistant_calls, call_id, tool_result, user
from pocket_training.tool_requests import ToolRequest, template_fields
from pocket_training.tool_schemas import draw_value


@dataclass(frozen=True)
class ResultCase:
    """A question, its call, the result and the answer, and what the answer must contain."""

    messages: list[dict]
    must_contain: tuple[str, ...]


def result_case(request: ToolRequest, rng: Random, split: str) -> ResultCase:
    """A request with its result, which is an error in a tenth of the cases."""
    return result_pair(request, rng, split, error_share=0.1)[0]


def result_pair(
    request: ToolRequest, rng: Random, split: str, error_share: float = 0.0
) -> tuple[ResultCase, ResultCase]:
    """Two cases that differ in one value of the result, which the answer has to name.

    A share `error_share` of the results is an error. Then both cases are the same.
    """
    lists = words.tools()
    call = request.call(call_id(rng))

    def finish(question: str, content: str, answer: str, shown: list) -> ResultCase:
        messages = [user(question), assistant_calls([call]), tool_result(call, content)]
        return ResultCase([*messages, assistant(answer)], tuple(str(value) for value in shown))

    if rng.random() < error_share:
        error = rng.choice(lists.errors[split])
        content = rng.choice([json.dumps({"error": error}), f"Error: {error}"])
        case = finish(request.text, content, lists.error_reply.format(error=error), [error])
        return case, case

    if request.tool.verb:
        question, content, answer, fields = _invented_result(request, rng, split)
    else:
        tool = lists.known[request.tool.key]
        question, fields = request.text, tool.fields
        content, answer = rng.choice(tool.results[split]), rng.choice(tool.answers)
    values: dict[str, Any] = {}
    for field, holds in fields.items():
        values[field] = _value_not_in_prompt(holds, [question, *values.values()], rng, split)
    shown = [field for field in fields if field in template_fields(answer)]
    field = rng.choice(shown)
    other = _value_not_in_prompt(fields[field], [question, *values.values()], rng, split)
    cases = []
    for facts in (values, values | {field: other}):
        known = {**request.values, **facts}
        result, text = _result_content(content, known), answer.format(**known)
        cases.append(finish(question, result, text, [facts[name] for name in shown]))
    return cases[0], cases[1]


def _value_not_in_prompt(holds: Any, texts: list, rng: Random, split: str) -> Any:
    """A value that is not in, or part of, any of the texts: it can only come from the result.

    Nor is it one character, which any answer might contain.
    """
    texts = [str(text) for text in texts]
    while True:
        value = draw_value(holds, rng, split)
        new = not any(str(value) in text or text in str(value) for text in texts)
        if new and len(str(value)) > 1:
            return value


def _result_content(content: dict | str, facts: dict) -> str:
    if isinstance(content, str):
        return content.format(**facts)
    # a field that is no fact ("started") is written as it is
    filled = {key: facts.get(field, field) for key, field in content.items()}
    return json.dumps(filled, ensure_ascii=False)


def _invented_result(
    request: ToolRequest, rng: Random, split: str
) -> tuple[str, dict | str, str, dict]:
    """Question, content, answer and what the result's fields hold."""
    holds = words.tools().result_fields[split]
    free = [key for key in holds if key not in {p.key for p in request.tool.parameters}]
    keys = rng.sample(free, rng.choices([1, 2, 3], [45, 40, 15])[0])
    # result fields are set apart from the parameters' keys, which the answer does not use
    fields = {f"result_{key}": holds[key] for key in keys}
    question, wanted = request.text, keys
    if len(keys) == 3 or (len(keys) == 2 and rng.random() < 0.5):
        wanted = [rng.choice(keys)]
        if question[-1] not in ".?!":
            question += "."
        template = rng.choice(words.tools().result_questions[split])
        question = template.format(question=question, words=wanted[0].replace("_", " "))
    parts = [f"the {key.replace('_', ' ')} is {{result_{key}}}" for key in wanted]
    answer = " and ".join(parts) + "."
    content: dict | str = {key: f"result_{key}" for key in keys}
    if rng.random() < 0.2:
        content = ", ".join(f"{key}: {{result_{key}}}" for key in keys)
    return question, content, answer[0].upper() + answer[1:], fields

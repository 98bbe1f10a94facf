"""OpenRouter's OpenAPI document, which tests hold requests and replies against where it is here.

The document is not part of the kit; without it a test that asks for it is skipped and says so.
"""

import json
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from helpers.paths import ROOT

DOCUMENT = ROOT.parent / "shared" / "openrouter" / "openapi.yaml"
CHAT = "/chat/completions"


@cache
def document() -> dict:
    if not DOCUMENT.is_file():
        pytest.skip("OpenRouter's openapi.yaml is not here: the contract is not checked")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where it is built
    return yaml.load(DOCUMENT.read_text(encoding="utf-8"), Loader=loader)


def fits(body, schema: dict) -> None:
    """Validate against a schema of the document; OpenAPI 3.1 is JSON Schema 2020-12."""
    whole = {**schema, "components": document()["components"]}
    jsonschema.Draft202012Validator(whole).validate(body)


def answer_schema(status: int, kind: str = "application/json") -> dict:
    responses = document()["paths"][CHAT]["post"]["responses"]
    return responses[str(status)]["content"][kind]["schema"]


def request_fits(body: dict) -> None:
    fits(body, {"$ref": "#/components/schemas/ChatRequest"})


def check_record(log: Path) -> set[int]:
    """Hold a recorder's file against the document; returns the statuses that were met.

    Declared faults are excepted where they are no JSON of the document's: an error inside a
    status 200, and what was cut off.
    """
    statuses = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if not entry["path"].endswith(CHAT) or entry["method"] != "POST":
            continue
        if not entry["reply"] or entry["status"] == 499:  # the client had left
            continue
        request = json.loads(entry["request"])
        statuses.add(entry["status"])
        if "messages" in request:
            request_fits(request)
        if entry["simulate"].startswith("error-in-200"):
            continue
        if entry["reply"].startswith((":", "data:")):
            for event in entry["reply"].split("\n\n"):
                if event.startswith("data: {"):
                    fits({"data": json.loads(event[6:])}, answer_schema(200, "text/event-stream"))
        else:
            fits(json.loads(entry["reply"]), answer_schema(entry["status"]))
    return statuses

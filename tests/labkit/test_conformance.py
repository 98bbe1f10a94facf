"""The suite on the pocket model, and against a server that breaks the rules on purpose."""

import json
import threading

import pytest
import uvicorn
from fastapi import FastAPI, Request

from helpers import connect
from helpers.backends import ALL_FEATURES, BACKENDS, SHIPPED, supported_features
from labkit.conformance import PROBES, run_suite, save


def test_every_feature_has_its_probes():
    assert tuple(PROBES) == ALL_FEATURES


@pytest.mark.parametrize("batching", [False, True], ids=["serial", "batching"])
def test_the_pocket_model_supports_what_the_shipped_matrix_says(batching, model_folder):
    lab = connect("pocket", batching=batching)
    rows = {row["feature"]: row for row in run_suite(lab)["rows"]}
    lab.close()
    assert {name: row["detail"] for name, row in rows.items() if row["status"] != "yes"} == {}
    shipped = json.loads((SHIPPED / "pocket--pocket-small.json").read_text())
    assert {row["feature"]: row["status"] for row in shipped["rows"]} == {
        name: row["status"] for name, row in rows.items()
    }


@pytest.fixture
def careless_server():
    """A real server that ignores every setting: one answer, whatever was asked."""
    app = FastAPI()
    seen = []

    @app.get("/v1/models")
    def models():
        return {"object": "list", "data": [{"id": "careless", "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        seen.append(await request.json())
        message = {"role": "assistant", "content": "one two three four five six seven"}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "careless",
                "choices": [choice], "usage": usage}  # fmt: skip

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join()


def test_a_server_that_ignores_settings_does_not_pass(careless_server):
    lab = connect("custom", base_url=careless_server, model="careless")
    status = {row["feature"]: row["status"] for row in run_suite(lab)["rows"]}
    assert set(status) == set(ALL_FEATURES)
    assert status.pop("context_overflow") == "not tried"  # it does not say its context
    assert set(status.values()) == {"no"}


def test_a_kept_result_is_what_supports_reads(empty_cache):
    assert supported_features("vllm", "org/model")[0] == BACKENDS["vllm"].documented
    rows = [{"feature": "stop", "status": "yes"}, {"feature": "tools", "status": "no"}]
    save({"backend": "vllm", "model": "org/model", "date": "2026-01-02", "rows": rows})
    proven, source = supported_features("vllm", "org/model")
    assert proven == {"stop"}
    assert "2026-01-02" in source

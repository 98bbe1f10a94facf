"""What a learner reads whose small model's server was killed."""

import socket
from types import SimpleNamespace

import openai
import pytest

from helpers.connection.client import SERVER_ENDED, PocketTransport, make_client
from helpers.widgets import errors


def test_certificates_that_do_not_exist_do_not_matter(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    PocketTransport().close()


def test_a_request_to_an_ended_server_says_what_to_do_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    http_client = openai.DefaultHttpxClient(trust_env=False, transport=PocketTransport())
    client = make_client(f"http://127.0.0.1:{port}/v1", "none", http_client)
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="pocket-small", messages=[])
    assert str(caught.value).count(SERVER_ENDED.split(":")[0]) == 1
    assert caught.value.body["message"] == SERVER_ENDED
    assert "connect(" in SERVER_ENDED
    # A widget says these words alone, without a provider's.
    lab = SimpleNamespace(client=client, backend="pocket")
    assert errors.words(caught.value, lab) == SERVER_ENDED

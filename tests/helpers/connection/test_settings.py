"""Keys and addresses from the environment and from Colab's secrets.

The exceptions are those of `google/colab/userdata.py` in googlecolab/colabtools.
"""

import sys
from types import ModuleType

import pytest

from helpers import BackendError, backends, connect
from helpers.connection import settings


def colab_error(name: str) -> Exception:
    return type(name, (Exception,), {})("words of Colab's own")


DENIED, MISSING, LATE = map(
    colab_error, ("NotebookAccessError", "SecretNotFoundError", "TimeoutException")
)


@pytest.fixture
def colab(monkeypatch):
    """Colab's module; `.secrets` has values, or exceptions to raise. `.asked` has the names."""
    userdata = ModuleType("google.colab.userdata")
    userdata.secrets, userdata.asked = {}, []

    def get(name):
        userdata.asked.append(name)
        found = userdata.secrets.get(name, MISSING)
        if isinstance(found, Exception):
            raise found
        return found

    userdata.get = get
    module = ModuleType("google.colab")
    module.userdata = userdata
    for name, stub in {"google.colab": module, "google.colab.userdata": userdata}.items():
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setattr(settings, "_pause_ends", 0.0)
    names = [row.key_variable for row in backends.BACKENDS.values() if row.key_variable]
    for name in (*names, "CUSTOM_BASE_URL", "CUSTOM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return userdata


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (MISSING, 'Colab has no secret MISTRAL_API_KEY.*add MISTRAL_API_KEY.*"Notebook access"'),
        ("", "Colab has no secret MISTRAL_API_KEY, or it is empty"),
        (DENIED, 'this notebook may not read it.*switch on "Notebook access" for MISTRAL_API_KEY'),
        (LATE, "Colab did not answer.*open in Colab's own page"),
        (TimeoutError(), "Colab did not answer.*open in Colab's own page"),
        (ImportError(), r"could not read the secret MISTRAL_API_KEY \(ImportError\)"),
    ],
    ids=["missing", "empty", "denied", "late", "timeout", "other"],
)
def test_each_reason_has_a_sentence_of_its_own(colab, secret, says):
    colab.secrets["MISTRAL_API_KEY"] = secret
    with pytest.raises(BackendError, match=f"https://console.mistral.ai/api-keys.*{says}") as error:
        connect("mistral")
    reasons = ("has no secret", "may not read it", "did not answer", "could not read")
    assert sum(reason in str(error.value) for reason in reasons) == 1
    assert "before you start Jupyter" not in str(error.value)


def test_a_secret_is_the_key(colab):
    colab.secrets["MISTRAL_API_KEY"] = " key\n"
    assert connect("mistral").client.api_key == "key"
    assert backends.status("mistral") == (True, "key found in MISTRAL_API_KEY (Colab secret)")


def test_the_environment_counts_before_a_secret(colab, monkeypatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "own")
    assert connect("mistral").client.api_key == "own"
    assert colab.asked == []
    assert backends.status("mistral")[1].endswith("(environment variable)")


@pytest.mark.parametrize("secret", [MISSING, DENIED, LATE, ""])
def test_a_secret_that_cannot_be_read_stops_no_backend_that_needs_none(
    colab, json_server, recwarn, secret
):
    colab.secrets.update(dict.fromkeys(("VLLM_API_KEY", "CUSTOM_API_KEY"), secret))
    json_server.answer = '{"data": [{"id": "m"}]}'
    assert connect("vllm", base_url=json_server.url, model="m").model == "m"
    assert connect(json_server.url).model == "m"
    assert not recwarn.list


def test_after_a_time_out_colab_is_asked_once_a_minute(colab, monkeypatch):
    """Each question takes ten seconds there; the table of backends has five."""
    colab.secrets = dict.fromkeys([r.key_variable for r in backends.BACKENDS.values()], LATE)
    backends.table()
    assert len(colab.asked) == 1
    monkeypatch.setattr(settings, "_pause_ends", 0.0)
    assert "did not answer" in settings.read("MISTRAL_API_KEY").problem
    assert len(colab.asked) == 2


def test_a_room_of_secrets_is_enough_for_the_custom_backend(colab, json_server):
    json_server.answer = '{"data": [{"id": "m"}, {"id": "other"}]}'
    colab.secrets = {"CUSTOM_BASE_URL": json_server.url, "CUSTOM_MODEL": "m"}
    colab.secrets["CUSTOM_API_KEY"] = "room-key"
    lab = connect("custom")
    assert (lab.backend, lab.model, lab.client.api_key) == ("custom", "m", "room-key")
    assert json_server.seen[0]["authorization"] == "Bearer room-key"


def test_what_the_custom_backend_lacks_is_named(colab):
    with pytest.raises(BackendError, match=r"needs the address.*no secret CUSTOM_BASE_URL"):
        connect("custom")
    colab.secrets["CUSTOM_BASE_URL"] = DENIED
    with pytest.raises(BackendError, match='"Notebook access" for CUSTOM_BASE_URL'):
        connect("custom")


def test_a_server_that_wants_a_key_says_why_there_is_none(colab, json_server):
    json_server.status = 401
    colab.secrets["CUSTOM_API_KEY"] = DENIED
    with pytest.raises(BackendError, match=r"needs a key.*may not read it"):
        connect(json_server.url)

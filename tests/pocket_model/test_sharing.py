"""A server for other machines: never without a key, under its own names, with lines to paste."""

import re
import shlex
import socket

import pytest
from typer.testing import CliRunner

from pocket_model import __main__ as program
from pocket_model import sharing
from pocket_model.sharing import Sharing, SharingError

KEY = "room-key-0123456789"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(sharing.KEY_VARIABLE, raising=False)


def test_this_machine_alone_needs_no_key():
    assert sharing.sharing("127.0.0.1", None).access().key is None
    assert sharing.sharing("localhost", None).host == "127.0.0.1"
    assert sharing.sharing("::1", None).key is None


@pytest.mark.parametrize(
    ("host", "public_host"),
    [
        ("0.0.0.0", None),
        ("::", None),
        ("192.168.1.20", None),
        ("127.0.0.1", "a-tunnel.example"),
    ],
)
def test_other_machines_need_a_key(host, public_host, monkeypatch):
    made = sharing.sharing(host, public_host)
    assert made.access().key.startswith("pocket-")
    assert made.shows_key
    monkeypatch.setenv(sharing.KEY_VARIABLE, KEY)
    own = sharing.sharing(host, public_host)
    assert own.access().key == KEY
    assert not own.shows_key


@pytest.mark.parametrize("key", ["short", "x" * 15, "a key with many words", "schlüssel" * 3])
def test_a_key_that_is_short_or_cannot_be_pasted(key, monkeypatch):
    monkeypatch.setenv(sharing.KEY_VARIABLE, key)
    with pytest.raises(SharingError, match="at least 16") as error:
        sharing.sharing("0.0.0.0", None)
    assert key not in str(error.value)


@pytest.mark.parametrize("host", ["server", "example.org", "0.0.0", ""])
def test_a_name_is_no_address_to_listen_on(host):
    with pytest.raises(SharingError, match=r"not an IP address.*--public-host"):
        sharing.sharing(host, None)


@pytest.mark.parametrize("name", ["https://", "a b", "*", "[::1", "a:80x", "https://me:word@a"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(SharingError, match="is not a name"):
        sharing.sharing("127.0.0.1", name)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_every_address_is_also_that_of_ipv4():
    with program.listen("::", 0) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), 5).close()


def test_new_keys_differ_and_no_letter_looks_like_another():
    keys = {sharing.new_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert re.fullmatch(r"pocket(-[a-hjkmnp-z2-9]{4}){4}", key)


@pytest.mark.parametrize(
    ("host", "public_host", "url", "name"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:8001/v1", "localhost"),
        ("127.0.0.5", None, "http://127.0.0.5:8001/v1", "127.0.0.5"),
        ("::1", None, "http://[::1]:8001/v1", "::1"),
        ("192.168.1.20", None, "http://192.168.1.20:8001/v1", "127.0.0.1"),
        ("fd00::7", None, "http://[fd00::7]:8001/v1", "127.0.0.1"),
        ("0.0.0.0", "34.1.2.3", "http://34.1.2.3:8001/v1", "34.1.2.3"),
        ("0.0.0.0", "cloud.example:9000", "http://cloud.example:9000/v1", "cloud.example"),
        ("127.0.0.1", "Abc.example", "https://Abc.example/v1", "abc.example"),
        ("127.0.0.1", "https://abc.example/", "https://abc.example/v1", "abc.example"),
        ("127.0.0.1", "https://abc.example/v1", "https://abc.example/v1", "abc.example"),
    ],
)
def test_the_address_for_clients_and_the_names_of_the_server(host, public_host, url, name):
    shared = Sharing(host, KEY, public_host=public_host)
    assert shared.base_url(8001) == url
    assert name in shared.access().names


def test_every_address_is_printed_as_the_networks_own():
    shared = Sharing("0.0.0.0", KEY)
    address = sharing.network_address()
    assert shared.base_url(8001) == f"http://{address}:8001/v1"
    assert {address, socket.gethostname().lower(), *sharing.own_addresses()} <= (
        shared.access().names
    )


def test_the_lines_can_be_pasted_and_show_a_new_key_only():
    lines = Sharing("0.0.0.0", KEY, shows_key=True).lines(8001, batching=True)
    (export,) = [line for line in lines if "export" in line]
    values = dict(word.split("=", 1) for word in shlex.split(export)[1:])
    assert values["CUSTOM_BASE_URL"].startswith("http://")
    assert "0.0.0.0" not in "".join(lines)
    assert (values["CUSTOM_MODEL"], values["CUSTOM_API_KEY"]) == ("pocket-small", KEY)
    assert any(line.split() == ["CUSTOM_API_KEY", KEY] for line in lines)
    assert f"$env:CUSTOM_API_KEY='{KEY}'" in "\n".join(lines)
    lines = Sharing("0.0.0.0", KEY).lines(8001, batching=True)
    assert KEY not in "\n".join(lines)
    assert "the value of POCKET_API_KEY" in lines[0]


def test_the_lines_say_what_a_room_needs():
    text = "\n".join(Sharing("192.168.1.20", KEY).lines(8001, batching=False))
    assert "Notebooks on Colab need a public one: a tunnel to port 8001" in text
    assert "For a room, add --batching." in text
    text = "\n".join(Sharing("127.0.0.1", KEY).lines(8001, batching=True))
    assert "Only programs on this machine" in text
    assert "Colab need" not in text
    text = "\n".join(Sharing("0.0.0.0", KEY, public_host="34.1.2.3").lines(8001, batching=True))
    assert "--batching" not in text
    assert "Colab need" not in text


def test_serve_refuses_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(program, "ensure_built", None)  # fails if it is reached
    monkeypatch.setenv(sharing.KEY_VARIABLE, "short")
    result = CliRunner().invoke(program.app, ["serve", "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "at least 16 letters" in result.output


def test_an_address_of_another_machine_is_named(capsys):
    with pytest.raises(program.typer.Exit):
        program.listen("192.0.2.77", 0)
    assert "192.0.2.77 is not an address of this machine" in capsys.readouterr().out

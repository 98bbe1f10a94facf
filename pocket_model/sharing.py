"""What `serve` needs to answer other machines: a key, the server's names, the lines to paste."""

import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass

import psutil

from pocket_model.build import MODEL_ID
from pocket_model.loopback import LOOPBACK_NAMES, Access, host_name

KEY_VARIABLE = "POCKET_API_KEY"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another


class SharingError(ValueError):
    """The host, the name or the key cannot be used; says what to do."""


@dataclass(frozen=True)
class Sharing:
    """How a server can be reached, and by whom.

    Attributes:
        host: the IP address that it listens on.
        key: what clients must send; None for no key.
        shows_key: whether the key was made now, so that it has to be shown once.
        public_host: another name of the server, such as a tunnel's, or its whole address.
    """

    host: str = "127.0.0.1"
    key: str | None = None
    shows_key: bool = False
    public_host: str | None = None

    def access(self) -> Access:
        """The names under which the server may be asked, and its key."""
        names = LOOPBACK_NAMES | {self.host, self.name()}
        if not ipaddress.ip_address(self.host).is_loopback:
            names |= own_addresses() | {socket.gethostname().lower()}
        return Access(names, self.key)

    def base_url(self, port: int) -> str:
        """The address to give to clients, with /v1.

        A name without http:// or a port is taken for a tunnel's, and those speak https.
        """
        own = network_address() if self.host in ("0.0.0.0", "::") else self.host
        host = (self.public_host or own).rstrip("/").removesuffix("/v1")
        if "://" in host:
            return f"{host}/v1"
        if _is_ip_address(host):
            host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"{'http' if ':' in host else 'https'}://{host}/v1"

    def name(self) -> str | None:
        """The name or IP address in `base_url`; None if it is none."""
        return host_name(self.base_url(0).split("/")[2])

    def lines(self, port: int, batching: bool) -> list[str]:
        """What to print for a room of learners."""
        url, key = self.base_url(port), self.key if self.shows_key else "<the key>"
        values = {"CUSTOM_BASE_URL": url, "CUSTOM_MODEL": MODEL_ID, "CUSTOM_API_KEY": key}
        shown = f"{MODEL_ID} answers at {url} (Ctrl-C ends it)."
        if not self.shows_key:
            shown += f" <the key> is the value of {KEY_VARIABLE}."
        return [
            shown,
            'Each learner sets three values, and BACKEND = "custom" in the notebook\'s settings.',
            'On Colab, as secrets (key icon at the left; switch on "Notebook access" for each):',
            *(f"    {name:<16} {value}" for name, value in values.items()),
            "On macOS and Linux, in the terminal, before Jupyter is started:",
            "    export " + " ".join(f"{name}='{value}'" for name, value in values.items()),
            "On Windows, in PowerShell, before Jupyter is started:",
            "    " + "; ".join(f"$env:{name}='{value}'" for name, value in values.items()),
            *self._notes(port, batching),
        ]

    def _notes(self, port: int, batching: bool) -> list[str]:
        notes = []
        if not self.public_host and ipaddress.ip_address(self.host).is_loopback:
            notes.append(
                "Only programs on this machine reach this address. For other machines, start again "
                "with --host 0.0.0.0."
            )
        elif not self.public_host and ipaddress.ip_address(self.name()).is_private:
            notes.append(
                "Only machines in the same network reach this address. Notebooks on Colab need a "
                f"public one: a tunnel to port {port}, or a cloud machine. Start again with "
                "--public-host and its name."
            )
        if not batching:
            notes.append("Requests are answered one at a time. For a room, add --batching.")
        return notes


def sharing(host: str, public_host: str | None) -> Sharing:
    """Check how a server is to be shared. If other machines can use it, it has a key.

    Raises:
        SharingError: no IP address, no name, or a key in the environment that is easily guessed or
            cannot be pasted.
    """
    host = "127.0.0.1" if host == "localhost" else host
    if not _is_ip_address(host):
        raise SharingError(
            f"{host!r} is not an IP address. 0.0.0.0 means every address of this machine. A name "
            "belongs to --public-host."
        )
    if not Sharing(host, public_host=public_host).name():
        raise SharingError(
            f"{public_host!r} is not a name. --public-host takes one such as abc.example, or an "
            "address such as https://abc.example."
        )
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and ipaddress.ip_address(host).is_loopback and not public_host:
        return Sharing(host)
    if not key:
        return Sharing(host, new_key(), True, public_host)
    if not re.fullmatch(r"[\w.~+/=-]{16,}", key, re.ASCII):  # what RFC 6750 lets a token contain
        raise SharingError(
            f"The key in {KEY_VARIABLE} needs at least 16 letters, digits or hyphens, and no "
            "spaces or quotation marks. Without the variable, the server makes one."
        )
    return Sharing(host, key, False, public_host)


def new_key() -> str:
    """A random key that can be read aloud: about 79 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))
    return "-".join(["pocket", *groups])


def own_addresses() -> set[str]:
    """The IP addresses of this machine."""
    families = (socket.AF_INET, socket.AF_INET6)
    entries = [entry for group in psutil.net_if_addrs().values() for entry in group]
    return {entry.address.partition("%")[0] for entry in entries if entry.family in families}


def network_address() -> str:
    """This machine's address in the local network; 127.0.0.1 if it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the way out
            return probe.getsockname()[0]
        except OSError:
            pass
    others = [a for a in own_addresses() if ":" not in a and not a.startswith("127.")]
    return min(others, default="127.0.0.1")


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

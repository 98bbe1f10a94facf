"""What a connection needs, from the user's settings: address, model and key of a backend."""

import os

from helpers.connection import settings
from helpers.connection.client import BackendError, checked_address
from helpers.connection.rows import BACKENDS
from helpers.connection.server_check import Advice


def variable(backend: str, what: str) -> str:
    """The name of the user's own "URL" or "MODEL" of a backend.

    It is a variable of the environment; for "custom" it may also be a secret on Colab.
    """
    if backend == "custom":
        return "CUSTOM_BASE_URL" if what == "URL" else "CUSTOM_MODEL"
    return f"MISTRAL_LAB_{backend.upper().replace('-', '_')}_{what}"


def own_setting(backend: str, what: str) -> settings.Setting:
    """The user's own "URL" or "MODEL" of a backend."""
    name = variable(backend, what)
    if backend == "custom":
        return settings.read(name)
    return settings.Setting(os.environ.get(name, "").strip())


def address(backend: str, base_url: str | None = None) -> str:
    """The address of a backend: `base_url`, the user's own, or the usual one.

    Raises:
        BackendError: there is none, or it is no address.
    """
    if base_url:
        return checked_address(str(base_url))
    own = own_setting(backend, "URL")
    if own.value:
        return checked_address(own.value, variable(backend, "URL"))
    if usual := BACKENDS[backend].base_url:
        return usual
    raise BackendError(
        f"The backend {backend!r} needs the address of a server. {own.problem} Or write the "
        'address in the settings of the notebook: BACKEND = "http://192.168.1.20:8001/v1", for '
        "example."
    )


def advice(backend: str, found: settings.Setting) -> Advice:
    """What a user can do if this backend's server does not answer or refuses something."""
    row = BACKENDS[backend]
    name = row.key_variable
    if name is None:
        about_key = (
            'needs a key, and this backend has none. Use "custom" with CUSTOM_API_KEY instead.'
        )
    elif found.source:
        about_key = f"refuses the key in the {found.source} {name}. Copy it again, and all of it."
    else:
        about_key = f"needs a key, and {name} is not set. {found.problem}"
    model = f"Choose one with {variable(backend, 'MODEL')}, or connect(…, model=…)."
    return Advice(row.setup_hint, about_key, model)


def key(backend: str) -> settings.Setting:
    """A backend's key, or what is sent without one.

    Raises:
        BackendError: a paid backend has no key, or the key was not copied exactly.
    """
    row = BACKENDS[backend]
    if row.key_variable is None:
        return settings.Setting(row.default_key)
    found = settings.read(row.key_variable)
    if not found.value and not row.paid:
        return found._replace(value=row.default_key)
    if not found.value:
        raise BackendError(
            f"{backend!r} needs the key {row.key_variable}, and it is not set. "
            f"{row.setup_hint[0].upper()}{row.setup_hint[1:]}. {found.problem} "
            "Never write it into a cell."
        )
    value = found.value
    if not value.isascii() or not value.isprintable() or set(value) & set(" \"'"):
        raise BackendError(
            f"The key in the {found.source} {row.key_variable} contains a space, a quotation mark, "
            "a line break or another character that no key has, so it was not copied exactly. Copy "
            "it again."
        )
    return found

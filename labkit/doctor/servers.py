"""Keys, which are named and never shown, and servers, which are asked nothing that costs money."""

import httpx2

from helpers import backends
from helpers.backends import BACKENDS
from helpers.connection import choices, settings
from helpers.connection.client import BackendError, network_settings
from labkit.doctor.finding import GAP, NOTE, OK, Finding
from pocket_model import build
from pocket_model.cache import CacheError

TIMEOUT_S = 5


def check_keys() -> list[Finding]:
    """One finding for each key that is set or cannot be read, and one for all others."""
    found, missing = [], []
    for name, row in BACKENDS.items():
        if row.key_variable is None or name == "openrouter-sim":
            continue
        setting = settings.read(row.key_variable)
        try:
            if setting.value:
                choices.key(name)  # checks its characters
                found.append(Finding(row.key_variable, OK, f"set, as {_article(setting.source)}"))
            elif setting.withheld:
                found.append(Finding(row.key_variable, NOTE, "not readable", setting.problem))
            else:
                missing.append(row.key_variable)
        except BackendError as error:
            found.append(Finding(row.key_variable, GAP, "set, but it is not a key", str(error)))
    if missing:
        detail = f"not set: {', '.join(missing)}"
        other = "other keys" if found else "keys"
        found.append(Finding(other, OK, f"{detail}. The pocket model needs none"))
    return found


def _article(source: str) -> str:
    return f"an {source}" if source[0] in "aeiou" else f"a {source}"


def check_servers() -> list[Finding]:
    """Whether each backend's server can be used.

    A paid one appears if its key is set. It is asked without the key, so nothing can be charged.
    """
    found = [check_pocket()]
    for name, row in BACKENDS.items():
        if name == "pocket":
            continue
        if row.paid:
            if settings.read(row.key_variable).value:
                found.append(check_paid(name))
        elif name == "custom" and not choices.own_setting(name, "URL").value:
            found.append(Finding(name, OK, "no address set: see CUSTOM_BASE_URL in the README"))
        else:
            ready, detail = backends.status(name)
            found.append(
                Finding(name, OK, detail)
                if ready
                else Finding(name, NOTE, *_advised(detail, optional=name != "custom"))
            )
    return found


def _advised(message: str, optional: bool) -> tuple[str, str]:
    """A message as what happened and what to do."""
    if optional and message.startswith("No server answers at "):
        return "no server answers (optional)", message.partition("What to do: ")[2] or message
    happened, _, advice = message.partition(". ")
    return happened, advice or "see the README's table of backends"


def check_pocket() -> Finding:
    """Whether the pocket model is built."""
    try:
        if build.is_built():
            return Finding("pocket", OK, "built; it starts when it is used")
    except CacheError:
        pass  # `folders.check_cache` reports it
    except build.BuildError as error:
        return Finding("pocket", GAP, "it cannot be built", str(error))
    advice = "nothing: it is built at first use. Or: python -m pocket_model build"
    return Finding("pocket", NOTE, "not built yet", advice)


def check_paid(name: str) -> Finding:
    """Whether a paid backend's server can be reached. No key is sent."""
    try:
        address = choices.address(name)
        with network_settings(), httpx2.Client(timeout=TIMEOUT_S) as client:
            client.get(f"{address}/models")
    except BackendError as error:
        return Finding(name, GAP, "it cannot be reached", str(error))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = str(error) or type(error).__name__
        advice = "check your network and, if you have one, your proxy"
        return Finding(name, NOTE, f"it cannot be reached: {why}", advice)
    return Finding(name, OK, "it can be reached; the key was not tried")

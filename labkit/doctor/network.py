"""What lies between the kit and a server, and between the kit and a screen."""

import os
import sys
import urllib.request
from importlib.util import find_spec

import httpx2

from helpers.connection.client import (
    CERTIFICATE_VARIABLES,
    PROXY_VARIABLES,
    BackendError,
    network_settings,
    variables_present,
)
from labkit.doctor.finding import GAP, NOTE, OK, Finding

LOOPBACK = ("localhost", "127.0.0.1")


def findings() -> list[Finding]:
    """Proxies, certificates, and the terminal's encoding if there is a terminal."""
    return [check_proxy(), *check_certificates(), *check_console()]


def check_proxy() -> Finding:
    """Which proxy variables are set, whether they can be used, and for what. Never their values."""
    proxies = {kind: url for kind, url in urllib.request.getproxies().items() if kind != "no"}
    if not proxies:
        return Finding("proxy", OK, "none")
    names = variables_present(PROXY_VARIABLES)
    where = ", ".join(names) if names else "the system's settings"
    if any(url.startswith("socks") for url in proxies.values()) and not find_spec("socksio"):
        advice = "pip install socksio, or start with NO_PROXY=* to use no proxy"
        return Finding("proxy", GAP, f"{where}: a SOCKS proxy needs one more package", advice)
    try:
        with network_settings():
            httpx2.Client().close()
    except BackendError as error:
        return Finding("proxy", GAP, f"{where}: it cannot be used", str(error))
    if all(urllib.request.proxy_bypass(host) for host in LOOPBACK):
        return Finding("proxy", OK, f"set in {where}; this machine is exempt")
    advice = "the kit does without it; for other programs: NO_PROXY=localhost,127.0.0.1"
    detail = f"set in {where}; servers on this machine are not exempt"
    return Finding("proxy", NOTE, detail, advice)


def check_certificates() -> list[Finding]:
    """Certificates of the user's own, if there are any."""
    names = variables_present((*CERTIFICATE_VARIABLES[:2], "REQUESTS_CA_BUNDLE"))
    paths = {name: os.environ.get(name) or os.environ[name.lower()] for name in names}
    missing = [name for name, path in paths.items() if not os.path.exists(path)]
    if missing:
        advice = "correct the path, or remove the variable"
        return [Finding("certificates", GAP, f"{missing[0]} names a file that is missing", advice)]
    return [Finding("certificates", OK, f"from {', '.join(names)}")] if names else []


def check_console() -> list[Finding]:
    """Whether the terminal can show every character. A notebook can, so it has no such line."""
    encoding = getattr(sys.stdout, "encoding", None)
    if "ipykernel" in sys.modules or not encoding:
        return []
    try:
        "→✓ü語".encode(encoding)
    except UnicodeEncodeError:
        advice = "set PYTHONUTF8=1 before you start; on Windows also: chcp 65001"
        return [Finding("console", NOTE, f"{encoding}: some characters appear as ?", advice)]
    except LookupError:
        return []
    return [Finding("console", OK, encoding.upper())]

"""The user's own settings, keys included: from the environment, or from Colab's secrets."""

import os
import sys
import time
from typing import NamedTuple

# After a time-out Colab is not asked again for so long: each question takes it ten seconds.
PAUSE_S = 60.0
_pause_ends = 0.0


class Setting(NamedTuple):
    """A setting and where it comes from.

    Attributes:
        value: without blanks around it; empty if there is none.
        source: what it was found in: "environment variable" or "Colab secret".
        problem: if there is no value: why not, and what to do.
        withheld: whether Colab has the secret, or may have it, and did not give it.
    """

    value: str = ""
    source: str = ""
    problem: str = ""
    withheld: bool = False


def read(name: str) -> Setting:
    """The setting `name`: a variable of the environment, else a secret of Colab.

    Never raises: a secret that cannot be read does not stop a backend that needs none.
    """
    if value := os.environ.get(name, "").strip():
        return Setting(value, "environment variable")
    if on_colab():
        return _colab_secret(name)
    return Setting(problem=f"Set the environment variable {name} before you start Jupyter.")


def on_colab() -> bool:
    """Whether this process is the kernel of a notebook on Colab."""
    return "google.colab" in sys.modules


def _colab_secret(name: str) -> Setting:
    global _pause_ends
    if time.monotonic() < _pause_ends:
        return _withheld(name, "TimeoutError")
    try:
        from google.colab import userdata  # exists on Colab only

        value = userdata.get(name)
    except Exception as error:
        # By their names: Colab's own classes are not there in a test or in another editor.
        kind = type(error).__name__
        if kind != "SecretNotFoundError":
            if kind.startswith("Timeout"):
                _pause_ends = time.monotonic() + PAUSE_S
            return _withheld(name, kind)
        value = ""
    if value := value.strip():
        return Setting(value, "Colab secret")
    return Setting(
        problem=f"Colab has no secret {name}, or it is empty. Click the key icon at the left, add "
        f'{name}, switch on "Notebook access" for it, and run this cell again.'
    )


def _withheld(name: str, kind: str) -> Setting:
    """Why Colab did not give a secret, from its error's name."""
    match kind:
        case "NotebookAccessError":
            problem = (
                f"Colab has the secret {name}, but this notebook may not read it. Click the key "
                f'icon at the left, switch on "Notebook access" for {name}, and run this cell '
                "again."
            )
        case "TimeoutException" | "TimeoutError":
            problem = (
                f"Colab did not answer when asked for the secret {name}. It does so only in a "
                "notebook that is open in Colab's own page: open it there, reload the page and run "
                "this cell again."
            )
        case _:
            problem = (
                f"Colab could not read the secret {name} ({kind}). Reload the page and run this "
                "cell again."
            )
    return Setting(problem=problem, withheld=True)

"""The options of commands that talk to a backend, and the connection that they ask for."""

import argparse
import sys

from helpers.backends import BACKENDS, BackendError, Lab, connect


def add(parser: argparse.ArgumentParser) -> None:
    """Add --backend, --model, --base-url and --batching."""
    parser.add_argument("--backend", default="pocket", help="which server answers")
    parser.add_argument("--model", help="another model than the backend's default")
    parser.add_argument("--base-url", help="another address")
    parser.add_argument("--batching", action="store_true", help="pocket: continuous batching")


def connected(options: argparse.Namespace, *, sends: str) -> Lab | None:
    """Connect as the options say; None, with the reason printed, where that is not possible.

    Args:
        sends: what the command will send, to be told where it costs money.
    """
    try:
        lab = connect(
            options.backend,
            model=options.model,
            base_url=options.base_url,
            batching=options.batching,
        )
    except BackendError as error:
        print(" ".join(f"error: {error}".split()), file=sys.stderr)
        return None
    if BACKENDS[options.backend].paid:
        print(f"{options.backend} costs money: this sends {sends}.")
    return lab

"""`python -m openrouter_sim`: run the simulator until Ctrl-C."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from openrouter_sim.app import Simulator
from openrouter_sim.faults import FAULTS, HOW_TO_ASK, KEY, KEYS, STREAM_EFFECTS
from pocket_model.build import BuildError
from pocket_model.cache import CacheError
from pocket_model.console import accept_any_encoding
from pocket_model.lease import ServerError

PRICES = Path(__file__).resolve().parent.parent / "data" / "prices.json"


def serve(port: int, prices: dict[str, dict]) -> int:
    """Run the simulator until Ctrl-C; returns the exit code.

    Args:
        port: on this machine.
        prices: as for `Simulator`.
    """
    try:
        simulator = Simulator(prices, port)
    except (BuildError, CacheError, ServerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = os.strerror(error.errno)
        print(f"error: port {port}: {reason}. Choose another with --port.", file=sys.stderr)
        return 2
    print(f"A simulator of OpenRouter at {simulator.base_url}; Ctrl-C ends it.\nKeys:")
    for key, what_happens in KEYS.items():
        print(f"  {key}: {what_happens}")
    print(f"Failures of POST /chat/completions, by a header. {HOW_TO_ASK}")
    for name, fault in FAULTS.items():
        streams = ", of streams only" if fault.effect in STREAM_EFFECTS else ""
        print(f"  {name}: {fault.title} ({fault.status}{streams})")
    print(f"To try one, in another terminal:\n{curl(simulator.base_url, next(iter(prices)))}")
    try:
        simulator.wait()
    except KeyboardInterrupt:
        simulator.close()
    return 0


def curl(base_url: str, model: str) -> str:
    """A command line that asks for a failure."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    quote = '"' if os.name == "nt" else "'"
    data = json.dumps(body).replace('"', '\\"') if os.name == "nt" else json.dumps(body)
    headers = [f"Authorization: Bearer {KEY}", "X-Simulate: rate-limit"]
    headers.append("Content-Type: application/json")
    options = " ".join(f'-H "{header}"' for header in headers)
    return f"curl {base_url}/chat/completions {options} -d {quote}{data}{quote}"


def main(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine.")] = 8765,
    prices: Annotated[
        Path,
        typer.Option(
            help="JSON file with models and their prices.",
            exists=True,
            show_default="data/prices.json",
        ),
    ] = PRICES,
) -> None:
    """Run a simulator of OpenRouter on this machine; the pocket model answers.

    The header `X-Simulate: NAME` asks for a failure. With `X-Simulate: NAME 2`, a request fails
    twice and then succeeds: the same body with the same key is the same request.
    """
    try:
        models = json.loads(prices.read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{prices} is not a price file such as the kit's data/prices.json: {error!r}."
        raise typer.BadParameter(message, param_hint="--prices") from error
    raise typer.Exit(serve(port, models))


if __name__ == "__main__":
    accept_any_encoding()
    app = typer.Typer(
        rich_markup_mode=None,  # plain help: readable in a pipe
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(main)
    app()

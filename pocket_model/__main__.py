"""Build, serve and try out the pocket model, which has 142 million parameters."""

import errno
import json
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocket_model import lease, memory, processor, sharing
from pocket_model.build import (
    DEFAULT_QUANTIZATION,
    DEFAULT_TEMPERATURE,
    MODEL_ID,
    BuildError,
    Quantization,
    ensure_built,
)
from pocket_model.cache import CacheError, atomic_write
from pocket_model.console import accept_any_encoding

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

app = typer.Typer(
    help=__doc__,
    rich_markup_mode=None,  # plain help: readable in a pipe and in a terminal of any encoding
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Weights = Annotated[Quantization, typer.Option(help="How the weights are held.")]
# What `chat` offers to begin with: kinds of request that the model's training covers.
STARTERS = (
    "What is the capital of Italy?",
    "Begin a story that has to do with fog.",
    "Write a few lines on the sea.",
)
Batching = Annotated[bool, typer.Option("--batching", help="Continuous batching.")]


@app.command()
def build() -> None:
    """Build the model into the cache folder."""
    print(f"The pocket model is in {ensure_built()}")


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets other machines in, with a key.")
    ] = "127.0.0.1",
    public_host: Annotated[
        str | None, typer.Option(help="Another name of this server, such as a tunnel's.")
    ] = None,
    quantization: Weights = DEFAULT_QUANTIZATION,
    batching: Batching = False,
    folder: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A tuned copy of the model, in bf16."),
    ] = None,
    leased: Annotated[bool, typer.Option("--leased", hidden=True)] = False,
    info: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve the model until Ctrl-C: to programs on this machine, or with a key to others too.

    The key is made and printed, unless POCKET_API_KEY has one.
    """
    memory.return_large_blocks()
    processor.keep_few_kernels()  # here, before torch is imported
    try:
        # A leased server is for the programs of this machine, which have no key.
        shared = sharing.Sharing() if leased else sharing.sharing(host, public_host)
    except sharing.SharingError as error:
        print(error)
        raise typer.Exit(1) from error
    folder = folder or ensure_built()
    listener = listen(shared.host, port)
    port = listener.getsockname()[1]
    # jsonschema, which the server needs, imports rfc3987_syntax if it is installed. That takes two
    # seconds or more, for a format that no schema here uses. With None the import fails, which
    # jsonschema takes as "not installed".
    sys.modules.setdefault("rfc3987_syntax", None)
    from pocket_model.server import app as server
    from pocket_model.server.service import ChatService

    def on_start() -> None:
        if info:
            with atomic_write(info) as unfinished:
                unfinished.write_text(json.dumps({"port": port, "pid": os.getpid()}))
        elif shared.key:
            print("\n".join(shared.lines(port, batching)), flush=True)
        else:
            print(f"{MODEL_ID} answers at {shared.base_url(port)} (Ctrl-C ends it)")
            print(f"In a client: that address as the base URL, any API key, the model {MODEL_ID},")
            print("and chat completions, where there is a choice.", flush=True)

    service = ChatService(folder, quantization, batching)
    server.serve(service, listener, leased, on_start, shared.access())


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Ends the command with a sentence if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()  # every address, IPv4 too
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        reason = os.strerror(error.errno)
        if error.errno == errno.EADDRNOTAVAIL:
            here = ", ".join(sorted(sharing.own_addresses()))
            print(f"{host} is not an address of this machine ({reason}). It has: {here}.")
        else:
            print(f"Port {port} cannot be used ({reason}). Without --port, a free one is taken.")
        raise typer.Exit(1) from error


@app.command()
def chat(
    temperature: Annotated[float, typer.Option(help="From 0 to 2.")] = DEFAULT_TEMPERATURE,
    quantization: Weights = DEFAULT_QUANTIZATION,
    batching: Batching = False,
) -> None:
    """Talk to the model in this terminal."""
    import httpx2
    import openai

    if not 0 <= temperature <= 2:
        raise typer.BadParameter(f"{temperature} is not from 0 to 2.", param_hint="--temperature")
    held = lease.acquire(quantization, batching)
    # Without the environment's proxies: this server is on loopback.
    http_client = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(base_url=held.base_url, api_key="none", http_client=http_client)
    print(
        "You talk to a small model of 142 million parameters. It is often wrong. It can, for "
        "example:",
        *(f"    {starter}" for starter in STARTERS),
        "An empty line ends the chat.",
        sep="\n",
        file=sys.stderr,
    )
    messages = []
    try:
        while line := input("> ").strip():
            messages.append({"role": "user", "content": line})
            stream = client.chat.completions.create(
                model=MODEL_ID, messages=messages, temperature=temperature, stream=True
            )
            answer = print_answer(stream)
            if answer.strip():  # a conversation with an empty message would be refused
                messages.append({"role": "assistant", "content": answer})
    except EOFError:
        print()
    except (openai.APIError, httpx2.HTTPError) as error:
        body = getattr(error, "body", None)
        words = body.get("message") if isinstance(body, dict) else None
        print(f"{words or error} This conversation ends here; begin another.")
        raise typer.Exit(1) from error


def print_answer(stream: "Iterable[ChatCompletionChunk]") -> str:
    """Print an answer as it comes, and say if it is empty or was cut off; returns its text."""
    answer, reason = "", None
    for chunk in stream:
        for choice in chunk.choices:
            piece = choice.delta.content or ""
            print(piece, end="", flush=True)
            answer += piece
            reason = choice.finish_reason or reason
    print()
    if reason == "length":
        print("(cut off: the model's context is full; begin another chat)", file=sys.stderr)
    elif reason is None:
        print("(cut off: the server ended)", file=sys.stderr)
    elif not answer.strip():
        print("(an empty answer)", file=sys.stderr)
    return answer


def main() -> None:
    """Run a command; exit with 1 and a message if it cannot be done."""
    accept_any_encoding()
    try:
        app(prog_name="python -m pocket_model")
    except (BuildError, CacheError, lease.ServerError) as error:
        # On stdout: a program that started this process reads the reason there.
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""`python -m pocket_model build | serve | chat | train | evaluate`."""

import argparse
import json
import os
import sys
from pathlib import Path

from pocket_model import build
from pocket_model.cache import CacheError
from pocket_model.loopback import bind


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; 1 and a message when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m pocket_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the model into the cache folder")
    serve = commands.add_parser("serve", help="serve it on loopback until Ctrl-C")
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    serve.add_argument("--leased", action="store_true", help=argparse.SUPPRESS)
    serve.add_argument("--info", type=Path, help=argparse.SUPPRESS)
    chat = commands.add_parser("chat", help="talk to it in this terminal")
    chat.add_argument("--temperature", type=float, default=build.DEFAULT_TEMPERATURE)
    for command in (serve, chat):
        command.add_argument("--quantization", choices=["nf4"], help="default: none (bf16)")
        command.add_argument("--batching", action="store_true", help="continuous batching")
    train = commands.add_parser("train", help="train its parts anew: hours on two cores")
    train.add_argument("--work", type=Path, help="checkpoints; default: in the cache folder")
    train.add_argument("--out", type=Path, help="where to write the parts; default: data/pocket")
    train.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    evaluate = commands.add_parser("evaluate", help="count what it can do on held-out cases")
    evaluate.add_argument("--quick", action="store_true", help="30 cases a skill instead of 300")
    evaluate.add_argument("--quantization", choices=["nf4"], help="default: none (bf16)")
    evaluate.add_argument("--out", type=Path, help="also write the result as JSON")
    evaluate.add_argument(
        "--against", type=Path, help="a saved result: also the paired difference from it"
    )
    args = parser.parse_args(argv)
    try:
        return globals()[f"_{args.command}"](args)
    except (build.BuildError, CacheError) as error:
        # On stdout: a caller that started this process reads the reason there.
        print(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _build(args: argparse.Namespace) -> int:
    print(f"The pocket model is in {build.build()}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from pocket_model.server import app, service

    folder = build.ensure_built()
    try:
        listener = bind(args.port)
    except OSError as error:
        print(f"Port {args.port} cannot be used ({error.strerror}). Leave --port out to get a")
        print("free one, or choose another.")
        return 1
    port = listener.getsockname()[1]
    pocket = service.Pocket(folder, args.quantization, args.batching)

    def started() -> None:
        if args.info:
            partial = args.info.with_suffix(".partial")
            partial.write_text(json.dumps({"port": port, "pid": os.getpid()}))
            os.replace(partial, args.info)
        else:
            print(f"{build.MODEL_ID} answers at http://127.0.0.1:{port}/v1 (Ctrl-C ends it)")

    app.serve(pocket, listener, args.leased, started)
    return 0


def _chat(args: argparse.Namespace) -> int:
    import openai

    from helpers.backends import BackendError, connect

    try:
        lab = connect("pocket", quantization=args.quantization, batching=args.batching)
    except BackendError as error:
        print(error)
        return 1
    print("Talk to a model of 138 million parameters; an empty line ends it.", file=sys.stderr)
    messages = []
    while line := _read("> "):
        messages.append({"role": "user", "content": line})
        try:
            stream = lab.client.chat.completions.create(
                model=lab.model, messages=messages, temperature=args.temperature, stream=True
            )
        except openai.BadRequestError as error:
            print(f"{error.body['message']} This conversation ends here; begin another.")
            return 1
        answer = ""
        for chunk in stream:
            piece = chunk.choices[0].delta.content or ""
            print(piece, end="", flush=True)
            answer += piece
        print()
        messages.append({"role": "assistant", "content": answer})
    return 0


def _read(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


if __name__ == "__main__":
    sys.exit(main())

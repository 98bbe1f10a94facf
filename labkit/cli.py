"""The kit's commands: `python -m helpers run | doctor | fit | claims | …`; `--help` lists them."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

# Commands whose module parses its own options: the module, and what it is for.
OWN_OPTIONS = {
    "doctor": ("doctor", "what this machine can do, and what to do about gaps"),
    "conformance": ("conformance", "what a backend really supports"),
    "fit": ("fit", "will a model fit, where, and how fast can it be"),
    "claims": ("claims", "what public articles claim, judged"),
    "latency": ("latency_report", "how fast a backend answers, for one user and for many"),
    "simulate": ("simulator", "a simulator of OpenRouter on this machine, failures included"),
    "verify": ("evidence", "measure one of the kit's figures again"),
}


def words(text: str) -> list[str]:
    """Split `03 05` or `03,05` into words."""
    return text.replace(",", " ").split()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser(
        "run", help="execute the notebooks and write runs/<backend>/index.html"
    )
    run.add_argument("--backend", default="pocket", help="which server answers (default: pocket)")
    run.add_argument("--notebooks", default="", help='which, such as "03 05" (default: all)')
    run.add_argument("--out", type=Path, default=Path("runs"), help="folder for the results")
    run.add_argument("--max-usd", type=float, help="the most that a paid backend may cost")
    run.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a notebook parameter; may be repeated",
    )

    run.add_argument(
        "--record-tokens",
        action="store_true",
        help="after a whole pocket run: keep its token counts, which cost estimates are made from",
    )

    for name, (_, summary) in OWN_OPTIONS.items():
        commands.add_parser(name, help=summary)

    check = commands.add_parser("check", help="check the notebooks' structure and freshness")
    check.add_argument("files", nargs="*", help="notebooks (default: all)")
    check.add_argument("--fix", action="store_true", help="renew badge and Colab set-up cell first")

    fresh = commands.add_parser("notebooks", help="re-execute the committed notebooks in place")
    fresh.add_argument("which", nargs="*", help="numbers or names (default: all)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    sys.stdout.reconfigure(errors="replace")  # a terminal without "→" should not stop a command
    if argv and argv[0] in OWN_OPTIONS:
        module, _ = OWN_OPTIONS[argv[0]]
        return import_module(f"helpers.{module}").main(argv[1:]) or 0

    options = parser().parse_args(argv)
    if options.command == "run":
        from labkit import runner

        code = runner.run(
            options.backend,
            words(options.notebooks),
            options.out,
            options.max_usd,
            options.parameters,
        )
        if options.record_tokens and code == runner.OK:
            from labkit import run_cost

            run_cost.record_tokens(options.out / options.backend / "results.json")
        return code

    from labkit import freshness, notebook_checks, notebooks

    try:
        if options.command == "check":
            return notebook_checks.main(notebooks.select(options.files), fix=options.fix)
        return freshness.main(notebooks.select(options.which))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

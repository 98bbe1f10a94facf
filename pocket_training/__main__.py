"""The pocket model's training and evaluation: `python -m pocket_training --help`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pocket_model.build import POCKET_DATA, BuildError, Quantization, ensure_built
from pocket_model.cache import CacheError, cache_dir
from pocket_model.console import accept_any_encoding

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: readable in a pipe
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def train(
    work: Annotated[Path | None, typer.Option(help="Checkpoints; default: in the cache.")] = None,
    out: Annotated[Path | None, typer.Option(help="For the adapter; default: data/pocket.")] = None,
    start: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Go on from this adapter.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    vision_steps: Annotated[int | None, typer.Option(min=0, help="Of the vision encoder.")] = None,
    text_steps: Annotated[int | None, typer.Option(min=0, help="Of the text model.")] = None,
    vision_minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Train it for so long instead.")
    ] = None,
    text_minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Train it for so long instead.")
    ] = None,
    vision_rate: Annotated[
        float | None, typer.Option(help="The vision encoder's highest learning rate.")
    ] = None,
    text_rate: Annotated[
        float | None, typer.Option(help="The text model's highest learning rate.")
    ] = None,
    rows: Annotated[int, typer.Option(help="So many times the rows of a step.")] = 1,
    mix: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="A step's rows about tools, about pictures, and of chat."),
    ] = None,
    frozen_vision: Annotated[
        bool, typer.Option("--frozen-vision", help="The vision encoder stays as it is.")
    ] = False,
    kept_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the weights of --start in the result.")
    ] = 0.0,
    nf4_from: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="From this share of the text stage on, also compute in 4 bits."
        ),
    ] = None,
    chats: Annotated[int, typer.Option(help="So many times the base's own replies.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that draw ahead.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the rows; another one draws others.")] = 0,
) -> None:
    """Train the adapter again: many hours on two cores, minutes on a GPU."""
    from pocket_training import train

    for steps, minutes in ((vision_steps, vision_minutes), (text_steps, text_minutes)):
        if steps is not None and minutes is not None:
            print("error: give a stage its steps or its minutes, not both")
            raise typer.Exit(2)
    target = out or POCKET_DATA
    plan = train.Plan(
        start=start,
        device=device,
        vision_steps=train.VISION_STEPS if vision_steps is None else vision_steps,
        text_steps=train.TEXT_STEPS if text_steps is None else text_steps,
        vision_minutes=vision_minutes,
        text_minutes=text_minutes,
        vision_rate=train.VISION_RATE if vision_rate is None else vision_rate,
        text_rate=train.TEXT_RATE if text_rate is None else text_rate,
        rows=rows,
        mix=mix or train.MIX,
        frozen_vision=frozen_vision,
        kept_share=kept_share,
        nf4_from=train.NF4_FROM if nf4_from is None else nf4_from,
        chats=chats,
        workers=workers,
        seed=seed,
    )
    train.train(work or _training_folder(), target, plan)
    print(f"The adapter is in {target}. Now: python -m pocket_training evaluate")


@app.command()
def evaluate(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few cases a skill, for a first look.")
    ] = False,
    cases: Annotated[int | None, typer.Option(min=1, help="Another number of cases.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A skill, or chat; repeatable.")] = None,
    quantization: Annotated[Quantization, typer.Option(help="Of the weights.")] = "bf16",
    out: Annotated[Path | None, typer.Option(help="Also write the result as JSON.")] = None,
    against: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A result to compare.")
    ] = None,
    stranger: Annotated[
        bool, typer.Option("--stranger", help="Another author's test set, not the kit's own.")
    ] = False,
    base: Annotated[
        bool, typer.Option("--base", help="Ask the base that author's everyday questions.")
    ] = False,
) -> None:
    """Count what the model can do on held-out cases."""
    from pocket_training import evaluate, score_tables
    from pocket_training.stranger import base as base_model
    from pocket_training.stranger import evaluate as by_stranger

    # Checked before minutes of work, not after them.
    try:
        saved = json.loads(against.read_text(encoding="utf-8")) if against else None
    except ValueError as error:
        print(f"error: {against} is not a saved result: {error}")
        raise typer.Exit(2) from error
    version = None if stranger or base else evaluate.SCORING_VERSION
    is_result = saved is None or isinstance(saved, dict)
    if not is_result or (saved and saved.get("scoring_version") != version):
        print(f"error: {against} was scored in a different way: evaluate that model again first")
        raise typer.Exit(2)
    if out and not out.parent.is_dir():
        print(f"error: {out} cannot be written: there is no folder {out.parent}")
        raise typer.Exit(2)
    if unknown := set(only or ()) - {*evaluate.SKILLS, evaluate.CHAT}:
        names = ", ".join(sorted([*evaluate.SKILLS, evaluate.CHAT]))
        print(f"error: there is no skill {', '.join(sorted(unknown))}. Choose from: {names}")
        raise typer.Exit(2)
    if (cases or only) and (stranger or base):
        print("error: --cases and --only are for the kit's own test set")
        raise typer.Exit(2)
    if base:
        result = base_model.run(_training_folder())
    elif stranger:
        result = by_stranger.run(ensure_built(), quantization, quick=quick)
    else:
        result = evaluate.run(
            ensure_built(), quantization, quick=quick, cases=cases, only=only or ()
        )
    print(score_tables.as_text(score_tables.table(result)))
    if out:  # before they are compared, so that minutes of work are kept in any case
        score_tables.save(result, out)
    if saved:
        print(f"\nAgainst {saved['command']} of {saved['date']}, on the cases that both have:")
        try:
            rows = score_tables.paired(result, saved)
        except ValueError as error:
            print(f"error: {against}: {error}")
            raise typer.Exit(2) from error
        print(score_tables.as_text(score_tables.paired_table(rows)))
        result["against"] = {"command": saved["command"], "rows": rows}
        if out:
            score_tables.save(result, out)


@app.command()
def overlap() -> None:
    """Count the questions of another author's test set that training asks too."""
    from pocket_model.chat_format import ChatFormat
    from pocket_training import score_tables
    from pocket_training.examples import ExampleEncoder
    from pocket_training.stranger import overlap

    encoder = ExampleEncoder(ChatFormat(ensure_built() / "tekken.json"))
    print(score_tables.as_text(overlap.run(encoder)))


def _training_folder() -> Path:
    folder = cache_dir() / "pocket" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Run a command; exit with 1 and a message if it cannot be done."""
    accept_any_encoding()
    try:
        app(prog_name="python -m pocket_training")
    except (BuildError, CacheError) as error:
        print(error)
        sys.exit(1)


if __name__ == "__main__":
    main()

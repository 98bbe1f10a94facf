"""TODO."""

import argparse
import json

from pocket_model import build


def _train(args: argparse.Namespace) -> int:
    from helpers.paths import DATA
    from pocket_model.cache import cache_dir
    from pocket_training.train import train

    target = args.out or DATA / "pocket"
    train(args.work or cache_dir() / "pocket" / "training", target, device=args.device)
    print(f"The trained parts are in {target}. Now: python -m pocket_training evaluate")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from pocket_training import evaluate, score_tables

    saved = None
    if args.against:
        saved = json.loads(args.against.read_text(encoding="utf-8"))
        if saved.get("rules") != evaluate.RULES:  # before minutes of work, not after them
            print(f"error: {args.against} was judged by other rules: evaluate it anew first")
            return 2
    result = evaluate.run(build.ensure_built(), args.quantization, quick=args.quick)
    print(score_tables.table(result))
    if saved:
        print(f"\nAgainst {saved['command']} of {saved['date']}, on the same cases:")
        result["against"] = {
            "command": saved["command"],
            "rows": score_tables.paired(result, saved),
        }
        print(score_tables.paired_table(result["against"]["rows"]))
    if args.out:
        score_tables.save(result, args.out)
    return 0

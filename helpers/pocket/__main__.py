"""Name the command that replaced `python -m helpers.pocket …`."""

import sys

COMMANDS = {
    "build": "pocket_model",
    "serve": "pocket_model",
    "chat": "pocket_model",
    "train": "pocket_training",
    "evaluate": "pocket_training",
}


def new_command(arguments: list[str]) -> str:
    """The command that does today what `python -m helpers.pocket` did with these arguments."""
    if not arguments or arguments[0] not in COMMANDS:
        return "python -m pocket_model build|serve|chat, python -m pocket_training train|evaluate"
    return " ".join(["python -m", COMMANDS[arguments[0]], *arguments])


if __name__ == "__main__":
    print(f"error: this command is now: {new_command(sys.argv[1:])}", file=sys.stderr)
    sys.exit(2)

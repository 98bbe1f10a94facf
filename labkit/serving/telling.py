"""The line of a log that says why a program ended."""

import re

# The end of a Python traceback, an option that argparse refuses, pip's or the router's complaint.
TELLING = re.compile(
    r"(?:(?P<kind>[\w.]*(?:Error|Exception|Interrupt|Exit))(?:: ?(?P<words>.*))?"
    r"|(?P<error>(?:[\w.-]+(?: \w+)?: )?(?:error|ERROR): .+)|(?P<panic>.*\bpanicked at .+))$"
)
# vLLM puts the process and the place in front of each line of a traceback.
PREFIX = re.compile(
    r"^(?:\x1b\[[\d;]*m|\(\w+[^)]*pid=\d+\)|(?:ERROR|INFO) [\d-]+ [\d:]+|\[[^]]+\]|\s)+"
)
# These say that another process has failed, whose own line is above.
RELAYED = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineDeadError",
)


def telling_line(text: str) -> str | None:
    """The line of a log that names the first cause; None if there is none.

    Args:
        text: the log. The last error counts that does not only report another process's failure.
    """
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]
    found = None
    for number, line in enumerate(lines):
        bare = PREFIX.sub("", line)
        match = TELLING.match(bare)
        if not match or any(words in bare for words in RELAYED):
            continue
        if match["kind"] and not match["words"] and "Error" not in match["kind"]:
            continue
        if "validation error" in bare and lines[number + 1 :]:  # pydantic says why after it
            follow = [PREFIX.sub("", each).strip() for each in lines[number + 1 : number + 3]]
            bare = f"{bare}: {next((f for f in follow if len(f) > 20), follow[0])}"
        found = bare.strip()
    return found[:400] if found else None

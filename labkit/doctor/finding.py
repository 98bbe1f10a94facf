"""What the doctor says, and what it leaves out: no key, no home folder, no user's name."""

import getpass
import os
import re
from pathlib import Path
from typing import NamedTuple

from helpers.paths import ROOT

OK, NOTE, GAP = "ok", "note", "gap"
# A key in the wrong variable: what most providers' keys begin with, or 24 letters and digits.
KEY = re.compile(
    r"\b(?:sk|hf|fw|tgp|gsk)[-_][\w-]{8,}|\b(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{24,}", re.I
)


class Finding(NamedTuple):
    """What was checked, its status, and what to do about a gap.

    `status` is "ok", "note" (something optional is missing) or "gap" (the kit will not work well).
    """

    check: str
    status: str
    detail: str
    advice: str = ""


def private(text: str) -> str:
    """`text` with `<kit>` and `~` for the kit's and the home folder, and without the user's name.

    A user name or a password in an address is left out too, and so is what looks like a key.
    """
    for folder, name in ((ROOT, "<kit>"), (Path.home(), "~")):
        for form in {str(folder), os.path.realpath(folder), folder.as_posix()}:
            if form != folder.anchor:
                text = text.replace(form, name)
    text = KEY.sub("<key>", re.sub(r"://[^/\s@]+@", "://", text))
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user can have no name
        return text
    if len(user) < 3 or user in ("root", "user"):
        return text
    return re.sub(rf"(?<![\w-]){re.escape(user)}(?![\w-])", "<user>", text)

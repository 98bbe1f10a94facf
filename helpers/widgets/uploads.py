"""Files from `ipywidgets.FileUpload`, whose value has another form in each version."""

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from helpers import images

# What a kernel accepts of a browser: the message may have 10 MiB, and Jupyter refuses more without
# a word.
MAX_UPLOAD_BYTES = 9_000_000


def uploaded(value: Any) -> list[tuple[str, bytes]]:
    """Name and content of each file.

    Args:
        value: in ipywidgets 7 a dict by name, each with `metadata` and `content`; in 8 a tuple of
            dicts with `name` and `content`.
    """
    if isinstance(value, Mapping):
        files = [(file.get("metadata", {}).get("name", name), file) for name, file in value.items()]
    else:
        files = [(file["name"], file) for file in value]
    return [(str(name), bytes(file["content"])) for name, file in files]


def picture_of(value: Any) -> tuple[str, dict]:
    """The name of the last file, and the part of a message that it becomes.

    Raises:
        images.ImageError: it is no picture, it is damaged or too large, or there is no file.
    """
    files = uploaded(value)
    if not files:
        raise images.ImageError("no file has arrived; a file may have 9 MB at most")
    name, data = files[-1]
    if len(data) > MAX_UPLOAD_BYTES:
        size = len(data) / 1e6
        raise images.ImageError(f"it has {size:.0f} MB, more than 9: scale it down first")
    return name, images.image_part(data)


def accept(box: widgets.Box, take: Callable[[Any], None], tooltip: str) -> None:
    """Fill a box with a control for pictures, and call `take` with the value of each upload.

    The control is then made anew, empty: the same file can be chosen again.
    """
    most = widgets.HTML('<span class="kp">9 MB at most</span>')

    def renew() -> None:
        upload = widgets.FileUpload(accept="image/*", multiple=False, description="Picture")
        upload.tooltip = tooltip
        upload.observe(lambda change: changed(upload), names="value")
        box.children = [upload, most]

    def changed(upload: widgets.FileUpload) -> None:
        if upload.value:
            take(upload.value)
            renew()

    renew()

"""Any picture as a part of a message: read, checked, turned upright, scaled, embedded.

Servers of this protocol take pictures as data URLs. What is larger than the model looks at would
only cost time on the way, so it is scaled here by the model's own rule.
"""

import base64
import io
import ipaddress
import re
import socket
import urllib.parse
import warnings
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image, ImageOps

from pocket_model.pictures import ImageError, as_rgb

LONGEST_SIDE = 1540  # pixels: what Mistral Small 3.1 and 3.2 look at


MAX_PIXELS = 80_000_000


MAX_BYTES = 50_000_000


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


SENT_AS_IT_IS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


def image_part(
    source: str | Path | bytes | np.ndarray | Image.Image,
    *,
    longest_side: int = LONGEST_SIDE,
    fetch: bool = False,
    timeout_s: float = 20.0,
) -> dict:
    """A picture as the part of a message, in OpenAI's form.

    Args:
        source: a file's path, its bytes, an array of shape (height, width) or (height, width, 3 or
            4) with 8 bits a channel, a PIL image, or an http(s) address.
        longest_side: scale down to this many pixels, never up.
        fetch: addresses are fetched only when this is true, and not from hosts whose name leads
            to this machine or its own network at the time of asking.
        timeout_s: for fetching.

    Returns:
        {"type": "image_url", "image_url": {"url": "data:image/…;base64,…"}}

    Raises:
        ImageError: there is no picture, it is damaged, too large, animated, or not to be fetched.
    """
    picture, data = _opened(source, fetch, timeout_s)
    upright = ImageOps.exif_transpose(picture)
    small = max(picture.size) <= longest_side
    as_it_is = SENT_AS_IT_IS.get(picture.format or "")
    turned = upright.size != picture.size or picture.getexif().get(0x0112, 1) != 1
    if data and as_it_is and small and not turned and picture.mode in ("RGB", "RGBA", "L"):
        return _part(data, as_it_is)
    scaled = as_rgb(upright)
    if not small:
        ratio = max(scaled.size) / longest_side
        size = tuple(max(1, round(side / ratio)) for side in scaled.size)
        scaled = scaled.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # A photograph stays one; a drawing's edges must not be blurred.
    if picture.format == "JPEG" and scaled.mode == "RGB":
        scaled.save(buffer, "JPEG", quality=92)
        return _part(buffer.getvalue(), "jpeg")
    scaled.save(buffer, "PNG")
    return _part(buffer.getvalue(), "png")


def sent_size(part: dict) -> tuple[int, int]:
    """Width and height in pixels of the picture in a part that `image_part` made."""
    data = part["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def _opened(source, fetch: bool, timeout_s: float) -> tuple[Image.Image, bytes | None]:
    """The picture, and the file's bytes where there was a file."""
    if isinstance(source, Image.Image):
        return _checked(source), None
    if isinstance(source, np.ndarray):
        return _checked(_from_array(source)), None
    if isinstance(source, bytes | bytearray):
        data = bytes(source)
    elif isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", source):
        data = _from_address(source, fetch, timeout_s)
    elif isinstance(source, str | Path):
        data = _from_file(Path(source))
    else:
        raise ImageError(
            f"a picture is a path, bytes, an array, a PIL image or an address, not "
            f"{type(source).__name__}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(_too_many_pixels("it")) from error
    except Exception as error:  # decoders raise errors of many kinds on what they cannot read
        known = ", ".join(FORMATS)
        raise ImageError(
            f"this is not a picture that can be read ({len(data):,} bytes); {known} can"
        ) from error
    _checked(picture)
    try:
        picture.load()
    except Exception as error:
        raise ImageError("the picture is damaged or cut off: get it again") from error
    return picture, data


def _checked(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if width * height == 0:
        raise ImageError(f"the picture has no pixels ({width} × {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(f"{width} × {height}"))
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageError(
            f"the picture is an animation of {picture.n_frames} frames; choose one: "
            "picture.seek(n), then give picture.copy()"
        )
    return picture


def _too_many_pixels(size: str) -> str:
    return f"{size} has more than {MAX_PIXELS // 1_000_000} million pixels: scale it down first"


def _from_array(array: np.ndarray) -> Image.Image:
    fine = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fine or array.dtype != np.uint8:
        raise ImageError(
            "an array must have shape (height, width) or (height, width, 3 or 4) and dtype uint8, "
            f"not {array.shape} and {array.dtype}"
        )
    if 0 in array.shape:
        raise ImageError(f"the picture has no pixels {array.shape}")
    return Image.fromarray(array)


def _from_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB: scale it down")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error


def _from_address(address: str, fetch: bool, timeout_s: float) -> bytes:
    url = urllib.parse.urlsplit(address)
    if url.scheme.lower() not in ("http", "https"):
        raise ImageError(f"{url.scheme}: addresses are not read; give a path, or https://…")
    if not fetch:
        raise ImageError("addresses are fetched only with fetch=True")
    _require_public(url.hostname or "")
    data = bytearray()
    try:
        # No redirects: the next address could be one of this machine's.
        with httpx2.stream("GET", address, timeout=timeout_s, follow_redirects=False) as reply:
            if reply.status_code != 200:
                raise ImageError(f"{address} answers with status {reply.status_code}")
            for piece in reply.iter_bytes():
                data += piece
                if len(data) > MAX_BYTES:
                    raise ImageError(f"{address} has more than {MAX_BYTES // 1_000_000} MB")
    except httpx2.HTTPError as error:
        raise ImageError(f"{address} could not be fetched: {type(error).__name__}") from error
    return bytes(data)


def _require_public(host: str) -> None:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ImageError(f"there is no host {host!r}") from error
    if not all(ipaddress.ip_address(one).is_global for one in found):
        raise ImageError(f"{host} is this machine or its own network: not fetched")


def _part(data: bytes, kind: str) -> dict:
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}

"""Any picture as a part of a message: opened, checked, turned upright, scaled, embedded.

Servers of this protocol accept pictures as data URLs. A picture larger than the model's own limit
would only cost time on the way, so it is scaled here by the model's own rule.
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
from PIL import ExifTags, Image, ImageOps

from pocket_model.pictures import ImageError, as_rgb

Source = str | Path | bytes | np.ndarray | Image.Image

LONGEST_SIDE = 1540  # pixels: the limit of Mistral Small 3.1 and 3.2
MAX_PIXELS = 80_000_000
MAX_BYTES = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
UNCHANGED_FORMATS = ("PNG", "JPEG", "WEBP")  # servers accept these as they are


def image_part(
    source: Source,
    *,
    longest_side: int = LONGEST_SIDE,
    fetch: bool = False,
    timeout_s: float = 20.0,
) -> dict:
    """A picture as the part of a message, in OpenAI's form.

    Args:
        source: a path, the bytes of a file, an array of shape (height, width) or (height, width, 3
            or 4) with 8 bits a channel, a PIL image, or an http(s) address.
        longest_side: scale down to this many pixels, never up.
        fetch: whether to fetch addresses. Hosts whose name leads to this machine or its own
            network are never fetched.
        timeout_s: seconds, for fetching.

    Returns:
        {"type": "image_url", "image_url": {"url": "data:image/…;base64,…"}}

    Raises:
        ImageError: the picture cannot be read or fetched, is damaged, too large or animated.
    """
    picture, data = _open(source, fetch, timeout_s)
    fits = max(picture.size) <= longest_side
    upright = picture.getexif().get(ExifTags.Base.Orientation, 1) == 1
    plain = picture.format in UNCHANGED_FORMATS and picture.mode in ("RGB", "RGBA", "L")
    if data and fits and upright and plain:
        return _part(data, picture.format)
    sent = as_rgb(ImageOps.exif_transpose(picture))
    if not fits:
        ratio = max(sent.size) / longest_side
        size = tuple(max(1, round(side / ratio)) for side in sent.size)
        sent = sent.resize(size, Image.Resampling.LANCZOS)
    # JPEG would blur the edges of a drawing, so only photographs stay JPEG.
    kind = "JPEG" if picture.format == "JPEG" and sent.mode == "RGB" else "PNG"
    buffer = io.BytesIO()
    sent.save(buffer, kind, quality=92)  # PNG ignores the quality
    return _part(buffer.getvalue(), kind)


def sent_size(part: dict) -> tuple[int, int]:
    """Width and height in pixels of the picture in a part that `image_part` made."""
    data = part["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def _part(data: bytes, kind: str) -> dict:
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _open(source: Source, fetch: bool, timeout_s: float) -> tuple[Image.Image, bytes | None]:
    """The picture, and the bytes of its file if there is one."""
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
            "a picture is a path, bytes, an array, a PIL image or an address, not "
            f"{type(source).__name__}"
        )
    return _decode(data), data


def _decode(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(_too_many_pixels("it")) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ImageError(
            f"this is not a picture that can be read ({len(data):,} bytes); these formats can: "
            f"{', '.join(FORMATS)}"
        ) from error
    _checked(picture)
    try:
        picture.load()
    except Exception as error:
        raise ImageError("the picture is damaged or cut off: get it again") from error
    return picture


def _checked(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if width * height == 0:
        raise ImageError(f"the picture has no pixels ({width} × {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(f"{width} × {height}"))
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageError(
            f"the picture is an animation of {picture.n_frames} frames; choose one: "
            "picture.seek(n), then pass picture.copy()"
        )
    return picture


def _too_many_pixels(size: str) -> str:
    return f"{size} has more than {MAX_PIXELS // 1_000_000} million pixels: scale it down first"


def _from_array(array: np.ndarray) -> Image.Image:
    valid = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not valid or array.dtype != np.uint8:
        raise ImageError(
            "an array must have shape (height, width) or (height, width, 3 or 4) and dtype uint8, "
            f"not {array.shape} and {array.dtype}"
        )
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
        raise ImageError(f"{url.scheme}: addresses are not read; use a path, or https://…")
    if not fetch:
        raise ImageError("addresses are fetched only with fetch=True")
    require_public(url.hostname or "")
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


def require_public(host: str) -> None:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ImageError(f"there is no host {host!r}") from error
    if not all(ipaddress.ip_address(address).is_global for address in addresses):
        raise ImageError(f"{host} is this machine or its own network: not fetched")

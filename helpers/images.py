"""Any picture as a part of a message: opened, checked, turned upright, scaled, embedded.

Servers of this protocol accept pictures as data URLs. A picture larger than the model's own limit
would only cost time on the way, so it is scaled here by the model's own rule. Only the pixels are
sent: a camera's file also says where and when the photograph was taken.
"""

import base64
import io
import ipaddress
import os
import re
import socket
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image, ImageOps

from pocket_model.pictures import ImageError, as_rgb

Source = str | Path | bytes | bytearray | memoryview | io.BytesIO | np.ndarray | Image.Image

LONGEST_SIDE = 1540  # pixels: the limit of Mistral Small 3.1 and 3.2
MAX_PIXELS = 80_000_000
MAX_BYTES = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Of a source's format, what it is sent in. Else PNG: JPEG would blur the edges of a drawing.
SENT_FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WEBP"}


def image_part(
    source: Source,
    *,
    longest_side: int = LONGEST_SIDE,
    fetch: bool = False,
    timeout_s: float = 20.0,
) -> dict:
    """A picture as the part of a message, in OpenAI's form.

    Args:
        source: a path; the bytes of a file, also in a BytesIO; an array of shape (height, width)
            or (height, width, 3 or 4) with 8 bits a channel; a PIL image; a data URL; or an
            http(s) address. A name of a file that exists is a path, even with a colon in it.
        longest_side: scale down to this many pixels, never up.
        fetch: whether to fetch addresses. Hosts whose name leads to this machine or its own
            network are never fetched.
        timeout_s: seconds, for fetching.

    Returns:
        {"type": "image_url", "image_url": {"url": "data:image/…;base64,…"}}

    Raises:
        ImageError: the picture cannot be read or fetched, is damaged, too large or animated.
    """
    picture = _open(source, fetch, timeout_s)
    sent = as_rgb(_upright(picture))
    if max(sent.size) > longest_side:
        ratio = max(sent.size) / longest_side
        size = tuple(max(1, round(side / ratio)) for side in sent.size)
        sent = sent.resize(size, Image.Resampling.LANCZOS)
    kind = SENT_FORMATS.get(picture.format, "PNG")
    buffer = io.BytesIO()
    bare = Image.frombytes(sent.mode, sent.size, sent.tobytes())  # without comments and the like
    bare.save(buffer, kind, quality=92)  # PNG ignores the quality
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def sent_size(part: dict) -> tuple[int, int]:
    """Width and height in pixels of the picture in a part that `image_part` made."""
    return image_of(part).size


def image_of(part: dict) -> Image.Image | None:
    """The picture in a part of a message; None if its data URL holds none, or if it is a link."""
    try:
        return _decode(_from_address(part["image_url"]["url"], fetch=False, timeout_s=0))
    except ImageError:
        return None


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF data raises errors of many types
        return picture


def _open(source: Source, fetch: bool, timeout_s: float) -> Image.Image:
    if isinstance(source, Image.Image):
        return _loaded(source)
    if isinstance(source, np.ndarray):
        return _loaded(_from_array(source))
    if isinstance(source, io.BytesIO):
        return _decode(source.getvalue())
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source))
    if isinstance(source, str) and _is_address(source):
        return _decode(_from_address(source, fetch, timeout_s))
    if isinstance(source, str | Path):
        return _decode(_from_file(source))
    raise ImageError(
        "a picture is a path, the bytes of a file, an array, a PIL image or an address, not "
        f"{type(source).__name__}"
    )


def _is_address(text: str) -> bool:
    # Of a data URL the first characters are enough: no path is longer.
    return bool(re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", text)) and not os.path.lexists(text[:4096])


def _decode(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(_too_many_pixels("it")) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ImageError(
            f"these {len(data):,} bytes are not a picture in a format that can be read: "
            f"{', '.join(FORMATS)}"
        ) from error
    return _loaded(picture)


def _loaded(picture: Image.Image) -> Image.Image:
    """The picture with its pixels in memory, since Pillow reads a file's pixels at first use."""
    width, height = picture.size
    if width * height == 0:
        raise ImageError(f"the picture has no pixels ({width} × {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(f"{width} × {height}"))
    try:
        frames = getattr(picture, "n_frames", 1)
        picture.load()
    except Exception as error:
        closed = " or its file was closed" if isinstance(error, ValueError) else ""
        raise ImageError(f"the picture is damaged or cut off{closed}: get it again") from error
    # A camera's JPEG with a preview behind it is an MPO to Pillow; its first picture is the one.
    if frames > 1 and picture.format != "MPO":
        what = "a document of {} pages" if picture.format == "TIFF" else "an animation of {} frames"
        raise ImageError(
            f"the picture is {what.format(frames)}. Choose one: picture = PIL.Image.open(file), "
            "picture.seek(n) with n from 0, and give picture.copy()"
        )
    return picture


def _too_many_pixels(size: str) -> str:
    return f"{size} has more than {MAX_PIXELS // 1_000_000} million pixels: scale it down first"


def _from_array(array: np.ndarray) -> Image.Image:
    valid = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not valid or array.dtype != np.uint8:
        raise ImageError(
            "an array must have shape (height, width) or (height, width, 3 or 4) and dtype uint8, "
            f"not {array.shape} and {array.dtype}. Numbers from 0 to 1 become such an array by "
            "(255 * array).astype('uint8')"
        )
    return Image.fromarray(array)


def _from_file(source: str | Path) -> bytes:
    shown = _shown(source)
    try:
        path = Path(source)
        path = path if path.exists() else path.expanduser()
        if path.exists() and not path.is_file():
            raise ImageError(f"{shown} cannot be read: it is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"{shown} is larger than {MAX_BYTES // 1_000_000} MB: scale it down")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # of a NUL, and of an unknown `~user`
        reason = getattr(error, "strerror", None) or error
        advice = ". If it is base64, give base64.b64decode(text)" if len(str(source)) > 255 else ""
        raise ImageError(f"{shown} cannot be read: {reason}{advice}") from error


def _shown(source: object) -> str:
    """A path or an address for a message: by mistake it can be a whole picture in base64."""
    text = str(source)
    return repr(text) if len(text) <= 255 else f"{text[:60]!r} … ({len(text):,} characters)"


def _from_address(address: str, fetch: bool, timeout_s: float) -> bytes:
    scheme = address.partition(":")[0].lower()
    if scheme == "data":
        try:
            return urllib.request.urlopen(address).read()  # RFC 2397; nothing is sent
        except (ValueError, OSError) as error:
            raise ImageError(
                f"{_shown(address)} is not a data URL, such as data:image/png;base64,…"
            ) from error
    if scheme not in ("http", "https"):
        raise ImageError(
            f"{_shown(address)}: there is no such file, and {scheme}: addresses are not read. "
            "Use a path, or https://…"
        )
    if not fetch:
        raise ImageError("addresses are fetched only with fetch=True")
    try:
        url = urllib.parse.urlsplit(address)
    except ValueError as error:
        raise ImageError(f"{_shown(address)} is not an address: {error}") from error
    require_public(url.hostname or "")
    shown = f"{url.scheme}://{url.hostname}{url.path}"  # not the rest, which can contain a key
    data = bytearray()
    try:
        # No redirects: the next address could be one of this machine's.
        with httpx2.stream("GET", address, timeout=timeout_s, follow_redirects=False) as reply:
            if reply.status_code != 200:
                raise ImageError(f"{shown} answers with status {reply.status_code}")
            for piece in reply.iter_bytes():
                data += piece
                if len(data) > MAX_BYTES:
                    raise ImageError(f"{shown} has more than {MAX_BYTES // 1_000_000} MB")
    except (httpx2.HTTPError, httpx2.InvalidURL, ImportError) as error:
        raise ImageError(f"{shown} could not be fetched: {type(error).__name__}") from error
    return bytes(data)


def require_public(host: str) -> None:
    """Raise `ImageError` for a host that is this machine or in its own network."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise ImageError(f"there is no host {host!r}") from error
    if not all(ipaddress.ip_address(address).is_global for address in addresses):
        raise ImageError(f"{host} is this machine or its own network: not fetched")

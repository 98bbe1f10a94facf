"""Any picture as a part of a message: opened, checked, turned upright, scaled, embedded.

Servers of this protocol accept pictures as data URLs. A picture larger than the model's own limit
would only cost time on the way, so it is scaled here by the model's own rule. What a file says
about its picture is not sent: a camera writes down where the photograph was taken, and when.
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
from PIL import ExifTags, Image

from pocket_model.pictures import ImageError, as_rgb

Source = str | Path | bytes | bytearray | memoryview | io.BytesIO | np.ndarray | Image.Image

LONGEST_SIDE = 1540  # pixels: the limit of Mistral Small 3.1 and 3.2
MAX_PIXELS = 80_000_000
MAX_BYTES = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
UNCHANGED_FORMATS = ("PNG", "JPEG", "WEBP")  # servers accept these as they are
# What Pillow finds in a file that says how to show it, and nothing about who made it where.
DISPLAY_INFO = {
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "progressive", "progression"),
    *("adobe", "adobe_transform", "icc_profile", "gamma", "srgb", "chromaticity", "interlace"),
    *("aspect", "transparency", "background", "loop", "duration", "timestamp"),
}
# A JPEG's segments of that kind: JFIF, the color profile, Adobe's color transform.
DISPLAY_SEGMENTS = {"APP0", "APP2", "APP14"}
LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
# EXIF's tag Orientation: what turns the picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    picture, data = _open(source, fetch, timeout_s)
    fits = max(picture.size) <= longest_side
    turn = _turn(picture)
    plain = picture.format in UNCHANGED_FORMATS and picture.mode in ("RGB", "RGBA", "L")
    if data and fits and turn is None and plain and not _has_metadata(picture, data):
        return _part(data, picture.format)
    sent = as_rgb(picture if turn is None else picture.transpose(turn))
    if not fits:
        ratio = max(sent.size) / longest_side
        size = tuple(max(1, round(side / ratio)) for side in sent.size)
        sent = sent.resize(size, Image.Resampling.LANCZOS)
    # JPEG would blur the edges of a drawing, so only photographs stay JPEG.
    kind = "JPEG" if picture.format in ("JPEG", "MPO") and sent.mode == "RGB" else "PNG"
    buffer = io.BytesIO()
    bare = Image.frombytes(sent.mode, sent.size, sent.tobytes())  # without comments and the like
    bare.save(buffer, kind, quality=92)  # PNG ignores the quality
    return _part(buffer.getvalue(), kind)


def sent_size(part: dict) -> tuple[int, int]:
    """Width and height in pixels of the picture in a part that `image_part` made."""
    data = part["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def _part(data: bytes, kind: str) -> dict:
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _turn(picture: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # broken EXIF data raises errors of many types
        return None


def _has_metadata(picture: Image.Image, data: bytes) -> bool:
    """Whether a file has more than its picture: EXIF, XMP, comments, something behind its end."""
    segments = {name for name, _ in getattr(picture, "applist", [])}  # of a JPEG
    others = getattr(picture, "private_chunks", [])  # of a PNG
    ends = data.endswith(LAST_BYTES.get(picture.format, b""))
    return (
        bool(set(picture.info) - DISPLAY_INFO or segments - DISPLAY_SEGMENTS or others) or not ends
    )


def _open(source: Source, fetch: bool, timeout_s: float) -> tuple[Image.Image, bytes | None]:
    """The picture, and the bytes of its file if there is one."""
    if isinstance(source, Image.Image):
        return _loaded(source), None
    if isinstance(source, np.ndarray):
        return _loaded(_from_array(source)), None
    if isinstance(source, io.BytesIO):
        data = source.getvalue()
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str) and "\0" in source:
        raise ImageError(f"{_shown(source)} is neither a path nor an address")
    elif isinstance(source, Path) or (isinstance(source, str) and not _is_address(source)):
        data = _from_file(source)
    elif isinstance(source, str):
        data = _from_address(source, fetch, timeout_s)
    else:
        raise ImageError(
            "a picture is a path, the bytes of a file, an array, a PIL image or an address, not "
            f"{type(source).__name__}"
        )
    return _decode(data), data


def _is_address(text: str) -> bool:
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
            f"this is not a picture that can be read ({len(data):,} bytes); these formats can: "
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
        from_floats = (
            ""
            if array.dtype.kind != "f"
            else (". If its numbers are from 0 to 1, give (255 * array).astype('uint8')")
        )
        raise ImageError(
            "an array must have shape (height, width) or (height, width, 3 or 4) and dtype uint8, "
            f"not {array.shape} and {array.dtype}{from_floats}"
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
    except (OSError, RuntimeError) as error:  # RuntimeError: `~` of a user who does not exist
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
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise ImageError(f"there is no host {host!r}") from error
    if not all(ipaddress.ip_address(address).is_global for address in addresses):
        raise ImageError(f"{host} is this machine or its own network: not fetched")

"""Pictures that come in requests: decoded from data URLs, checked, and converted to RGB."""

import base64
import io
import re
import string
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image

from pocket_model.tekken import IMAGE

# For all pictures of a request together: they are in memory uncompressed at the same time.
MAX_PICTURE_BYTES = 20_000_000
MAX_PIXELS = 25_000_000
PICTURE_FORMATS = ("png", "jpeg", "webp", "gif")


class ImageError(ValueError):
    """A picture cannot be used; the message says why and what to do."""


class PictureReader:
    """Decodes the pictures of one request, which have limits together."""

    def __init__(self):
        self._bytes_left = MAX_PICTURE_BYTES
        self._pixels_left = MAX_PIXELS

    def read(self, url: str) -> Image.Image:
        """Decode the picture in a data URL, to RGB or RGBA. Raises `ImageError`."""
        data = self._decode(url)
        try:
            picture = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
            # A camera's JPEG may have a preview behind it. Pillow calls that MPO, of two frames.
            frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        except Exception as error:  # Pillow's decoders raise errors of many types
            raise ImageError(
                f"not a picture that can be read ({_first_line(error)}). These can: "
                f"{', '.join(PICTURE_FORMATS)}"
            ) from error
        self._pixels_left -= picture.width * picture.height
        if picture.width * picture.height == 0:
            raise ImageError(f"the picture is empty: {picture.width} × {picture.height} pixels")
        if self._pixels_left < 0:
            raise ImageError(
                f"more than {MAX_PIXELS // 1_000_000} million pixels in one request (this picture "
                f"has {picture.width} × {picture.height}). Scale the picture down; the model "
                f"scales it to {IMAGE['max_image_size']} pixels on the longer side"
            )
        if frames > 1:
            raise ImageError(f"the picture is animated ({frames} frames); send one frame only")
        try:
            picture.load()
        except Exception as error:
            raise ImageError(f"the picture is damaged ({_first_line(error)})") from error
        return as_rgb(picture)

    def _decode(self, url: str) -> bytes:
        """The bytes in a data URL (RFC 2397). Its type is not read, since it is often wrong."""
        scheme, colon, rest = url.strip().partition(":")
        if not colon or scheme.lower() != "data":
            kind = scheme[:20] if colon else "an address without a scheme"
            raise ImageError(
                f"this server fetches nothing ({kind}). Fetch the picture in your program and "
                "embed it as data:image/png;base64,…"
            )
        head, comma, data = rest.partition(",")
        if not comma or head.rpartition(";")[2].strip().lower() != "base64":
            raise ImageError(
                f"a picture must be data:image/…;base64,… This one begins with {url[:60]!r}"
            )
        self._bytes_left -= len(data) * 3 // 4
        if self._bytes_left < 0:
            limit = MAX_PICTURE_BYTES // 1_000_000
            raise ImageError(
                f"the pictures of this request have more than {limit} MB; scale them down"
            )
        try:
            # As browsers read it: blanks, percent signs and missing padding are no fault.
            packed = unquote_to_bytes(data).translate(None, string.whitespace.encode())
            packed = packed.rstrip(b"=")
            return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except ValueError as error:
            raise ImageError(f"the picture's base64 is not valid: {error}") from error


def _first_line(error: Exception) -> str:
    # Pillow's messages contain the buffer's address in memory, which is no use to anyone.
    text = re.sub(r" <_io\.BytesIO.*?>", "", str(error)).split("\n")[0]
    return text or type(error).__name__


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture to 8 bits a channel, RGB or RGBA; transparency is kept.

    mistral_common puts transparent pictures on white. It would clip 16-bit gray at 255, which
    makes nearly everything white, so 16-bit gray is scaled here. Gray in 32 bits, Pillow's mode
    "I", has 8 or 16 bits in use: none above 255 means 8.

    Raises:
        ImageError: the picture's mode cannot be converted to RGB.
    """
    if picture.mode in ("RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):
        gray = np.asarray(picture).astype(np.int64).clip(0, 65535)
        if picture.mode != "I" or gray.max() > 255:
            gray >>= 8
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if picture.mode in ("1", "L", "CMYK", "YCbCr") and "transparency" not in picture.info:
        return picture.convert("RGB")
    if picture.mode in ("1", "L", "LA", "P", "PA"):
        return picture.convert("RGBA")
    raise ImageError(f"pictures of mode {picture.mode} cannot be read; save the picture as RGB")

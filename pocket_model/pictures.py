"""TODO."""

import base64
import binascii
import io
import re

import numpy as np
from PIL import Image

# All pictures of one request together: they are in memory uncompressed at the same time.
MAX_PICTURE_BYTES = 20_000_000


MAX_PIXELS = 25_000_000


PICTURE_FORMATS = ("png", "jpeg", "webp", "gif")


class PictureReader:
    """Decodes the pictures of one request, and keeps them within its limits together."""

    def __init__(self):
        self._bytes_left = MAX_PICTURE_BYTES
        self._pixels_left = MAX_PIXELS

    def __call__(self, url: str) -> Image.Image:
        """A data URL's picture, in RGB or RGBA. Raises `ValueError` with the reason."""
        data = self._decode(url)
        try:
            picture = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
            frames = getattr(picture, "n_frames", 1)
        except Exception as error:  # decoders raise errors of many kinds on what they cannot read
            raise ValueError(f"not a picture that can be read ({_first_line(error)})") from error
        self._pixels_left -= picture.width * picture.height
        if picture.width * picture.height == 0:
            raise ValueError(f"the picture is empty: {picture.width} × {picture.height} pixels")
        if self._pixels_left < 0:
            raise ValueError(
                f"more than {MAX_PIXELS // 1_000_000} million pixels in one request (this picture "
                f"has {picture.width} × {picture.height}); scale it down, the model sees 112 × 112"
            )
        if frames > 1:
            raise ValueError(f"the picture is animated ({frames} frames); send one of its frames")
        try:
            picture.load()
        except Exception as error:
            raise ValueError(f"the picture is damaged ({_first_line(error)})") from error
        return as_rgb(picture)

    def _decode(self, url: str) -> bytes:
        if not url.startswith("data:"):
            kind = url.split(":", 1)[0][:20] if ":" in url else "an address without a scheme"
            raise ValueError(
                f"this server fetches nothing ({kind}); fetch the picture in the client and embed "
                "it as data:image/png;base64,…"
            )
        head, comma, data = url.partition(",")
        found = re.fullmatch(r"data:image/([a-z+.-]+);base64", head, re.IGNORECASE)
        if not comma or not found or found[1].lower() not in PICTURE_FORMATS:
            raise ValueError(
                f"a picture must be data:image/…;base64,… in {', '.join(PICTURE_FORMATS)}; this "
                f"begins with {head[:60]!r}"
            )
        self._bytes_left -= len(data) * 3 // 4
        if self._bytes_left < 0:
            limit = MAX_PICTURE_BYTES // 1_000_000
            raise ValueError(f"the pictures of a request are more than {limit} MB; scale them down")
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"the picture's base64 is not valid: {error}") from error


def _first_line(error: Exception) -> str:
    # Pillow names the buffer's address in memory, which says nothing.
    text = re.sub(r" <_io\.BytesIO.*?>", "", str(error)).split("\n")[0]
    return text or type(error).__name__


class ImageError(ValueError):
    """A picture cannot be used; the message says why and what to do."""


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in 8 bits a channel, RGB or RGBA; what is transparent stays so.

    mistral_common lays transparency over white. It would clip 16-bit grey at 255, which makes
    nearly everything white, so that is scaled here.

    Raises:
        ImageError: a mode that has no such meaning.
    """
    if picture.mode in ("RGB", "RGBA"):
        return picture
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if picture.mode in ("1", "L", "CMYK", "YCbCr") and "transparency" not in picture.info:
        return picture.convert("RGB")
    if picture.mode in ("1", "L", "LA", "P", "PA"):
        return picture.convert("RGBA")
    raise ImageError(f"pictures of mode {picture.mode} cannot be read; save it as RGB")

"""Pictures as message parts: they arrive unchanged, and bad ones give the reason."""

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from helpers import images, wire
from helpers.model import configs, sizes


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def back(part: dict) -> Image.Image:
    """The picture that a server would decode."""
    assert part["type"] == "image_url"
    data = part["image_url"]["url"].partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def picture() -> Image.Image:
    """Red at the left, blue at the right."""
    dots = np.zeros((40, 60, 3), dtype=np.uint8)
    dots[:, :30, 0] = dots[:, 30:, 2] = 255
    return Image.fromarray(dots)


def test_every_kind_of_source_is_the_same_picture(picture, tmp_path):
    file = tmp_path / "a.png"
    picture.save(file)
    dots = np.asarray(picture)
    for source in (file, str(file), file.read_bytes(), picture, dots):
        assert np.array_equal(np.asarray(back(images.image_part(source)).convert("RGB")), dots)


def test_a_suitable_file_is_sent_unchanged(picture):
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(picture, kind)
        part = images.image_part(data)
        assert part["image_url"]["url"].startswith(f"data:image/{kind.lower()};base64,")
        assert base64.b64decode(part["image_url"]["url"].partition(",")[2]) == data


@pytest.mark.parametrize("size", [(4000, 3000), (1541, 10), (10, 6000), (1540, 1540), (300, 200)])
def test_scaling_keeps_to_the_models_rule_and_to_its_token_count(size):
    config = configs.load("mistral-small-3.2-2506")
    part = images.image_part(Image.new("RGB", size, "teal"))
    width, height = images.sent_size(part)
    assert max(width, height) == min(max(size), 1540)
    ratio = max(width, height) / max(size)
    assert (width, height) == pytest.approx((size[0] * ratio, size[1] * ratio), abs=1)
    # The picture costs what it would have cost unscaled, by mistral_common's own count.
    message = {"role": "user", "content": [{"type": "text", "text": "Hi"}, part]}
    words = wire.encode([{"role": "user", "content": "Hi"}])
    assert len(wire.encode([message])) - len(words) == sizes.image_tokens(*size, config)


def test_a_smaller_limit_and_never_larger(picture):
    assert images.sent_size(images.image_part(picture, longest_side=30)) == (30, 20)
    assert images.sent_size(images.image_part(picture, longest_side=3000)) == (60, 40)


def test_a_photograph_is_turned_upright(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    part = images.image_part(saved(picture, "JPEG", exif=exif, quality=100))
    upright = back(part)
    assert upright.size == (40, 60)
    red, blue = upright.getpixel((20, 5)), upright.getpixel((20, 55))
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]


def test_other_color_modes(picture):
    for mode in ("CMYK", "L", "P", "1", "LA", "RGBA"):
        assert back(images.image_part(picture.convert(mode))).mode in ("RGB", "RGBA")
    deep = Image.fromarray(np.full((5, 5), 32768, dtype=np.uint16))
    assert back(images.image_part(saved(deep))).convert("L").getpixel((2, 2)) == 128


def test_transparency_stays():
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert back(images.image_part(clear)).getpixel((1, 1))[3] == 0


def animation() -> bytes:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "lime")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def damaged() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    return saved(Image.fromarray(noise))[:9000]


BAD = {
    "text": (b"hello, I am not a picture", "not a picture"),
    "nothing": (b"", "not a picture"),
    "a page": (b"%PDF-1.4", "not a picture"),
    "cut off": (damaged(), "damaged"),
    "an animation": (animation(), "3 frames"),
    "a hundred megapixels": (saved(Image.new("1", (10_001, 10_000))), "million pixels"),
    "no pixels": (np.zeros((0, 5, 3), dtype=np.uint8), "no pixels"),
    "no pixels, PIL": (Image.new("RGB", (0, 7)), "no pixels"),
    "floats": (np.zeros((5, 5, 3)), "uint8"),
    "five channels": (np.zeros((5, 5, 5), dtype=np.uint8), "shape"),
    "a number": (7, "not int"),
    "no file": ("no/such/file.png", "cannot be read"),
    "a folder": (".", "cannot be read"),
    "file:": ("file:///etc/hostname", "not read"),
    "ftp:": ("ftp://example.org/a.png", "not read"),
    "data:": ("data:image/png;base64,AAAA", "not read"),
    "not asked for": ("https://example.org/a.png", "fetch=True"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_gives_its_reason(name):
    source, message = BAD[name]
    with pytest.raises(images.ImageError, match=message):
        images.image_part(source)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://10.0.0.7/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.1.1/a.png",
        "http://0.0.0.0/a.png",
    ],
)
def test_hosts_in_the_own_network_are_never_fetched(address):
    with pytest.raises(images.ImageError, match="own network"):
        images.image_part(address, fetch=True)


@pytest.fixture
def web(picture, monkeypatch):
    """A web server on loopback, which counts as public in this test."""
    monkeypatch.setattr(images, "require_public", lambda host: None)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            exists = self.path == "/a.png"
            self.send_response({"/a.png": 200, "/away": 302}.get(self.path, 404))
            if self.path == "/away":
                self.send_header("Location", "/a.png")
            self.end_headers()
            self.wfile.write(saved(picture) if exists else b"nothing")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_picture_is_fetched_if_the_caller_allows_it(web, picture):
    fetched = back(images.image_part(f"{web}/a.png", fetch=True))
    assert np.array_equal(np.asarray(fetched), np.asarray(picture))
    with pytest.raises(images.ImageError, match="status 404"):
        images.image_part(f"{web}/none.png", fetch=True)
    with pytest.raises(images.ImageError, match="status 302"):
        images.image_part(f"{web}/away", fetch=True)
    with pytest.raises(images.ImageError, match="could not be fetched"):
        images.image_part("http://127.0.0.1:1/a.png", fetch=True)


def test_an_unknown_host():
    with pytest.raises(images.ImageError, match="no host"):
        images.image_part("https://no-such-host.invalid/a.png", fetch=True)

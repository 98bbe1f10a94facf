"""Pictures as message parts: they arrive unchanged, and bad ones give the reason."""

import base64
import io
import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

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


def test_every_kind_of_source_is_the_same_picture(picture, tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    picture.save(file)
    dots = np.asarray(picture)
    data = file.read_bytes()
    used = io.BytesIO()
    picture.save(used, "PNG")  # its position is at the end
    url = "DATA:image/png;charset=utf-8;base64," + base64.b64encode(data).decode()  # RFC 2397
    colon, home = tmp_path / "scan:1.png", Path("~/a.png")
    picture.save(colon)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    same = [file, str(file), data, bytearray(data), memoryview(data), used, url, picture, dots]
    for source in [*same, colon, "scan:1.png", home, str(home), Image.open(file)]:
        assert np.array_equal(np.asarray(back(images.image_part(source)).convert("RGB")), dots)


def test_a_photograph_stays_jpeg_and_a_drawing_stays_exact(picture):
    for kind, sent in {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}.items():
        data = saved(picture, kind)
        part = images.image_part(data)
        assert part["image_url"]["url"].startswith(f"data:image/{sent};base64,")
        got, wanted = (np.asarray(each.convert("RGB"), int) for each in (
            back(part), Image.open(io.BytesIO(data))
        ))  # fmt: skip
        assert np.abs(got - wanted).mean() < (1e-9 if kind == "PNG" else 2)


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


def test_the_picture_of_a_part(picture):
    shown = images.image_of(images.image_part(picture))
    assert np.array_equal(np.asarray(shown), np.asarray(picture.convert("RGB")))
    for url in ("https://example.com/a.png", "data:image/png;base64,iVBORw0KGgo="):
        assert images.image_of({"type": "image_url", "image_url": {"url": url}}) is None


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


def test_gray_in_32_bits_is_not_black():
    for value, seen in ((200, 200), (51_200, 200)):
        wide = Image.fromarray(np.full((5, 5), value, dtype=np.int32))
        assert back(images.image_part(wide)).getpixel((2, 2)) == (seen, seen, seen)


def test_a_cameras_jpeg_with_a_preview_behind_it_is_its_first_picture(picture):
    """Pillow opens it as an MPO (CIPA DC-007), as a picture of two frames."""
    data = saved(picture, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    for source in (data, Image.open(io.BytesIO(data))):
        sent = back(images.image_part(source))
        assert (sent.format, sent.size, getattr(sent, "n_frames", 1)) == ("JPEG", (60, 40), 1)


def secret_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "secret"  # the camera's maker
    exif[0x0112] = orientation
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}  # GPS
    return exif


def secret_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "secret")
    text.add_itxt("XML:com.adobe.xmp", "secret")
    text.add(b"caBX", b"secret", after_idat=True)
    return text


METADATA = {
    "JPEG, EXIF": ("JPEG", {"exif": secret_exif()}),
    "WebP, XMP": ("WEBP", {"xmp": b"<x:xmpmeta>secret</x:xmpmeta>"}),
    "PNG, texts": ("PNG", {"pnginfo": secret_text()}),
}


@pytest.mark.parametrize("name", METADATA)
def test_what_a_file_says_about_its_picture_is_not_sent(picture, name):
    kind, options = METADATA[name]
    data = saved(picture, kind, **options)
    assert b"secret" in data
    part = images.image_part(data)
    assert b"secret" not in base64.b64decode(part["image_url"]["url"].partition(",")[2])
    assert back(part).convert("RGB").getpixel((5, 5))[0] > 200
    opened = images.image_part(Image.open(io.BytesIO(data)))
    assert b"secret" not in base64.b64decode(opened["image_url"]["url"].partition(",")[2])


def test_every_orientation_of_exif(picture):
    """CIPA DC-008, 4.6.5: of the eight, the last four swap width and height."""
    for orientation, kind in itertools.product(range(10), ("JPEG", "PNG", "WEBP")):
        data = saved(picture, kind, exif=secret_exif(orientation), quality=100)
        wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        got = back(images.image_part(data))
        assert got.size == wanted.size
        assert np.abs(np.asarray(got).astype(int) - np.asarray(wanted)).mean() < 4


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_data_does_no_harm(picture, kind):
    whole = secret_exif(6).tobytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(whole)
        for place in random.integers(0, len(broken), 4):
            broken[place] = random.integers(0, 256)
        part = images.image_part(saved(picture, kind, exif=bytes(broken)))
        assert sorted(images.sent_size(part)) == [40, 60]


def test_a_picture_that_pillow_has_opened_but_not_read(tmp_path, picture):
    cut, whole = tmp_path / "cut.png", tmp_path / "whole.png"
    cut.write_bytes(damaged())
    picture.save(whole)
    closed, lost = Image.open(whole), Image.open(whole)
    closed.close()
    lost.fp.close()
    for source in (Image.open(cut), closed, lost):
        with pytest.raises(images.ImageError, match="cut off"):
            images.image_part(source)


def test_transparency_stays():
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert back(images.image_part(clear)).getpixel((1, 1))[3] == 0


def animation() -> bytes:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "lime")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def damaged() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    return saved(Image.fromarray(noise))[:9000]


def pages(kind: str) -> bytes:
    first, second = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    return saved(first, kind, save_all=True, append_images=[second])


BAD = {
    "text": (b"hello, I am not a picture", "not a picture"),
    "nothing": (b"", "not a picture"),
    "cut off": (damaged(), "damaged"),
    "an animation": (animation(), "3 frames"),
    "a hundred megapixels": (saved(Image.new("1", (10_001, 10_000))), "million pixels"),
    "no pixels": (np.zeros((0, 5, 3), dtype=np.uint8), "no pixels"),
    "floats": (np.zeros((5, 5, 3)), r"uint8.*by \(255 \* array\)"),
    "channels first": (np.zeros((3, 5, 5), dtype=np.uint8), "shape"),
    "a number": (7, "not int"),
    "no file": ("no/such/file.png", "cannot be read"),
    "nothing as name": ("", "cannot be read"),
    "a device": ("/dev/null", "not a file"),
    "a user who does not exist": ("~no such user/a.png", "cannot be read"),
    "a name with a NUL": ("a\0.png", "cannot be read"),
    "a name with a colon": ("scan:1.png", "'scan:1.png': there is no such file"),
    "base64": ("iVBOR" * 1000, r"^'(iVBOR){12}' … \(5,000 characters\) .* give base64.b64decode"),
    "a document": (pages("TIFF"), "a document of 2 pages. Choose one: "),
    "another format": (saved(Image.new("RGB", (9, 9)), "ICO"), "format that can be read: PNG"),
    "LAB": (Image.new("LAB", (9, 9)), "save the picture as RGB"),
    "a folder": (".", "cannot be read"),
    "file:": ("file:///etc/hostname", "not read"),
    "data:": ("data:image/png;base64,AAAA", "not a picture"),
    "data: without data": ("data:image/png;base64", "is not a data URL"),
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
        "http://[::1]/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.1.1/a.png",
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
    with pytest.raises(images.ImageError, match=r"/none\.png answers with status 404$"):
        images.image_part(f"{web}/none.png?signature=secret", fetch=True)
    with pytest.raises(images.ImageError, match="status 302"):
        images.image_part(f"{web}/away", fetch=True)
    with pytest.raises(images.ImageError, match="could not be fetched"):
        images.image_part("http://127.0.0.1:1/a.png", fetch=True)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", ""])
def test_an_unknown_host(host):
    with pytest.raises(images.ImageError, match="no host"):
        images.image_part(f"https://{host}/a.png", fetch=True)


def test_half_an_address():
    with pytest.raises(images.ImageError, match="not an address"):
        images.image_part("http://[::1", fetch=True)

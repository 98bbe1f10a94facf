"""Pictures: which are accepted, how they are counted, and that logits depend on them."""

import base64
import io
import random
import struct
import zlib

import numpy as np
import openai
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoConfig

from helpers import connect
from helpers.model import sizes
from pocket_model import loading, pictures
from pocket_model.chat_format import ChatFormat
from pocket_model.pictures import PictureReader
from pocket_model.server import batch_engine


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def plain(size=(60, 40), color="red") -> Image.Image:
    return Image.new("RGB", size, color)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def part(address: str) -> dict:
    return {"type": "image_url", "image_url": {"url": address}}


# --- decoding --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", pictures.PICTURE_FORMATS)
def test_every_allowed_format_is_read(kind):
    color = PictureReader().read(url(saved(plain(), kind), kind)).convert("RGB").getpixel((5, 5))
    assert np.abs(np.array(color) - (255, 0, 0)).max() < 10  # jpeg and webp lose a little


@pytest.mark.parametrize(
    ("picture", "kind", "color"),
    [
        (Image.new("L", (9, 9), 128), "PNG", (128, 128, 128)),
        (Image.new("1", (9, 9), 1), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (plain().convert("P", palette=Image.Palette.ADAPTIVE), "PNG", (255, 0, 0)),
        (Image.fromarray(np.full((9, 9), 32768, np.uint16)), "PNG", (128, 128, 128)),
        (Image.new("LA", (9, 9), (128, 255)), "PNG", (128, 128, 128)),
    ],
    ids=["gray", "black and white", "CMYK", "palette", "16 bit", "gray and alpha"],
)
def test_other_modes_become_the_right_colors(picture, kind, color):
    read = PictureReader().read(url(saved(picture, kind), kind.lower()))
    assert np.abs(np.array(read.convert("RGB").getpixel((5, 5))) - color).max() <= 3


def test_transparency_becomes_white(model_folder):
    clear = PictureReader().read(url(saved(Image.new("RGBA", (28, 28), (255, 0, 0, 0)))))
    chat_format = ChatFormat(model_folder / "tekken.json")
    messages = [{"role": "user", "content": [{"type": "image", "image": clear}]}]
    white = [{"role": "user", "content": [{"type": "image", "image": plain((28, 28), "white")}]}]
    seen, expected = (chat_format.encode(m).pictures[0] for m in (messages, white))
    assert np.array_equal(seen, expected)


PNG = saved(plain())
BASE64 = base64.b64encode(PNG).decode()
FORMS = {
    # RFC 2397: parameters of the type; schemes and types do not depend on the case
    "charset": f"data:image/png;charset=utf-8;base64,{BASE64}",
    "name": f"data:image/png;name=a.png;base64,{BASE64}",
    "capitals": f"DATA:IMAGE/PNG;BASE64,{BASE64}",
    "no type": f"data:;base64,{BASE64}",
    # types that programs write
    "jpg": url(saved(plain(), "JPEG"), "jpg"),
    "another type": url(PNG, "jpeg"),
    "unknown file": f"data:application/octet-stream;base64,{BASE64}",
    # WHATWG's "forgiving-base64 decode", and percent signs before it
    "lines": f" data:image/png;base64,\n{BASE64[:76]}\r\n{BASE64[76:]}\n",
    "no padding": f"data:image/png;base64,{BASE64.rstrip('=')}",
    "percent": f"data:image/png;base64,{BASE64.replace('+', '%2B').replace('=', '%3D')}",
}


@pytest.mark.parametrize("form", FORMS)
def test_data_urls_are_read_as_browsers_read_them(form):
    assert PictureReader().read(FORMS[form]).size == (60, 40)


def test_a_cameras_jpeg_is_its_first_picture():
    # CIPA DC-007: a JPEG with a smaller preview behind it; any viewer shows the first
    data = saved(plain(), "MPO", save_all=True, append_images=[plain((30, 20), "blue")])
    picture = PictureReader().read(url(data, "jpeg"))
    assert picture.size == (60, 40)
    assert picture.getpixel((5, 5))[0] > 200


ANIMATED = {"save_all": True, "append_images": [plain(color="blue")]}
REFUSED = {
    "web address": ("https://example.org/a.png", "embed it as data:image"),
    "file": ("file:///etc/passwd", "fetches nothing"),
    "bare base64": ("iVBORw0KGgo=", "fetches nothing"),
    "empty": ("", "fetches nothing"),
    "no base64 mark": ("data:image/png,abc", "must be data:image"),
    "svg": (url(b"<svg/>", "svg+xml"), "png, jpeg, webp, gif"),
    "tiff inside": (url(saved(plain(), "TIFF")), "not a picture"),
    "bad base64": ("data:image/png;base64,@@@@", "base64"),
    "no data": ("data:image/png;base64,", "not a picture"),
    "not a picture": (url(b"hello, this is text"), "not a picture"),
    "cut off": (url(saved(plain((300, 300)))[:200]), "damaged"),
    "header only": (url(png_header(10, 10)), "damaged"),
    "zero wide": (url(png_header(0, 10)), "empty|not a picture"),
    "too many pixels": (url(png_header(6000, 6000)), "million pixels"),
    "a bomb": (url(png_header(60_000, 60_000)), "decompression bomb"),
    "too many bytes": ("data:image/png;base64," + "A" * 27_000_000, "20 MB"),
    "animated gif": (url(saved(plain(), "GIF", **ANIMATED), "gif"), "animated"),
    "animated webp": (url(saved(plain(), "WEBP", **ANIMATED), "webp"), "animated"),
    "animated png": (url(saved(plain(), "PNG", **ANIMATED)), "animated"),
    "tiff of two pages": (url(saved(plain(), "TIFF", **ANIMATED), "tiff"), "png, jpeg, webp, gif"),
    "ftp": ("FTP://example.org/a.png", "fetches nothing"),
    "another alphabet": ("data:image/png;base64,ab-_", "base64"),
    "no base64 but letters": ("data:image/png;base64,é", "base64"),
    "one letter": ("data:image/png;base64,A", "base64"),
    "no comma": ("data:image/png;base64", "must be data:image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_cannot_be_used_are_refused(case):
    address, says = REFUSED[case]
    with pytest.raises(ValueError, match=says):
        PictureReader().read(address)


def test_the_limits_are_for_all_pictures_of_a_request_together():
    reader = PictureReader()
    large = url(saved(plain((4000, 4000))))
    reader.read(large)
    with pytest.raises(ValueError, match="million pixels in one request"):
        reader.read(large)


def test_error_messages_name_no_memory_addresses():
    with pytest.raises(ValueError, match="not a picture") as error:
        PictureReader().read(url(b"hello"))
    assert "0x" not in str(error.value)


# --- the server ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["serial", "batching"])
def lab(request, model_folder):
    connected = connect("pocket", batching=request.param)
    yield connected
    connected.close()


def ask(lab, content, **settings):
    settings = {"max_tokens": 4, "temperature": 0} | settings
    messages = [{"role": "user", "content": content}]
    return lab.client.chat.completions.create(model=lab.model, messages=messages, **settings)


TEXT = {"type": "text", "text": "What is in the picture?"}


def test_pictures_are_counted_as_prompt_tokens_by_the_rule(lab):
    alone = ask(lab, [TEXT], max_tokens=1).usage.prompt_tokens
    # 56 × 28 pixels: one row of two and its end; 500 × 1000 becomes 56 × 112: four rows of two
    counts = {(56, 28): 1 * (2 + 1), (500, 1000): 4 * (2 + 1)}
    parts = [part(url(saved(plain(size)))) for size in counts]
    with_one = ask(lab, [parts[0], TEXT], max_tokens=1).usage.prompt_tokens
    with_both = ask(lab, [*parts, TEXT], max_tokens=1).usage.prompt_tokens
    assert with_one - alone == counts[56, 28]
    assert with_both - alone == sum(counts.values())


def test_text_and_pictures_are_answered_at_the_same_time(lab):
    # One right answer: a near tie between two wordings turns with a busy machine's rounding.
    disc = plain((112, 112), "white")
    ImageDraw.Draw(disc).ellipse((30, 30, 82, 82), fill=(220, 30, 30))
    content = [part(url(saved(disc))), {"type": "text", "text": "What colour is the circle?"}]
    alone = ask(lab, content, max_tokens=6).choices[0].message.content
    assert "red" in alone
    story = [{"type": "text", "text": "Tell me about the sea."}]
    stream = ask(lab, story, max_tokens=30, stream=True)
    assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert ask(lab, content, max_tokens=6).choices[0].message.content == alone
    assert list(stream)[-1].choices[0].finish_reason in ("stop", "length")


def test_refused_pictures_are_http_400_and_the_server_lives(lab):
    for address, says in REFUSED.values():
        with pytest.raises(openai.BadRequestError, match=says) as error:
            ask(lab, [TEXT, part(address)])
        assert error.value.param == "messages.0"
        assert "messages.0.content.1: " in error.value.message
    assert ask(lab, [TEXT], max_tokens=1).usage.completion_tokens == 1


def broken_files() -> list[bytes]:
    """Pictures of four kinds, cut off or with bytes changed, five of each: 40 files."""
    rng = random.Random(0)
    files = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        whole = saved(Image.effect_noise((64, 48), 80).convert("RGB"), kind)
        for _ in range(5):
            files.append(whole[: rng.randrange(len(whole))])
            changed = bytearray(whole)
            for _ in range(8):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            files.append(bytes(changed))
    return files


def test_no_broken_file_brings_the_server_down(lab):
    refused = 0
    for data in broken_files():
        try:  # a changed byte may leave a picture that can be read
            assert ask(lab, [part(url(data)), TEXT], max_tokens=1).usage.completion_tokens == 1
        except openai.BadRequestError as error:
            refused += bool(error.body["message"])
    assert refused >= 20  # all that were cut off, for a start
    assert ask(lab, [TEXT], max_tokens=1).usage.completion_tokens == 1


SIDES = [(1, 1), (28, 28), (29, 28), (56, 84), (84, 112), (112, 112), (113, 113), (448, 336)]
SIDES += [(500, 100), (100, 500), (640, 480), (1540, 1541), (4000, 30)]


def test_predicted_tokens_are_the_servers(lab, model_folder):
    config = AutoConfig.from_pretrained(model_folder)
    alone = ask(lab, [TEXT], max_tokens=1).usage.prompt_tokens
    for size in SIDES:
        picture = part(url(saved(plain(size))))
        read = ask(lab, [picture, TEXT], max_tokens=1).usage.prompt_tokens
        assert read - alone == sizes.image_tokens(*size, config), size


# --- the engine ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(model_folder):
    return loading.load_model(model_folder, None, batching=False)


def logits_for(model, chat_format, pictures) -> torch.Tensor:
    parts = [{"type": "image", "image": picture} for picture in pictures]
    prompt = chat_format.encode([{"role": "user", "content": [*parts, TEXT]}])
    with torch.inference_mode():
        tensors = loading.image_inputs(prompt.pictures, model.model.vision_tower.dtype)
        return model(input_ids=torch.tensor([prompt.ids]), **tensors).logits[0, -1].float()


def test_other_pixels_give_other_logits_and_the_same_the_same(model, model_folder):
    chat_format = ChatFormat(model_folder / "tekken.json")
    red, again, blue = (
        logits_for(model, chat_format, [plain(color=color)]) for color in ("red", "red", "blue")
    )
    assert torch.equal(red, again)
    assert (red - blue).abs().max() > 1e-3


def test_padding_beside_a_larger_picture_changes_nothing(model, model_folder):
    chat_format = ChatFormat(model_folder / "tekken.json")
    small, large = plain((28, 28)), plain((112, 84), "blue")
    parts = [{"type": "image", "image": picture} for picture in (small, large)]
    prompt = chat_format.encode([{"role": "user", "content": parts}])
    dtype = model.model.vision_tower.dtype

    def features(pictures):
        tensors = loading.image_inputs(pictures, dtype)
        with torch.inference_mode():
            return model.get_image_features(**tensors, return_dict=True).pooler_output

    both, alone = features(prompt.pictures), features(prompt.pictures[:1])
    assert [len(each) for each in both] == [1, 3 * 4]
    # bf16 rounds differently in a longer sequence
    torch.testing.assert_close(both[0], alone[0], rtol=0.05, atol=0.02)


def test_logits_depend_on_a_single_picture_of_one_token(model, model_folder):
    chat_format = ChatFormat(model_folder / "tekken.json")
    red, blue = (logits_for(model, chat_format, [plain((9, 9), c)]) for c in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-3


def test_the_batch_shares_the_weights_of_the_whole_model(model):
    text = batch_engine.as_causal_lm(model)
    assert text.lm_head.weight is model.lm_head.weight
    own = dict(model.model.language_model.named_parameters())
    for name, parameter in text.model.named_parameters():
        assert parameter is own[name]
    ids = torch.tensor([[1, 3, 500, 600, 4]])
    with torch.inference_mode():
        assert torch.equal(text(input_ids=ids).logits, model(input_ids=ids).logits)

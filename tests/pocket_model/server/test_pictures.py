"""Pictures: which are accepted, how they are counted, and that logits depend on them."""

import asyncio
import base64
import io
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import openai
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoConfig, Mistral3ForConditionalGeneration

from helpers import connect
from helpers.model import sizes
from helpers.paths import ROOT
from pocket_model import pictures, vision
from pocket_model.pictures import PictureReader
from pocket_model.processor import bf16_matmul_is_fast
from pocket_model.server.decoder import Decoder
from pocket_model.server.engine import MAX_REQUESTS, Engine
from pocket_model.server.events import EngineRequest
from pocket_model.server.sampling import Sampler
from pocket_model.vision import VisionEncoder, image_inputs


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


def test_transparency_becomes_white(chat_format):
    clear = PictureReader().read(url(saved(Image.new("RGBA", (28, 28), (255, 0, 0, 0)))))
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
    # 56 × 28 pixels: one row of two and its end; 500 × 1000 becomes 84 × 168: six rows of three
    counts = {(56, 28): 1 * (2 + 1), (500, 1000): 6 * (3 + 1)}
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


SIDES = [
    (1, 1),
    (28, 28),
    (29, 28),
    (56, 84),
    (84, 112),
    (112, 112),
    (168, 168),
    (169, 169),
    (448, 336),
]
SIDES += [(500, 100), (100, 500), (640, 480), (1540, 1541), (4000, 30)]


def test_predicted_tokens_are_the_servers(lab, model_folder):
    config = AutoConfig.from_pretrained(model_folder)
    alone = ask(lab, [TEXT], max_tokens=1).usage.prompt_tokens
    for size in SIDES:
        picture = part(url(saved(plain(size))))
        read = ask(lab, [picture, TEXT], max_tokens=1).usage.prompt_tokens
        assert read - alone == sizes.image_tokens(*size, config), size


# --- the vision encoder ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(model_folder) -> VisionEncoder:
    return VisionEncoder(model_folder)


@pytest.fixture(scope="module")
def exact_encoder(model_folder) -> VisionEncoder:
    """In float32, as on a processor without bf16 instructions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "bf16_matmul_is_fast", lambda: False)
        encoder = VisionEncoder(model_folder)
        encoded(encoder, [np.zeros((3, 28, 28), "f4")])  # so that it is loaded
    return encoder


@pytest.fixture(scope="module")
def transformers_model(model_folder):
    model = Mistral3ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    return model.eval()


def prepared(chat_format, *given: Image.Image) -> list[np.ndarray]:
    content = [{"type": "image", "image": picture} for picture in given]
    return chat_format.encode([{"role": "user", "content": content}]).pictures


def encoded(encoder: VisionEncoder, seen: list[np.ndarray]) -> torch.Tensor:
    with torch.inference_mode():
        return encoder.encode(seen)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("sizes", [[(56, 28)], [(112, 84), (28, 56), (84, 84)], [(448, 336)]])
def test_image_tokens_are_transformers(
    sizes, encoder, exact_encoder, transformers_model, chat_format
):
    seen = prepared(chat_format, *(noise(*size) for size in sizes))
    with torch.inference_mode():
        output = transformers_model.get_image_features(
            **image_inputs(seen, torch.float32), return_dict=True
        )
    exact = torch.cat(list(output.pooler_output))
    found = encoded(exact_encoder, seen)
    assert found.dtype == torch.float32
    assert len(found) == sum(each[0].size // 28**2 for each in seen)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    rounded = encoded(encoder, seen)
    assert (rounded - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert torch.equal(rounded, found) != bf16_matmul_is_fast()


def test_padding_beside_a_larger_picture_changes_nothing(exact_encoder, chat_format):
    small, large = noise(28, 28), noise(112, 84)
    both = encoded(exact_encoder, prepared(chat_format, small, large))
    assert len(both) == 1 + 3 * 4
    for part, alone in ((both[:1], small), (both[1:], large)):
        torch.testing.assert_close(
            part, encoded(exact_encoder, prepared(chat_format, alone)), rtol=1e-4, atol=1e-4
        )


def test_image_inputs_are_padded_to_the_largest():
    assert image_inputs([], torch.float32) == {}
    some = [np.full((3, height, width), width, "f4") for height, width in ((28, 56), (56, 28))]
    inputs = image_inputs(some, torch.bfloat16)
    assert inputs["image_sizes"].tolist() == [[28, 56], [56, 28]]
    pixels = inputs["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((2, 3, 56, 56), torch.bfloat16)
    assert (pixels[0, :, :28] == 56).all()
    assert (pixels[1, :, :, :28] == 28).all()
    assert not pixels[0, :, 28:].any()
    assert not pixels[1, :, :, 28:].any()


SERVICE = """
import asyncio, sys
from pathlib import Path
from pocket_model.server.protocol import read_request
from pocket_model.server.service import ChatService, Finished

service = ChatService(Path(sys.argv[1]))

async def answer(content: str):
    body = '{"model": "pocket-small", "max_tokens": 1, "messages": [{"role": "user", "content": '
    request = service.to_engine_request(read_request((body + content + "}]}").encode()))
    async for event in service.stream_reply(request, []):
        last = event
    assert isinstance(last, Finished), last
    print("transformers.modeling_utils" in sys.modules)

async def main():
    await answer('"Hi"')
    await answer('[{"type": "image_url", "image_url": {"url": "%s"}}]' % sys.argv[2])

asyncio.run(main())
"""


def test_transformers_models_are_imported_for_the_first_picture_only(model_folder):
    command = [sys.executable, "-c", SERVICE, str(model_folder), url(PNG)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["False", "True"], result.stderr


# --- the engine ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, MAX_REQUESTS], ids=["serial", "batching"])
def engine(request, model_folder, encoder) -> Engine:
    return Engine(Decoder(model_folder, "int8"), encoder, request.param)


class _Recording(Sampler):
    """Keeps the logits that it was given last."""

    def sample(self, logits):
        self.logits = logits.clone()
        return super().sample(logits)


def logits_for(engine, chat_format, pictures) -> torch.Tensor:
    """The logits of an answer's first token."""
    parts = [{"type": "image", "image": picture} for picture in pictures]
    prompt = chat_format.encode([{"role": "user", "content": [*parts, TEXT]}])
    sampler = _Recording(0.0)
    asked = EngineRequest(prompt.ids, 1, chat_format.end_token_id, sampler, prompt.pictures)

    async def answer():
        return [event async for event in engine.stream(asked)]

    assert len(asyncio.run(answer())) == 2
    return sampler.logits


def test_other_pixels_give_other_logits_and_the_same_the_same(engine, chat_format):
    red, again, blue = (
        logits_for(engine, chat_format, [plain(color=color)]) for color in ("red", "red", "blue")
    )
    assert torch.equal(red, again)
    assert (red - blue).abs().max() > 1e-3


def test_the_order_of_pictures_matters(engine, chat_format):
    some = [plain(color="red"), plain(color="blue")]
    one, other = (logits_for(engine, chat_format, given) for given in (some, some[::-1]))
    assert (one - other).abs().max() > 1e-3


def test_logits_depend_on_a_single_picture_of_one_token(engine, chat_format):
    red, blue = (logits_for(engine, chat_format, [plain((9, 9), c)]) for c in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-3


def test_a_picture_has_transformers_logits(engine, chat_format, transformers_model):
    """But for the rounding of weights and activations, far less than a picture's effect."""
    given = [noise(112, 84)]
    parts = [{"type": "image", "image": picture} for picture in given]
    prompt = chat_format.encode([{"role": "user", "content": [*parts, TEXT]}])
    with torch.inference_mode():
        exact = transformers_model(
            input_ids=torch.tensor([prompt.ids]), **image_inputs(prompt.pictures, torch.float32)
        ).logits[0, -1]
    error = (logits_for(engine, chat_format, given) - exact).abs().mean()
    other = (logits_for(engine, chat_format, [plain((112, 84))]) - exact).abs().mean()
    assert error < other / 3

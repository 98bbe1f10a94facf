"""A picture of one's own: read as ipywidgets hands it over, and refused in words."""

import io

import ipywidgets as widgets
import pytest
from PIL import Image

from helpers.model import configs, sizes
from helpers.paths import DATA
from helpers.widgets import image_tokens, live
from helpers.widgets.own_picture import OwnPicture

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def own():
    small = {"24B": configs.load("mistral-small-3.2-2506")}
    return OwnPicture(
        lambda picture: image_tokens.explore(picture, small), DATA / "images/shapes.png"
    )


def png(size) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()


def choose(own, name, data):
    """What a page sends when a file was chosen, in the installed version of ipywidgets."""
    upload = own.row.children[0]
    about = {"name": name, "type": "image/png", "size": len(data)}
    if widgets.__version__ < "8":
        upload.set_state({
            "metadata": [about | {"lastModified": 0}], "_counter": 1, "data": [memoryview(data)]
        })  # fmt: skip
    else:
        about |= {"last_modified": 0, "content": memoryview(data)}
        upload.set_state({"value": [about]})


def test_the_uploaded_picture_is_explored(own):
    choose(own, HOSTILE, png((560, 280)))
    assert "Your picture" in own.status.value
    entries = own.explorer.data["models"]["24B"]
    config = configs.load("mistral-small-3.2-2506")
    for entry in entries:
        width, height = entry["sent"]
        assert width == 2 * height
        assert entry["tokens"] == sizes.image_tokens(width, height, config)
    (shown,) = own.output.outputs
    assert shown["data"]["text/html"] == own.explorer._repr_html_()
    assert own.row.children[0].description == "Picture"
    assert not own.row.children[0].value  # a new control, empty


@pytest.mark.parametrize(
    ("data", "says_so"), [(b"%PDF-1.7", "not a picture"), (b"\0" * 9_000_001, "scale it down")]
)
def test_what_is_no_picture_is_refused_and_the_old_one_stays(own, data, says_so):
    before = own.explorer
    choose(own, HOSTILE, data)
    assert says_so in own.status.value
    assert "<img" not in own.status.value
    assert own.explorer is before


def test_without_a_front_end_the_first_picture_is_shown(own):
    bundle = own._repr_mimebundle_()
    assert bundle["text/html"] == own.explorer._repr_html_()
    assert bundle[live.VIEW]["model_id"] == own.box.model_id

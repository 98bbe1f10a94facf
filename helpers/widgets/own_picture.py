"""An explorer of a picture, and an upload for one of one's own where a kernel runs."""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image

from helpers import images
from helpers.widgets import live, uploads
from helpers.widgets.explorer import Explorer


class OwnPicture:
    """An explorer that starts again with each picture that is uploaded.

    Where no front end runs, as on GitHub or a page, the first picture's explorer is shown.

    Args:
        explore: makes the explorer of a picture.
        first: the picture that is shown first, or its path.
    """

    def __init__(self, explore: Callable[[Image.Image], Explorer], first: images.Source):
        self.explore = explore
        self.output, self.status, self.row = widgets.Output(), widgets.HTML(), live.row()
        uploads.accept(self.row, self._take, "A picture of 9 MB at most, to look at")
        self.box = widgets.VBox([self.row, self.status, self.output])
        self._show(images.image_of(images.image_part(first)))
        self.status.value = live.status("Choose a picture of your own.")

    def end(self) -> None:
        """Nothing is under way here."""

    def _take(self, value: Any) -> None:
        try:
            _, part = uploads.picture_of(value)
        except images.ImageError as error:
            self.status.value = live.status(f"The file cannot be shown: {error}.")
            return
        self._show(images.image_of(part))
        self.status.value = live.status("Your picture is below.")

    def _show(self, picture: Image.Image) -> None:
        self.explorer = self.explore(picture)
        self.output.outputs = ()
        self.output.append_display_data(self.explorer)

    def _repr_mimebundle_(self, **options: Any) -> dict:
        """The widget, and what is shown where no front end runs."""
        return live.bundle(self, self.explorer._repr_html_(), repr(self.explorer))

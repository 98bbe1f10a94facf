"""The three pictures of the README: explorers of the site, as Chromium shows them.

`python -m labkit.site.pictures` takes them anew from the notebooks as they were last executed. It
needs Chromium, and what requirements-browser.txt installs.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.site import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 760, 530  # of a picture, in CSS pixels, at most
COLORS = 64  # a picture is a page with few colors


@dataclass(frozen=True)
class Picture:
    """Which explorer: its page, a part of its title, and a button that is pressed first."""

    page: str
    title: str
    press: str | None = None


PICTURES = {
    "next-token.png": Picture("00_start_here.html", "token"),
    "tools.png": Picture("05_tool_calling.html", "conversation", "Next"),
    "image-tokens.png": Picture("04_vision.html", "image"),
}


def take(site: Path, browser: Browser, target: Path) -> list[Path]:
    """Write the pictures of a built site into the folder `target`.

    Raises:
        LookupError: an explorer is not on its page any more.
    """
    from PIL import Image

    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in PICTURES.items():
        context = browser.new_context(
            viewport={"width": WIDTH + 100, "height": 900}, device_scale_factor=2, offline=True
        )
        page = context.new_page()
        page.goto((site / picture.page).resolve().as_uri())
        explorer = page.locator(f".kx[aria-label*='{picture.title}' i]").first
        if explorer.count() == 0:
            raise LookupError(f"{picture.page} has no explorer called “{picture.title}”")
        if picture.press:
            explorer.get_by_role("button", name=picture.press, exact=True).click()
        page.evaluate("scrollTo(0, 0)")  # a place in the window is then a place in the page
        box = explorer.bounding_box()
        clip = {"x": max(0, box["x"] - 12), "y": max(0, box["y"] - 8)}
        clip |= {"width": min(box["width"] + 24, WIDTH), "height": min(box["height"] + 16, HEIGHT)}
        shot = page.screenshot(clip=clip, full_page=True, animations="disabled")
        image = Image.open(io.BytesIO(shot)).convert("RGB")
        image.quantize(COLORS, dither=Image.Dither.NONE).save(target / name, optimize=True)
        context.close()
        written.append(target / name)
    return written


def main() -> int:
    """Build the site, take its pictures, and say where they are."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("Playwright is missing: pip install -r requirements-browser.txt", file=sys.stderr)
        return 2
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        print("There is no Chromium. On Debian and Ubuntu: apt install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        build.build(Path(folder))
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for path in take(Path(folder), browser, build.IMAGES):
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a page of HTML has: places, links, assets and sections. And which of its links are dead."""

from __future__ import annotations

import html.parser
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from helpers.paths import ROOT
from labkit import notebooks

# Elements that have no end.
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"}
VOID |= {"track", "wbr"}
# The attributes with an address. That of an `a` is a link; all others are fetched with the page.
ADDRESSES = ("href", "src", "srcset", "poster", "data", "action", "xlink:href")
# Elements that do not end a word.
INLINE = {"a", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup"}
# Text that a search does not look at: an output is in the page, but nobody searches its numbers.
LEFT_OUT = ("jp-OutputArea", "kit")
IN_STYLE = re.compile(r"@import\s+[\"']?([^\"';]+)|url\(\s*[\"']?([^\"')]+)")


@dataclass
class Section:
    """A heading, where it is, and the text under it."""

    level: int
    anchor: str
    heading: str = ""
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text on one line."""
        return " ".join("".join(self.texts).split())


class Page(html.parser.HTMLParser):
    """What is in a page.

    Attributes:
        places: the ids that a link can lead to.
        links: the addresses of links, which a user follows.
        assets: the addresses that a browser fetches with the page.
        sections: the parts under headings of level 1 to 3.
    """

    def __init__(self, text: str):
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.sections: list[Section] = []
        self._open: list[tuple[str, bool]] = []  # the open elements: tag, whether it is left out
        self._heading: Section | None = None  # the heading that is open, and its words
        self._words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if place := values.get("id"):
            self.places.add(place)
        for name in ADDRESSES:
            if name in values and not (tag == "a" and name == "href"):
                self.assets.append(values[name])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self._style(values.get("style", ""))
        if tag in ("h1", "h2", "h3") and place:
            self._heading, self._words = Section(int(tag[1]), place), ""
            self.sections.append(self._heading)
        self._part_words(tag)
        if tag not in VOID:
            names = values.get("class", "").split()
            self._open.append((tag, any(name in names for name in LEFT_OUT)))

    def handle_endtag(self, tag: str) -> None:
        self._part_words(tag)
        if tag in ("h1", "h2", "h3"):
            self._heading = None
        opened = [name for name, _ in self._open]
        if tag in opened:  # what a page forgot to close ends with what is around it
            del self._open[len(opened) - 1 - opened[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        inside = self._open[-1][0] if self._open else ""
        if inside == "style":
            self._style(data)
        if inside in ("style", "script") or not self.sections:
            return
        if self._heading is not None:
            self._words += data
            self._heading.heading = " ".join(self._words.split())
        elif not any(out for _, out in self._open):
            self.sections[-1].texts.append(data)

    def _part_words(self, tag: str) -> None:
        if tag not in INLINE and self.sections:
            self.sections[-1].texts.append(" ")

    def _style(self, text: str) -> None:
        self.assets += [first or second for first, second in IN_STYLE.findall(text)]


def problems(pages: dict[str, Page], files: set[str]) -> Iterator[str]:
    """The dead links of a site, one sentence each: the page, the address, and what is wrong.

    Args:
        pages: the pages by name.
        files: the names of all files of the site, pages included.
    """
    for name, page in sorted(pages.items()):
        for address in dict.fromkeys(page.links):
            if said := _dead(address, name, pages, files):
                yield f'{name}: the link "{address}" {said}'
        for address in dict.fromkeys(page.assets):
            if address.startswith("data:"):
                continue
            if re.match(r"([a-z][a-z0-9+.-]*:|//)", address, re.I):
                yield f'{name}: "{address[:100]}" is fetched from another host'
            elif said := _dead(address, name, pages, files):
                yield f'{name}: the asset "{address}" {said}'


def elsewhere(pages: dict[str, Page]) -> set[str]:
    """The links that only the network can check."""
    found = {link for page in pages.values() for link in page.links}
    return {link for link in found if _scheme(link) and not link.startswith(_repository())}


def _repository() -> str:
    return f"{notebooks.REPOSITORY}/blob/{notebooks.BRANCH}/"


def _scheme(address: str) -> str:
    match = re.match(r"([a-z][a-z0-9+.-]*):", address, re.IGNORECASE)
    return match[1].lower() if match else ""


def _dead(address: str, page: str, pages: dict[str, Page], files: set[str]) -> str:
    """Why a link of a page leads nowhere; empty if it leads somewhere, or to the network."""
    if address.startswith(_repository()):
        path = Path(unquote(address.removeprefix(_repository()).partition("#")[0]))
        inside = ".." not in path.parts and (ROOT / path).exists()
        return "" if inside else f"leads nowhere: the kit has no {path.as_posix()}"
    if scheme := _scheme(address):
        known = scheme in ("https", "http", "mailto")
        return "" if known else f'has the scheme "{scheme}:", which no other browser can open'
    path, _, place = address.partition("#")
    path, place = unquote(path.partition("?")[0]), unquote(place)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if target not in files:
        return f"leads nowhere: the site has no {target}"
    if place and target in pages and place not in pages[target].places:
        return f'leads nowhere: {target} has no place called "{place}"'
    return ""

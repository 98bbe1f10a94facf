"""The site of the committed notebooks in Chromium, opened from the disk, without a network."""

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from helpers.paths import ROOT
from labkit import notebooks
from labkit.site import build, pictures

STATE = "e => e.innerHTML"  # what its controls are set to is not in it
NONSENSE = "qwertzuiopasdf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    report = build.build(target)
    print(f"\n{report}")
    return target


@pytest.fixture(scope="module")
def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.html"))


@pytest.fixture
def open_page(chromium, folder):
    """Opens a page; at the end there was no error in it, and no request left the folder."""
    contexts, faults = [], []

    def go(name: str, scheme: str = "light", width: int = 1280, scripts: bool = True):
        context = chromium.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": 900},
            offline=True,
            java_script_enabled=scripts,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"{name}: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"{name}: {dialog.message}"))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else faults.append(r.url)
            ),
        )
        page.goto((folder / name).as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert not faults, "\n".join(["", *faults])


def lines(faults: list[str]) -> str:
    return "\n".join(["", *faults])


def background(page) -> list[float]:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [float(part) for part in re.findall(r"[\d.]+", color)[:3]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_readable(open_page, names, faults_of, serious_faults, scheme, width):
    found = []
    for name in names:
        page = open_page(name, scheme, width)
        assert (sum(background(page)) < 150) == (scheme == "dark"), name
        found += [f"{name}, {fault}" for fault in faults_of(page) + serious_faults(page)]
        page.close()
    assert not found, lines(found)


def test_every_explorer_of_every_page_does_something(open_page, names):
    """Each control of each explorer is used; at least one changes what the explorer shows."""
    tried = {}
    for name in names:
        page = open_page(name)
        explorers = page.locator(".kx")
        for number in range(explorers.count()):
            explorer = explorers.nth(number)
            assert not explorer.locator(".kx-plain").is_visible(), f"{name}: only the table"
            states = {explorer.evaluate(STATE) for _ in work(explorer)}
            label = f"{name}: {explorer.get_attribute('aria-label')}"
            tried[f"{label} ({number})"] = len(states) > 1
        page.close()
    assert len(tried) > 10
    assert [label for label, changed in tried.items() if not changed] == []


def work(explorer) -> Iterator[None]:
    """Move every slider to its end, take the last entry of every menu, press three buttons."""
    yield
    for slider in explorer.locator("input[type=range]").all():
        slider.press("End")
        yield
    for menu in explorer.locator("select").all():
        menu.select_option(index=menu.locator("option").count() - 1)
        yield
    for number in range(min(3, explorer.locator("button:enabled").count())):
        explorer.locator("button:enabled").nth(number).click()
        yield


def test_live_widgets_leave_a_page_that_says_what_they_are(open_page):
    """Controls of ipywidgets need a kernel: none of them is left on a page."""
    page = open_page("10_playground.html")
    assert page.locator(".jupyter-widgets, script[type*=widget]").count() == 0
    assert page.locator(".kp").count() >= 1


def test_every_link_leads_to_a_page_or_away(open_page, names, folder):
    """Read from the browser, which has resolved each address, and not by the builder's parser."""
    places, dead = {}, []
    pages = {name: open_page(name) for name in names}
    for name, page in pages.items():
        places[name] = set(page.locator("[id]").evaluate_all("all => all.map(e => e.id)"))
    for name, page in pages.items():
        for address in page.locator("a[href]").evaluate_all("all => all.map(a => a.href)"):
            local, _, place = unquote(address).removeprefix("file://").partition("#")
            if address.startswith("https://"):
                continue
            target = Path(local)
            if target.parent != folder or target.name not in places:
                dead.append(f"{name}: {address}")
            elif place and place not in places[target.name]:
                dead.append(f"{name}: no place {address}")
    assert not dead, lines(dead)


def test_previous_and_next_go_through_the_whole_site(open_page, names):
    page = open_page("index.html")
    seen = ["index.html"]
    while (after := page.locator("main > nav.kit a", has_text="→")).count():
        after.click()
        page.wait_for_load_state()
        seen.append(page.url.rsplit("/", 1)[-1])
        assert len(seen) <= len(names)
    assert sorted(seen) == names
    for expected in seen[-2::-1]:
        page.locator("main > nav.kit a", has_text="←").click()
        page.wait_for_url(f"**/{expected}")


def test_the_contents_lead_to_every_page_and_section(open_page, names):
    page = open_page("03_openrouter.html")
    links = page.locator("#menu > ul > li > a").evaluate_all("all => all.map(a => a.href)")
    assert sorted(link.rsplit("/", 1)[-1] for link in links) == names
    assert page.locator("#menu [aria-current=page]").inner_text().startswith("03 ·")
    headings = page.locator("main h2").all_inner_texts()
    assert page.locator("#menu .toc a").all_inner_texts() == headings
    last = page.locator("#menu .toc a").last
    last.click()
    page.wait_for_function("document.querySelector('.toc li:last-child a[aria-current]')")
    top = page.locator("main h2").last.bounding_box()["y"]
    assert 0 <= top < 900


def test_on_a_phone_the_contents_open_and_close(open_page):
    page = open_page("05_tool_calling.html", width=360)
    menu = page.locator("#menu")
    assert not menu.is_visible()
    page.get_by_role("button", name="Contents").click()
    assert menu.is_visible()
    page.keyboard.press("Escape")
    assert not menu.is_visible()
    page.get_by_role("button", name="Contents").click()
    menu.locator(".toc a").nth(1).click()
    assert not menu.is_visible()
    assert page.locator("main h2").nth(1).bounding_box()["y"] < 900
    page.get_by_role("button", name="Contents").click()
    menu.get_by_role("link", name="Glossary").click()
    page.wait_for_url("**/glossary.html")


def search(page, text: str) -> list[str]:
    """Type a text into the search; returns what its results say."""
    page.locator("#search").fill(text)
    page.wait_for_function("document.querySelector('#found p').textContent")
    page.wait_for_timeout(100)
    return page.locator("#found li").all_inner_texts()


def test_the_search_finds_words_and_leads_there(open_page):
    page = open_page("index.html")
    assert search(page, "KV cache")[0].startswith("KV cache – Glossary")
    page.locator("#found a").first.click()
    page.wait_for_url("**/glossary.html#kv-cache")
    assert page.locator("#kv-cache").bounding_box()["y"] < 900


@pytest.fixture(scope="module")
def index(folder) -> dict:
    text = (folder / "search-index.js").read_text(encoding="utf-8")
    return json.loads(text.partition("=")[2].rstrip().rstrip(";"))


def test_every_address_of_the_index_is_the_heading_that_it_says(open_page, index):
    assert len(index["sections"]) > 150
    for number, (file, _) in enumerate(index["pages"]):
        page = open_page(file)
        for of, anchor, heading, _ in index["sections"]:
            if of == number:
                shown = page.locator(f'[id="{anchor}"]').text_content()
                assert " ".join(shown.split()) == heading, f"{file}#{anchor}"
        page.close()


@pytest.mark.parametrize(
    "text", ["bandwidth", "prefix cache", "θ", "max_tokens", "Tôkenize", "24B gpu"]
)
def test_the_search_finds_every_section_with_all_words(open_page, index, text):
    """Counted here in another way: the words of a section that begin with the words asked for."""
    wanted = plain(text).split()
    expected = 0
    for number, _, heading, body in index["sections"]:
        title = index["pages"][number][1]
        here = f"{heading} {body} {title if title == heading else ''}"
        words = [part for part in re.split(r"(?<=[\W_])|(?=[\W_])", plain(here)) if part]
        starts = ["".join(words[at : at + 9]) for at in range(len(words))]
        expected += all(any(start.startswith(each) for start in starts) for each in wanted)
    page = open_page("index.html")
    shown = search(page, text)
    assert expected > 0
    said = page.locator("#found p").inner_text()
    assert said.startswith(f"{expected} place")
    assert len(shown) == min(expected, 20)
    assert page.locator("#found mark").count() > 0


def plain(text: str) -> str:
    """In small letters, without accents."""
    return "".join(
        c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c)
    ).lower()


@pytest.mark.parametrize("text", [NONSENSE, f"cache {NONSENSE}", "(", "<zz>", "\\", "ache"])
def test_the_search_shows_nothing_for_nonsense(open_page, text):
    page = open_page("index.html")
    assert search(page, text) == []
    assert page.locator("#found p").inner_text() == f"Nothing found for “{text}”."


def test_an_empty_search_shows_nothing_at_all(open_page):
    page = open_page("index.html")
    search(page, "token")
    page.locator("#search").fill("  ")
    page.locator("#found").wait_for(state="hidden")


def test_the_search_by_keyboard_alone(open_page):
    page = open_page("04_vision.html")
    page.keyboard.press("/")
    page.keyboard.type("tool call")
    page.locator("#found li").nth(2).wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.href")
    assert focused == page.locator("#found a").nth(1).evaluate("a => a.href")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()
    page.keyboard.type("s")  # the box opens again
    page.locator("#found li").first.wait_for()
    address = page.locator("#found a").first.evaluate("a => a.href")
    page.keyboard.press("Enter")
    page.wait_for_url(address)


def test_the_first_tab_skips_to_the_content(open_page):
    page = open_page("01_architecture.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_the_theme_is_chosen_and_kept(open_page):
    page = open_page("index.html", "light")
    button = page.get_by_role("button", name="Dark theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert sum(background(page)) < 150
    page.locator("#menu a", has_text="00 ·").first.click()
    page.wait_for_url("**/00_start_here.html")
    assert sum(background(page)) < 150
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert sum(background(page)) > 600


def test_without_scripts_everything_can_be_read(open_page):
    page = open_page("00_start_here.html", scripts=False)
    assert page.locator("search, .theme").locator("visible=true").count() == 0
    assert page.locator("#menu a").first.is_visible()
    assert page.locator(".kx-plain table").first.is_visible()


def test_solutions_unfold(open_page, solutions_fold):
    for path in notebooks.available():
        page = open_page(f"{path.stem}.html")
        solutions_fold(page, notebooks.read(path))
        page.close()


def test_the_readmes_pictures_can_be_taken(folder, chromium, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in pictures.take(folder, chromium, tmp_path):
        image = Image.open(path)
        assert image.width > 900
        assert len(image.convert("RGB").getcolors(2**16)) > 10, "an empty picture"
        assert path.stat().st_size < 100_000
        committed = Image.open(ROOT / "docs" / path.name)
        assert committed.width == image.width
        assert re.search(rf"!\[[^\]]+\]\(docs/{path.name}\)", readme), path.name

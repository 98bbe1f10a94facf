"""Votes, a picture of one's own and a server that hangs, in JupyterLab: driven as a user does."""

import re
import socket

import nbformat
import pytest

from helpers.compare import votes
from helpers.paths import DATA

NAME = "live_cells.ipynb"
MINE = "my-votes.jsonl"
HOSTILE = "<img src=x onerror=alert(1)>"
VOTES = f"""from helpers.compare import votes
from helpers.widgets.votes import VoteBox

texts = ["{HOSTILE}", "Rome."], ["Paris.", "It is Paris."], ["Yes.", ""]
pool = [votes.Ballot(f"q{{n}}", "{HOSTILE}?", "A", "B", *each) for n, each in enumerate(texts)]
VoteBox(pool, "{MINE}")"""
PICTURE = """from helpers.model import configs
from helpers.paths import DATA
from helpers.widgets import image_tokens
from helpers.widgets.own_picture import OwnPicture

model = configs.load("mistral-small-3.2-2506")
OwnPicture(
    lambda image: image_tokens.explore(image, {"24B": model}), DATA / "images" / "shapes.png"
)"""
# Something listens at that port, and never answers.
DASHBOARD = """from functools import partial

from helpers import connect
from helpers.widgets.dashboard import Dashboard

Dashboard({{"hangs": partial(connect, "http://127.0.0.1:{port}/v1", model="m")}})"""
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def hanging():
    """A port on which connections are taken and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def book(jupyter, chromium, pictures, open_notebook, hanging):
    """A notebook with the three cells, run whole."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    sources = (VOTES, PICTURE, DASHBOARD.format(port=hanging))
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(made, jupyter.folder / NAME)
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    book = open_notebook(jupyter, page, NAME)
    try:
        book.run_all()
        yield book
        assert not dialogs, "a script ran"
        assert not book.red_boxes()
    finally:
        page.close()
        jupyter.stop_kernels()
        for name in (NAME, MINE):
            (jupyter.folder / name).unlink(missing_ok=True)


@pytest.fixture
def area(book):
    """The output of the cell with a text."""
    return lambda text: book.cell_with(text).locator(".jp-OutputArea")


def wait_for(area, words):
    area.locator("[role=status]", has_text=re.compile(words)).wait_for(timeout=WAIT_MS)


@pytest.fixture
def kept(jupyter):
    """The votes in the file."""
    return lambda: [vote.choice for vote in votes.read(jupyter.folder / MINE)]


@pytest.fixture
def run_votes(book, area):
    """Run the cell of the votes again, as on a page that is opened again; its output."""

    def run():
        book.cell_with("VoteBox(").locator(".cm-content").click()
        book.page.keyboard.press("ControlOrMeta+Enter")
        book.wait_for_kernel()
        return area("VoteBox(")

    return run


@pytest.fixture
def ballots(jupyter, run_votes):
    """The cell of the votes with three ballots and no vote yet."""
    (jupyter.folder / MINE).unlink(missing_ok=True)
    box = run_votes()
    wait_for(box, "^3 to go")
    return box


def test_no_name_is_seen_before_the_vote(ballots):
    assert ballots.locator("img").count() == 0
    shown = ballots.inner_text()
    assert HOSTILE in shown
    assert not {"A", "B"} & set(shown.split())


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 800)])
def test_the_votes_are_readable(book, faults_of, serious_faults, pictures, theme, width):
    book.look(theme, width)
    book.page.screenshot(path=pictures / f"08-votes-{theme.lower()}-{width}.png")
    assert not faults_of(book.page)
    assert serious_faults(book.page, ".jp-OutputArea:has(.kv)") == []


def test_a_button_votes_and_a_page_that_is_opened_again_goes_on(ballots, run_votes, kept):
    ballots.get_by_role("button", name="Left is better").click()
    wait_for(ballots, "Kept: left. 2 to go")
    assert kept() == ["left"]
    wait_for(run_votes(), "^2 to go")
    assert kept() == ["left"]


def test_the_keyboard_alone_votes(book, ballots, kept):
    keys, key = book.page.keyboard, ballots.get_by_label("Key")
    ballots.get_by_role("button", name="Left is better").focus()
    for _ in range(3):
        keys.press("Tab")
    assert key.evaluate("element => element === document.activeElement")
    keys.type("7")
    wait_for(ballots, "The keys are 1")
    keys.type("1")
    wait_for(ballots, "Kept: left. 2 to go")
    keys.type("2")
    wait_for(ballots, "Kept: right. 1 to go")
    keys.type("0")
    wait_for(ballots, "3 votes are in")
    assert kept() == ["left", "right", "tie"]
    assert ballots.get_by_role("button", name="Tie").is_disabled()


def upload(book, area, file):
    with book.page.expect_file_chooser() as chooser:
        area.get_by_role("button", name="Picture (0)").click()
    chooser.value.set_files(file)


def test_a_picture_of_ones_own_is_explored(book, area):
    picture = area("OwnPicture(")
    wait_for(picture, "Choose a picture")
    before = picture.locator("svg image").first.get_attribute("href")
    upload(book, picture, DATA / "images" / "chart.png")
    wait_for(picture, "Your picture is below")
    picture.get_by_role("button", name="Picture (0)").wait_for()  # empty again
    assert picture.locator("svg image").first.get_attribute("href") != before


def test_what_is_no_picture_is_refused_and_the_last_one_stays(book, area, tmp_path):
    picture = area("OwnPicture(")
    before = picture.locator("svg image").first.get_attribute("href")
    file = tmp_path / f"{HOSTILE}.png"
    file.write_bytes(b"no picture")
    upload(book, picture, file)
    wait_for(picture, "The file cannot be shown")
    assert picture.locator("svg image").first.get_attribute("href") == before


def test_a_server_that_hangs_can_be_left(area):
    board = area("Dashboard(")
    board.get_by_role("button", name="Start").click()
    wait_for(board, "Stop ends the sweep")
    board.get_by_role("button", name="Stop").click()
    wait_for(board, "Stopped")
    board.get_by_role("button", name="Start").click()  # and it can be started again
    wait_for(board, "Stop ends the sweep")
    board.get_by_role("button", name="Stop").click()
    wait_for(board, "Stopped")

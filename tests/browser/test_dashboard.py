"""The dashboard in JupyterLab: driven as a user does, with the pocket server under load."""

import re

import nbformat
import pytest

NAME = "dashboard.ipynb"
# "gone" is an address at which no server listens.
SOURCE = """from functools import partial

from helpers import connect
from helpers.widgets.dashboard import Dashboard

servers = {"pocket": connect, "gone": partial(connect, "http://127.0.0.1:9/v1")}
Dashboard(servers)"""
SWEEP_S = 120_000  # milliseconds


@pytest.fixture(scope="module")
def opened(jupyter, chromium, pictures, open_notebook):
    """A notebook with a dashboard, run whole; its page, and the dashboard."""
    # Without a kernel's name, JupyterLab asks for one.
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(SOURCE)]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, jupyter.folder / NAME)
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    opened = open_notebook(jupyter, page, NAME)
    opened.run_all()
    yield opened, opened.cell_with("Dashboard(").locator(".jp-OutputArea")
    assert not opened.red_boxes()
    page.close()
    jupyter.stop_kernels()
    (jupyter.folder / NAME).unlink()


@pytest.fixture
def board(opened):
    """The dashboard, with its smallest sweep chosen."""
    area = opened[1]
    area.get_by_label("Server").select_option("pocket")
    area.get_by_label("Users").fill("1, 2")
    for label, value in (("Requests per level", "2"), ("Tokens per answer", "3")):
        area.get_by_label(label).fill(value)
        area.get_by_label(label).press("Enter")
    return area


def wait_for_status(board, words):
    board.locator("[role=status]", has_text=re.compile(words)).wait_for(timeout=SWEEP_S)


def test_a_sweep_fills_the_table_and_the_plot(board):
    board.get_by_role("button", name="Start").click()
    wait_for_status(board, "All levels are measured")
    assert board.locator("svg circle").count() == 4
    rows = board.locator(".kd-table tbody tr").all_inner_texts()
    assert [row.split("\t")[:3] for row in rows] == [["1", "2", "0"], ["2", "2", "0"]]


def test_stop_stops(board):
    board.get_by_label("Requests per level").fill("900")
    board.get_by_label("Requests per level").press("Enter")
    board.get_by_role("button", name="Start").click()
    wait_for_status(board, r"1 user, level 1 of 2: \d+ of 900")
    board.get_by_role("button", name="Stop").click()
    wait_for_status(board, "Stopped")


def test_a_server_that_is_gone_is_said_in_words(board):
    board.get_by_label("Server").select_option("gone")
    board.get_by_role("button", name="Start").click()
    wait_for_status(board, "see below")
    assert "nothing listens on port 9" in board.locator(".kd-error").inner_text()


def test_html_is_shown_as_text(board):
    board.get_by_label("Users").fill("<img src=x onerror=alert(1)>")
    board.get_by_role("button", name="Start").click()
    wait_for_status(board, "whole numbers")
    assert board.locator("img").count() == 0


def test_the_keyboard_alone_is_enough(opened, board):
    keys, focused = opened[0].page.keyboard, "document.activeElement"
    board.get_by_label("Server").focus()
    names = []
    for _ in range(12):
        keys.press("Tab")
        names.append(
            opened[0].page.evaluate(
                f"({focused}.labels?.[0]?.innerText || {focused}.innerText || '').trim()"
            )
        )
        if names[-1] == "Start":
            keys.press("Enter")
            break
    assert names == ["Users", "Requests per level", "Tokens per answer", "Start"]
    wait_for_status(board, "All levels are measured")


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 800)])
def test_it_is_readable(opened, board, faults_of, serious_faults, pictures, theme, width):
    book = opened[0]
    board.get_by_role("button", name="Start").click()
    wait_for_status(board, "All levels are measured")
    book.look(theme, width)
    book.page.screenshot(path=pictures / f"06-dashboard-{theme.lower()}-{width}.png")
    assert not faults_of(book.page)
    assert serious_faults(book.page, ".jp-OutputArea:has(.kd)") == []

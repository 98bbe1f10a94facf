"""Each function of `faults.js` finds its fault where one was made, and nothing in a good page."""

import pytest

PAGE = """<style>body {{ font: 16px monospace; margin: 0 }}</style>
<div class="jp-Cell"></div><div class="jp-Cell" style="width: 600px">
<div class="jp-OutputArea-output" {attributes}>{output}</div></div>"""
TEXT = "many wordwords " * 40 + "</pre>"
LONG = "<pre>" + TEXT
WHITE = "<svg xmlns='http://www.w3.org/2000/svg' width='50' height='50'>{}</svg>"
PICTURE = '<img src="data:image/svg+xml,' + WHITE + '">'

GOOD = {
    "printed": "<pre style='white-space: pre-wrap'>" + TEXT,
    "scrolls": f"<div style='overflow-x: auto'>{LONG}</div>",
    "a long word wraps": f"<div style='overflow-wrap: anywhere'>{'x' * 200}</div>",
    "folded": "<details><summary>Solution</summary><b style='color: #eee'>no</b></details>",
    "a number and room for its arrows": (
        "<input type='number' value='16' style='width: 40px; padding: 4px 0 4px 8px; color: #000'>"
    ),
    "figure": PICTURE.format("<circle r='20' fill='black'/>"),
}
BAD = [
    ("redBoxes", "<p>a warning</p>", 'data-mime-type="application/vnd.jupyter.stderr"'),
    ("cut", f"<div style='overflow: hidden'>{LONG}</div>", ""),
    ("cut", LONG, ""),
    ("cut", "<input value='more words than it shows' style='width: 60px'>", ""),
    ("cut", "<input type='number' value='1234567' style='width: 30px'>", ""),
    ("sideways", LONG, ""),
    ("brokenWords", "<pre style='white-space: pre-wrap; word-break: break-all'>" + TEXT, ""),
    ("faint", "<p style='color: #aaa'>hardly</p>", ""),
    ("emptyFigures", PICTURE.format("<circle r='20' fill='white'/>"), ""),
]


def find(page, function: str, output: str, attributes: str = "") -> list[str]:
    page.set_content(PAGE.format(output=output, attributes=attributes))
    return page.evaluate(f"faults.{function}()")


@pytest.fixture(scope="module")
def page(chromium, faults_of):
    page = chromium.new_page(viewport={"width": 800, "height": 600})
    page.goto("about:blank")
    faults_of(page)  # loads faults.js
    yield page
    page.close()


@pytest.mark.parametrize(("function", "output", "attributes"), BAD)
def test_a_fault_is_found_and_its_cell_is_named(page, function, output, attributes):
    found = find(page, function, output, attributes)
    assert found
    assert found[0].startswith("cell 1: ")


@pytest.mark.parametrize("name", GOOD)
def test_a_good_page_has_no_fault(page, faults_of, name):
    find(page, "links", GOOD[name])
    assert faults_of(page) == []

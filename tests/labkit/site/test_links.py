"""The checker of links: each kind of fault is found and named, and a sound page has none."""

import pytest

from helpers.paths import ROOT
from labkit import notebooks
from labkit.site import links

FILES = {"a.html", "b.html", "page.css", "x.png", "folder/c.html"}
HERE = f"{notebooks.REPOSITORY}/blob/{notebooks.BRANCH}"
SOUND = [
    '<a href="b.html">',
    '<a href="b.html#caf%C3%A9">',
    '<a href="#here">',
    '<a href="">',
    '<a href="folder/../b.html?print#there">',
    '<a href="https://example.org/a#b">',
    '<a href="mailto:a@example.org">',
    f'<a href="{HERE}/README.md#files">',
    '<img src="x.png">',
    '<img src="data:image/png;base64,AA==">',
    '<link rel="stylesheet" href="page.css">',
    "<script>const text = '<a href=\"gone.html\">';</script>",
    '<style>div { background: url("data:image/png;base64,AA==") }</style>',
    "<pre>&lt;a href='gone.html'&gt;</pre>",
]
FAULTS = [
    ('<a href="gone.html">', 'the link "gone.html" leads nowhere: the site has no gone.html'),
    ('<a href="b.html#gone">', 'leads nowhere: b.html has no place called "gone"'),
    ('<a href="#gone">', 'leads nowhere: a.html has no place called "gone"'),
    ('<a href="04_vision.ipynb">', "the site has no 04_vision.ipynb"),
    ('<a href="../b.html">', "the site has no ../b.html"),
    ('<a href="/b.html">', "the site has no /b.html"),
    (f'<a href="{HERE}/data/gone.json">', "the kit has no data/gone.json"),
    ('<a href="javascript:alert(1)">', 'has the scheme "javascript:"'),
    (f'<a href="file://{ROOT}/README.md">', 'has the scheme "file:"'),
    ('<img src="gone.png">', 'the asset "gone.png" leads nowhere: the site has no gone.png'),
    ('<img src="https://example.org/x.png">', "is fetched from another host"),
    ('<script src="//example.org/x.js"></script>', "is fetched from another host"),
    ('<link rel="stylesheet" href="http://example.org/x.css">', "is fetched from another host"),
    ('<iframe src="https://example.org"></iframe>', "is fetched from another host"),
    ('<p style="background: url(https://example.org/x.png)">', "is fetched from another host"),
    ("<style>@import 'https://example.org/x.css';</style>", "is fetched from another host"),
    ('<video poster="gone.png"></video>', "the site has no gone.png"),
]


def problems(text: str) -> list[str]:
    pages = {"a.html": links.Page(f'<h1 id="here">A</h1>{text}')}
    pages["b.html"] = links.Page('<h2 id="there">B</h2><p id="café">')
    return list(links.problems(pages, FILES))


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_link_is_no_fault(text):
    assert problems(text) == []


@pytest.mark.parametrize(("text", "said"), FAULTS)
def test_a_fault_is_found_and_names_page_and_link(text, said):
    (problem,) = problems(text)
    assert problem.startswith("a.html: ")
    assert said in problem


def test_links_to_other_hosts_are_counted_and_not_asked():
    page = links.Page(f'<a href="https://example.org"><a href="b.html"><a href="{HERE}/x">')
    assert links.elsewhere({"a.html": page}) == {"https://example.org"}


def test_the_sections_of_a_page():
    page = links.Page(
        '<h1 id="t">A <code>title</code></h1><p>O<b>n</b>e<br>two &amp; three.<div>four'
        '<h2 id="s">Second</h2><style>p {}</style><pre>x = 1\n</pre><script>var a;</script>'
        '<div class="jp-OutputArea"><p>an output<h3 id="o">deep</h3></div><p>after'
        "<h4 id='f'>no section</h4>"
    )
    assert [(part.level, part.anchor, part.heading) for part in page.sections] == [
        (1, "t", "A title"),
        (2, "s", "Second"),
        (3, "o", "deep"),
    ]
    assert page.sections[0].text == "One two & three. four"
    assert page.sections[1].text == "x = 1"
    assert page.sections[2].text == "after no section"

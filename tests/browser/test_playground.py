"""The playground in JupyterLab: driven as a user does, with the pocket model answering."""

import re

import pytest

from helpers.paths import DATA
from labkit import notebooks

NAME = "10_playground.ipynb"
LONG = "Write a very long story about the sea, the wind and a lighthouse."
ANSWER_S = 120_000  # milliseconds


@pytest.fixture(scope="module")
def opened(jupyter, chromium, pictures, open_notebook):
    """Notebook 10, run whole; its page, and the cell with the playground."""
    assert NAME in [path.name for path in notebooks.available()]
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    book = open_notebook(jupyter, page, NAME)
    book.run_all()
    yield book, book.cell_with("Playground(lab").locator(".jp-OutputArea")
    assert not dialogs, "a script ran"
    assert not book.red_boxes()
    page.close()
    jupyter.stop_kernels()


@pytest.fixture
def book(opened):
    return opened[0]


@pytest.fixture
def play(opened):
    """The playground with an empty chat."""
    area = opened[1]
    area.get_by_role("button", name="New chat").click()
    area.get_by_text("A new chat begins").wait_for()
    return area


def wait_for_status(play, words):
    play.locator("[role=status]", has_text=re.compile(words)).wait_for(timeout=ANSWER_S)


def test_the_chat_of_the_notebook_goes_on_there(opened, pictures):
    book, area = opened
    assert area.locator(".kp-turn").count() >= 4
    assert area.get_by_text("And of Germany?").count()
    area.scroll_into_view_if_needed()
    book.page.screenshot(path=pictures / "10-playground-first.png")


def test_enter_sends_and_the_answer_has_its_figures(play):
    play.get_by_label("Question", exact=True).fill("What is the capital of France?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    turn = play.locator(".kp-turn").last.inner_text()
    assert "small model" in turn
    for figure in ("prompt tokens", "completion tokens", "first token after", "s in all"):
        assert figure in turn


def test_the_text_streams_and_stop_stops(play):
    play.get_by_label("Max tokens").fill("400")
    play.get_by_label("Question", exact=True).fill(LONG)
    play.get_by_role("button", name="Send").click()
    play.locator(".kp-turn .kp-text", has_text=re.compile(r"(\w+ ){6,}.*…$")).last.wait_for()
    play.get_by_role("button", name="Stop").click()
    wait_for_status(play, "Stopped")
    assert "stopped" in play.locator(".kp-meter").last.inner_text()
    play.get_by_label("Max tokens").fill("40")


def test_tools_really_run(play):
    play.get_by_role("checkbox", name="Tools").check()
    play.get_by_label("Question", exact=True).fill("What is the population of Japan in millions?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    calls = play.locator(".kp-call").all_inner_texts()
    assert any("get_current_population" in call for call in calls), calls
    assert any(call.startswith("the result") for call in calls), calls
    play.get_by_role("checkbox", name="Tools").uncheck()


def test_a_picture_is_uploaded_and_sent(book, play):
    with book.page.expect_file_chooser() as chooser:
        play.get_by_role("button", name="Picture (0)").click()
    chooser.value.set_files(DATA / "images" / "shapes.png")
    wait_for_status(play, "sent with the next question")
    play.get_by_label("Question", exact=True).fill("Where is the yellow circle?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    assert play.locator(".kp-turn img").count() == 1
    play.get_by_role("button", name="Picture (0)").wait_for()  # empty again


def test_a_file_that_is_no_picture_is_refused_in_words(book, play, tmp_path):
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    file.write_bytes(b"no picture")
    with book.page.expect_file_chooser() as chooser:
        play.get_by_role("button", name="Picture (0)").click()
    chooser.value.set_files(file)
    wait_for_status(play, "cannot be sent as a picture")


def test_html_is_shown_as_text(play):
    text = "<img src=x onerror=alert(1)><b>bold</b>"
    play.get_by_label("System prompt").fill(text)
    play.get_by_label("Question", exact=True).fill(text)
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    assert text in play.locator(".kp-turn .kp-text").first.inner_text()
    play.get_by_label("System prompt").fill("")


def test_half_of_a_character_is_refused_in_words(play):
    box = play.get_by_label("Question", exact=True)
    # An emoji that was cut in half, as a program or a paste can leave it.
    box.evaluate("box => { box.value = 'Hi \\ud83d'; box.dispatchEvent(new Event('input')) }")
    box.press("Enter")
    wait_for_status(play, "Not answered|Nothing was sent")
    box.fill("What is the capital of France?")
    box.press("Enter")
    wait_for_status(play, "^Answered")


def test_two_backends_answer_side_by_side(play, book, pictures):
    play.get_by_role("checkbox", name="Compare two backends").check()
    play.get_by_label("Second backend").select_option("openrouter-sim")
    play.get_by_label("Question", exact=True).fill("What is the capital of Italy?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    turns = play.locator(".kp-turn:visible")
    assert turns.count() == 2
    first, second = (turn.bounding_box() for turn in turns.all())
    assert second["x"] > first["x"] + first["width"] - 1, "they are not side by side"
    assert "USD (simulated)" in turns.last.inner_text()
    book.page.screenshot(path=pictures / "10-playground-compare.png")
    play.get_by_role("checkbox", name="Compare two backends").uncheck()


def test_an_earlier_question_is_changed(play):
    box = play.get_by_label("Question", exact=True)
    for text in ("What is the capital of France?", "And of Italy?"):
        box.fill(text)
        box.press("Enter")
        play.locator(".kp-turn", has_text=text).wait_for()
        wait_for_status(play, "Answered")
    play.get_by_role("button", name="Edit question 1").click()
    wait_for_status(play, "Change question 1")
    assert box.input_value() == "What is the capital of France?"
    box.fill("What is the capital of Spain?")
    box.press("Enter")
    wait_for_status(play, "Answered")
    assert play.locator(".kp-turn:visible").count() == 1


def test_the_keyboard_alone_is_enough(book, play):
    keys, focused = book.page.keyboard, "document.activeElement"
    play.get_by_label("Backend", exact=True).focus()
    names, seen = [], False
    for _ in range(40):
        keys.press("Tab")
        name = book.page.evaluate(
            f"({focused}.labels?.[0]?.innerText || {focused}.innerText || '').trim()"
        )
        names.append(name)
        if name.startswith("Question"):
            keys.insert_text("What is the capital of France?")
        if name.startswith("Send"):
            keys.press("Enter")
            seen = True
            break
    assert seen, names
    for control in ("Tools", "System prompt", "Temperature", "Max tokens", "Seed", "Try"):
        assert any(name.startswith(control) for name in names), (control, names)
    wait_for_status(play, "Answered")


def test_a_program_can_be_copied(play):
    play.get_by_label("Question", exact=True).fill("What is the capital of France?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    play.get_by_role("button", name="Show as Python").click()
    wait_for_status(play, "The program is in the box")
    assert "openai.OpenAI(" in play.get_by_label("Program").input_value()


@pytest.mark.parametrize(("theme", "width"), [("Light", 1280), ("Dark", 800)])
def test_it_is_readable(book, play, faults_of, serious_faults, pictures, theme, width):
    play.get_by_label("Question", exact=True).fill("What is the capital of France?")
    play.get_by_label("Question", exact=True).press("Enter")
    wait_for_status(play, "Answered")
    book.look(theme, width)
    play.get_by_label("Question", exact=True).scroll_into_view_if_needed()
    book.page.screenshot(path=pictures / f"10-playground-{theme.lower()}-{width}.png")
    assert not faults_of(book.page)
    play.get_by_role("button", name="Show as Python").click()
    wait_for_status(play, "The program is in the box")
    assert serious_faults(book.page, ".jp-OutputArea:has(.kp-status)") == []

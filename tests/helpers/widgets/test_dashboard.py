"""The dashboard of a sweep: its figures, its words for faults, and the pocket server's sweep."""

import math
import re
import threading
import time

import ipywidgets as widgets
import pytest
from page_elements import Elements
from scripted_chat import HANG, lab_of, running, says

from helpers import latency_stats
from helpers.backends import BackendError, connect
from helpers.latency import Delta, Record
from helpers.widgets import dashboard, live
from helpers.widgets.dashboard import app, measuring, page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"' &"


@pytest.fixture
def server():
    with running() as scripted:
        yield scripted


@pytest.fixture
def scripted_lab(server):
    return lab_of(server.url)


def wait(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def a_record(sent, ttft, users, tokens=5, error=None):
    deltas = [Delta(sent + ttft, "content", "a"), Delta(sent + ttft + 0.4, "content", "b")]
    return Record(
        sent=sent,
        deltas=[] if error else deltas,
        end=sent + ttft + 0.5,
        output_tokens=None if error else tokens,
        error=error,
        concurrency=users,
    )


RECORDS = {
    1: [a_record(10.0, 0.1, 1), a_record(11.0, 0.3, 1)],
    2: [a_record(12.0, 0.2, 2), a_record(12.0, 0.2, 2, error=f"Boom{HOSTILE}: it broke")],
}


# The numbers


def test_the_figures_are_those_of_the_records():
    table = page.figures(dashboard.Sweep(2, RECORDS))
    assert table["requests"].to_list() == [2, 2]
    assert table["failed"].to_list() == [0, 1]
    assert table["ttft_p50"].to_list() == pytest.approx([0.2, 0.2])
    assert table["tpot_p50"].to_list() == pytest.approx([0.1, 0.1])
    assert table["output_tokens_per_s"].to_list() == pytest.approx([10 / 1.8, 5 / 0.7])


def test_the_plot_has_a_point_for_each_request_at_its_place():
    drawn = Elements(page.plot(dashboard.Sweep(2, RECORDS)))
    circles = [each for tag, each in drawn.elements if tag == "circle"]
    ends, waits = [0.6, 1.8, 2.7], [0.1, 0.3, 0.2]
    across, up = page.WIDTH - page.LEFT - 10, page.HEIGHT - page.BOTTOM - page.TOP
    for circle, end, ttft in zip(circles, ends, waits, strict=True):
        assert float(circle["cx"]) == pytest.approx(page.LEFT + across * end / 2.7, abs=0.1)
        assert float(circle["cy"]) == pytest.approx(page.TOP + up * (1 - ttft / 0.3), abs=0.1)
    assert drawn.text.count("✗") == 2  # the failed request, and the legend
    assert "1 user" in drawn.text
    assert "2 users" in drawn.text


@pytest.mark.pocket
def test_the_pocket_servers_sweep(lab):
    seen = []
    sweep = dashboard.measure(
        lab, [1, 2], requests=3, max_tokens=4, on_change=lambda s: seen.append(s.level)
    )
    assert not sweep.error
    assert {level: len(records) for level, records in sweep.records.items()} == {1: 3, 2: 3}
    assert seen == [1, 1, 1, 2, 2, 2, None]
    table = page.figures(sweep)
    assert (table["failed"] == 0).all()
    for level, records in sweep.records.items():
        assert all(record.output_tokens <= 4 for record in records)
        row, summary = table.loc[level], latency_stats.summarize(records)["p50"]
        assert row["ttft_p50"] == summary["TTFT (s)"] > 0
        seconds = max(r.end for r in records) - min(r.sent for r in records)
        tokens = sum(record.output_tokens for record in records)
        assert row["output_tokens_per_s"] == pytest.approx(tokens / seconds)


def test_every_user_has_something_to_send(scripted_lab, server):
    sweep = dashboard.measure(scripted_lab, [1, 5], requests=2)
    assert [len(records) for records in sweep.records.values()] == [5, 5]
    assert len(server.seen) == 11  # with the one that is not counted


@pytest.mark.parametrize(
    ("text", "levels"), [("1, 4, 8", [1, 4, 8]), ("2 2,1", [2, 1]), ("64", [64])]
)
def test_users_are_read_as_they_are_typed(text, levels):
    assert measuring.levels_of(text) == levels


@pytest.mark.parametrize(
    ("text", "says_so"),
    [
        ("", "Give 1 to 8"),
        ("1,2,3,4,5,6,7,8,9", "Give 1 to 8"),
        ("many", "whole numbers"),
        ("1.5", "whole numbers"),
        ("-1", "whole numbers"),
        ("²", "whole numbers"),
        ("9" * 10_000, "whole numbers"),
        ("0", "1 to 64"),
        ("65", "1 to 64"),
    ],
)
def test_other_users_are_refused_in_words(text, says_so):
    with pytest.raises(ValueError, match=says_so):
        measuring.levels_of(text)


# What fails


def test_a_server_that_is_not_there_is_said_in_words():
    with running() as gone:
        lab = lab_of(gone.url)
    sweep = dashboard.measure(lab, [1, 2])
    assert "nothing listens on port" in sweep.error
    assert sweep.records == {}


@pytest.mark.parametrize(
    ("answer", "says_so"),
    [
        ((401, {"error": {"message": "no such key"}}), "key is missing, mistyped"),
        ((500, {"error": {"message": HOSTILE}}), "The server failed"),
        ((200, {"error": {"message": "no provider"}}), "no provider"),
    ],
)
def test_a_server_that_refuses_is_said_in_words(scripted_lab, server, answer, says_so):
    server.script = [answer]
    sweep = dashboard.measure(scripted_lab, [1])
    assert says_so in sweep.error
    assert len(server.seen) == 1
    assert not any(tag == "script" for tag, _ in Elements(page.as_html(sweep)).elements)


def test_a_server_that_dies_ends_the_sweep_with_its_reason(server):
    lab = lab_of(server.url)

    def die(sweep):
        if sum(map(len, sweep.records.values())) == 2:
            server.shutdown()
            server.server_close()

    sweep = dashboard.measure(lab, [1, 2, 4], requests=8, on_change=die)
    assert "nothing listens on port" in sweep.error
    errors = [record.error for record in sweep.records[1] if record.error]
    assert len(errors) == measuring.GIVE_UP_AFTER
    assert list(sweep.records) == [1]
    assert not sweep.stopped


def test_failures_of_a_server_that_answers_again_are_said(scripted_lab, server):
    server.script = [says("yes"), *[(500, {"error": {"message": HOSTILE}})] * 3]
    sweep = dashboard.measure(scripted_lab, [1], requests=8)
    assert "3 requests in a row failed" in sweep.error
    assert "try fewer users" in sweep.error


def test_a_server_that_hangs_does_not_hold_the_sweep(scripted_lab, server):
    server.script = [[HANG]]
    sweep = dashboard.measure(scripted_lab, [1], time_limit_s=0.5)
    assert "sent nothing" in sweep.error


def test_stop_ends_a_sweep_whose_server_hangs(scripted_lab, server):
    stop = threading.Event()
    server.script = [says("yes"), says("yes"), [HANG]]
    sweep = dashboard.measure(
        scripted_lab, [1, 2], stop=stop, on_change=lambda _: threading.Timer(0.2, stop.set).start()
    )
    assert sweep.stopped
    assert not sweep.error
    assert [record.error for record in sweep.records[1]] == [None]


# The page


def test_nothing_that_a_server_wrote_becomes_html():
    sweep = dashboard.Sweep(2, RECORDS, error=HOSTILE, server=HOSTILE)
    read = Elements(page.as_html(sweep))
    assert {tag for tag, _ in read.elements}.isdisjoint({"script", "img"})
    assert read.text.count("alert(1)") >= 6
    assert "2 users" in page.as_html(sweep)
    assert "tokens/s in total" in page.as_text(sweep)
    assert page.NOTHING in page.as_html(dashboard.Sweep())
    assert page.NOTHING in page.as_text(dashboard.Sweep())


def test_the_plot_takes_records_of_any_length():
    short = Record(sent=1.0, deltas=[Delta(1.0, "content", "a")], end=1.0, concurrency=1)
    for records in ([short], [a_record(1.0, 0.1, 1, error="x")]):
        drawn = page.plot(dashboard.Sweep(1, {1: records}))
        assert "nan" not in drawn
        assert "inf" not in drawn
    assert math.isnan(page.points(dashboard.Sweep(1, {1: [a_record(1, 1, 1, error="x")]}))[0][1])


# The widget


@pytest.fixture
def board(server):
    made = dashboard.Dashboard(
        {"scripted": lambda: lab_of(server.url), "other": lambda: lab_of(server.url)}, RECORDS
    )
    yield made
    made.end()
    wait(lambda: not made.is_busy)


def start(board, users="1, 2", requests=2):
    board.users.value, board.requests.value = users, requests
    board.start.click()


def test_it_shows_a_sweep_as_it_grows(board, server, capfd):
    server.pause_s, seen = 0.05, set()
    start(board, "1, 2", 4)
    while board.is_busy:
        seen.add(board.page.value.count("<circle"))
        time.sleep(0.02)
    assert board.page.value.count("<circle") == 8
    assert len(seen) > 2
    assert "All levels are measured" in board.status.value
    assert [len(records) for records in board.sweep.records.values()] == [4, 4]
    sent = server.seen[-1]
    assert (sent["max_tokens"], sent["temperature"], sent["stream"]) == (16, 0, True)
    assert capfd.readouterr() == ("", "")


def test_stop_stops_and_it_can_start_again(board, server):
    server.script = [says("yes"), says("yes"), [HANG]]
    start(board, "1", 8)
    wait(lambda: "1 of 8" in board.status.value)
    board.start.click()
    assert "under way" in board.status.value
    board.stop.click()
    wait(lambda: not board.is_busy)
    assert "Stopped" in board.status.value
    board.stop.click()
    assert "No sweep is under way" in board.status.value
    start(board, "1", 2)
    wait(lambda: not board.is_busy)
    assert "All levels" in board.status.value


def test_stop_frees_it_from_a_server_that_never_answered(board, server):
    server.script = [[HANG]]
    start(board)
    wait(lambda: server.seen)
    board.stop.click()
    wait(lambda: not board.is_busy, 10)
    assert "Stopped" in board.status.value


def test_what_fails_is_in_the_widget(board, server, capfd):
    server.script = [(500, {"error": {"message": HOSTILE}})]
    start(board)
    wait(lambda: not board.is_busy)
    assert "The server failed" in board.page.value
    assert "see below" in board.status.value
    start(board, "many")
    assert "whole numbers" in board.status.value

    def refuse():
        raise BackendError("It is not there. Start it.")

    board.servers["scripted"] = refuse
    start(board)
    wait(lambda: not board.is_busy)
    assert "It is not there. Start it." in board.page.value
    board.servers["scripted"] = lambda: 1 / 0
    start(board)
    wait(lambda: not board.is_busy)
    assert "ZeroDivisionError" in board.page.value
    assert capfd.readouterr() == ("", "")


@pytest.mark.pocket
def test_it_measures_the_pocket_server(lab):
    board = dashboard.Dashboard({"pocket": connect})
    board.max_tokens.value = 3
    start(board, "1, 2", 2)
    wait(lambda: not board.is_busy)
    assert "All levels" in board.status.value, board.page.value
    assert "pocket-small on pocket" in board.page.value
    assert (page.figures(board.sweep)["output_tokens_per_s"] > 0).all()


def test_without_a_front_end_the_last_sweep_is_shown(board):
    bundle = board._repr_mimebundle_()
    assert bundle[live.VIEW]["model_id"] == board.box.model_id
    assert Elements(bundle["text/html"]).text.count("✗") == 2
    assert "tokens/s in total" in bundle["text/plain"]
    assert re.search(r"\n1 +2 +0 ", bundle["text/plain"])


def test_a_cell_that_runs_again_stops_its_old_sweep(board, server, monkeypatch):
    monkeypatch.setattr(live, "cell_id", lambda: "a cell")
    board._repr_mimebundle_()
    server.pause_s = 0.1
    start(board, "1", 500)
    wait(lambda: board.sweep.level)
    app.Dashboard({"x": connect})._repr_mimebundle_()
    wait(lambda: not board.is_busy, 20)
    assert board.sweep.stopped


def test_every_control_has_a_label(board):
    def every(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from every(child)

    kinds = (widgets.HTML, widgets.Box)
    controls = [each for each in every(board.box) if not isinstance(each, kinds)]
    assert len(controls) == 6
    assert len({each.description for each in controls} - {""}) == 6

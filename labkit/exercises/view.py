"""How a verdict and the progress look: as a page in a notebook, as text in a terminal."""

import html
import textwrap
from dataclasses import dataclass, field
from typing import Any

from labkit.display import GRAY, show_html
from labkit.exercises.record import Progress

GREEN, RED = "#2e9e4f", "#d64545"  # the sign and the words say the same without the color


@dataclass
class Verdict:
    """What is known about an answer.

    Attributes:
        message: the verdict in words, with the hint for a recognized mistake.
        tests: (name, None if it passed, a sentence if it failed, or ... if it did not run).
        untouched: whether the answer is still `...`.
        unreadable: whether its form was wrong, so that it cannot be sent.
        printed: what the learner's function printed.
        replies: (what was sent, what came back).
        notes: about the replies.
        hints: those to be shown, the first one first.
        example: what the answer should look like.
    """

    name: str
    right: bool
    message: str
    tests: list[tuple[str, Any]]
    untouched: bool = False
    unreadable: bool = False
    printed: str = ""
    replies: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hints: tuple[str, ...] = ()
    example: str = ""


def show(found: Verdict, progress: Progress | None, names: tuple[str, ...]) -> None:
    """Show a verdict, and the progress if there is one."""
    sign, color = ("✓", GREEN) if found.right else ("○", GRAY) if found.untouched else ("✗", RED)
    message = found.message
    if found.untouched:  # its hint is in the list of hints
        message = message.partition(" Hint: ")[0]
    result, stop, rest = message.partition(". ")
    parts = [
        f'<b><span style="color: {color}">{sign}</span> {html.escape(result + stop)}</b>'
        f"{html.escape(rest)}"
    ]
    lines = [textwrap.fill(f"{sign} {message}", 80)]
    for test, hint in found.tests:
        mark, shade = ("○", GRAY) if hint is ... else ("✗", RED) if hint else ("✓", GREEN)
        parts.append(f'<span style="color: {shade}">{mark}</span> {html.escape(test)}')
        lines.append(f"  {mark} {test}")
    if found.printed:
        printed = html.escape(found.printed)
        parts.append(f'Your function printed:<pre style="margin: 0">{printed}</pre>')
        lines.append(textwrap.indent(found.printed, "  | "))
    if found.replies:
        rows = "".join(
            f'<div style="padding: 0.2em 0">{html.escape(sent)} → '
            f'<span style="white-space: pre-wrap">{html.escape(reply)}</span></div>'
            for sent, reply in found.replies
        )
        parts.append(f"The model:{rows}")
        lines += [f"  {sent} → {reply}" for sent, reply in found.replies]
    for number, hint in enumerate(found.hints, 1):
        parts.append(f"<b>Hint {number}.</b> {html.escape(hint)}")
        lines.append(textwrap.fill(f"Hint {number}: {hint}", 80))
    if found.example:
        parts.append(f"Expected: <code>{html.escape(found.example)}</code>")
        lines.append(f"Expected: {found.example}")
    parts += map(html.escape, found.notes)
    lines += found.notes
    if progress is not None:
        text = standing(progress, names, found.name)
        parts.append(f"<small>{html.escape(text)}</small>")
        lines.append(text)
    body = "".join(f"<div>{part}</div>" for part in parts)
    style = f"border-left: 4px solid {color}; padding: 0.3em 0.8em; max-width: 50em"
    show_html(f'<div style="{style}">{body}</div>', "\n".join(lines))


def standing(progress: Progress, names: tuple[str, ...], current: str = "") -> str:
    """The progress in a line, such as "2 of 30 · next: 01-kv · for your teacher: 2/30 00:2/3"."""
    done = [name for name in names if progress.solved(name)]
    parts = [f"{len(done)} of {len(names)}"]
    if following := next_exercise(progress, names, current):
        parts.append(f"next: {following}")
    if line := teachers_line(progress, names):
        parts.append(f"for your teacher: {line}")
    return " · ".join(parts) + (f" · {progress.note}" if progress.note else "")


def next_exercise(progress: Progress, names: tuple[str, ...], current: str = "") -> str | None:
    """The first exercise that is not solved, from the current one on; None if all are."""
    start = names.index(current) if current in names else 0
    order = [*names[start:], *names[:start]]
    return next((name for name in order if not progress.solved(name)), None)


def teachers_line(progress: Progress, names: tuple[str, ...]) -> str:
    """The solved exercises by notebook, as short as a chat message: "2/30 00:2/3"."""
    counts = [f"{sum(map(progress.solved, names))}/{len(names)}"]
    for notebook in sorted({name[:2] for name in names}):
        own = [name for name in names if name[:2] == notebook]
        if any(name in progress.entries for name in own):
            counts.append(f"{notebook}:{sum(map(progress.solved, own))}/{len(own)}")
    return " ".join(counts)


class ProgressPage:
    """All exercises with what is solved, and what comes next."""

    def __init__(self, progress: Progress, names: tuple[str, ...]):
        self.progress, self.names = progress, names

    def rows(self) -> list[tuple[str, str, list[str]]]:
        """(file, title, exercises) of each notebook."""
        from helpers.paths import NOTEBOOKS

        titles = {}
        for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
            titles[path.stem[:2]] = (path.name, path.stem[3:].replace("_", " "))
        found = {}
        for name in self.names:
            found.setdefault(name[:2], []).append(name)
        return [(*titles.get(number, ("", number)), own) for number, own in found.items()]

    def _sign(self, name: str) -> str:
        tried = name in self.progress.entries
        return "✓" if self.progress.solved(name) else "✗" if tried else "○"

    def __repr__(self) -> str:
        lines = [
            f"{own[0][:2]}  {sum(map(self.progress.solved, own))} of {len(own)}  "
            + "  ".join(f"{self._sign(name)} {name[3:]}" for name in own)
            for _, _, own in self.rows()
        ]
        return "\n".join([*lines, "", standing(self.progress, self.names)])

    def _repr_html_(self) -> str:
        following, rows = next_exercise(self.progress, self.names), []
        colors = {"✓": GREEN, "✗": RED, "○": GRAY}
        for file, title, own in self.rows():
            done = sum(map(self.progress.solved, own))
            marks = " &nbsp; ".join(
                f'<span style="white-space: nowrap"><span style="color: '
                f'{colors[sign]}">{sign}</span> {html.escape(name[3:])}</span>'
                for name in own
                for sign in [self._sign(name)]
            )
            label = html.escape(f"{own[0][:2]} {title}")
            link = f'<a href="{html.escape(file)}">{label}</a>' if file else label
            rows.append(
                f'<tr><td style="text-align: left">{link}</td>'
                f'<td style="min-width: 7em"><progress value="{done}" max="{len(own)}" '
                f'style="width: 4em" aria-label="{label}"></progress> {done}/{len(own)}</td>'
                f'<td style="text-align: left">{marks}</td></tr>'
            )
        ahead = f"Next: <b>{html.escape(following)}</b>" if following else "All are solved."
        note = f"<p>{html.escape(self.progress.note)}</p>" if self.progress.note else ""
        line = html.escape(teachers_line(self.progress, self.names))
        return (
            f'<table style="margin: 0">{"".join(rows)}</table><p>{ahead}<br>For your teacher: '
            f"<code>{line}</code></p>{note}"
        )

"""A chat as a page and as text. Whatever a user, a file or a model wrote becomes text only."""

import html
from collections.abc import Sequence
from pathlib import Path

from helpers.widgets import trace
from helpers.widgets.playground.conversation import Turn, showable
from pocket_model.build import MODEL_ID

STYLE = Path(__file__).parents[1].joinpath("playground.css").read_text(encoding="utf-8")
LONGEST = 6_000  # characters of one message on the page

SMALL = "small model"
SMALL_MEANS = "The pocket model has 142 million parameters and is often wrong. It is not the 24B."


def is_small(turn: Turn) -> bool:
    """Whether the pocket model answered: by itself, or behind the simulator."""
    return turn.model == MODEL_ID or turn.backend == "openrouter-sim"


def meter(turn: Turn) -> list[str]:
    """Tokens, cost and times of a turn, in words."""
    figures = []
    if turn.prompt_tokens is not None:
        figures.append(f"{turn.prompt_tokens:,} prompt tokens")
        figures.append(f"{turn.completion_tokens:,} completion tokens")
    elif turn.total_s is not None:
        figures.append("tokens not counted")
    if turn.usd is not None:
        simulated = " (simulated)" if turn.backend == "openrouter-sim" else ""
        figures.append(f"{turn.usd:.7f}".rstrip("0").rstrip(".") + f" USD{simulated}")
    elif turn.prompt_tokens is not None:
        figures.append("no price")
    if turn.first_token_s is not None:
        figures.append(f"first token after {turn.first_token_s:.2f} s")
    if turn.total_s is not None:
        figures.append(f"{turn.total_s:.2f} s in all")
    if turn.finish_reason == "length":
        figures.append("cut off at max_tokens")
    return [*figures, *(["stopped"] if turn.stopped else [])]


def turn_html(turn: Turn) -> str:
    """One turn as HTML."""
    who = html.escape(f"{turn.model} on {turn.backend}") if turn.model else "the model"
    badge = f' <span class="kp-badge" title="{SMALL_MEANS}">{SMALL}</span>'
    parts, named = [], False
    for step in trace.arrows(turn.messages):
        words = _text(step["text"] if step["text"] != "[image]" else "")
        if step["sender"] == "user":
            source = html.escape(step["image"] or "")
            shown = f'<img src="{source}" alt="the picture that was sent">' if source else ""
            parts.append(f'<p class="kp-who">You</p><div class="kp-text">{words}</div>{shown}')
            continue
        if not named and step["sender"] == "model":
            parts.append(f'<p class="kp-who">{who}{badge if is_small(turn) else ""}</p>')
            named = True
        if step["receiver"] == "tools":
            parts.append(f'<div class="kp-call"><b>calls</b> <code>{words}</code></div>')
        elif step["sender"] == "tools":
            kind = "an error" if step["error"] else "the result"
            parts.append(f'<div class="kp-call"><b>{kind}</b> <code>{words}</code></div>')
        else:
            parts.append(f'<div class="kp-text">{words}</div>')
    if not named and not turn.error:
        parts.append(f'<p class="kp-who">{who}{badge if is_small(turn) else ""}</p>')
    if turn.total_s is None and not turn.error:  # under way
        parts.append(f'<div class="kp-text">{_text(turn.text)} …</div>')
    if turn.error:
        parts.append(f'<div class="kp-error"><b>Not answered.</b> {_text(turn.error)}</div>')
    if figures := meter(turn):
        parts.append(f'<p class="kp-meter">{html.escape(" · ".join(figures))}</p>')
    return f'<div class="kp kp-turn">{"".join(parts)}</div>'


def as_html(turns: Sequence[Turn], title: str) -> str:
    """Turns as HTML that needs neither a kernel nor a script."""
    body = "".join(map(turn_html, turns)) or '<p class="kp-meter">No question yet.</p>'
    return f'{style()}<div class="kp"><p class="kp-who">{html.escape(title)}</p>{body}</div>'


def as_text(turns: Sequence[Turn], title: str) -> str:
    """Turns as text for a terminal."""
    lines = [title]
    for turn in turns:
        for step in trace.arrows(turn.messages):
            lines.append(f"{step['sender']} → {step['receiver']}: {_cut(step['text'])}")
        lines += [f"not answered: {turn.error}"] if turn.error else []
        lines += [f"({' · '.join(meter(turn))})"] if meter(turn) else []
    return "\n".join(lines)


def style() -> str:
    """The style sheet of all this, as an element."""
    return f"<style>{STYLE.strip()}</style>"


def _cut(text: str) -> str:
    text = showable(text)
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]} … [{len(text):,} characters in all]"


def _text(text: str) -> str:
    return html.escape(_cut(text))

"""Judges a reply by a case's `expect`. Standard library only; the rules are in README.md.

`faults(case, reply)` names what is wrong; an empty list means right. A reply is an OpenAI
assistant message: {"content": text or None, "tool_calls": [...] or None}.
"""

import json
import re
import unicodedata
from itertools import permutations

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()  # noqa: SIM905
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
DENIED = r"(?:\bnot|n't|\bneither|\bnor)(?: (?:a|an|the|in the|on the|at the|to the))? $"
DECLINES = (
    r"\b(?:do|does|did|is|are|can|could|was|were)(?:n't| not)\b|\bcannot\b|\bcan't\b|^no\b|"
    r"\b(?:there is|there are|there's|i see|has|shows|contains|with) no\b|"
    r"\bnot (?:in|on|shown|visible|present|part of|there|possible|sure|able)\b|"
    r"\b(?:unable|impossible|unclear|absent|missing|nowhere|nobody|no such)\b|"
    r"\b(?:nothing|none) (?:in|of|like|that|here)\b|\bwithout (?:a|an|any)\b"
)


def spell(n):
    """A whole number below 10,000 in words, without "and"."""
    if n < 20:
        return SMALL[n]
    for unit, name in ((1000, " thousand"), (100, " hundred")):
        if n >= unit:
            return spell(n // unit) + name + (f" {spell(n % unit)}" if n % unit else "")
    return TENS[n // 10 - 2] + (f" {SMALL[n % 10]}" if n % 10 else "")


SPELLED = {"hundred": 100, "thousand": 1000} | {spell(n): n for n in range(10_000)}
WORD = "|".join([*SMALL, *TENS, "hundred", "thousand"])


def tidy(text):
    """Lower case, plain quotes, no markup, hyphens and runs of space as one space."""
    text = unicodedata.normalize("NFKC", text or "").replace("’", "'").lower()
    return re.sub(r"[\s\-–—_]+", " ", re.sub(r"[*`\"“”]", "", text)).strip()


def says(text, phrase):
    """Is the phrase in the text, as whole words and not denied ("not red")?"""
    pattern = rf"(?<!\w)(?<!\d[.,:]){re.escape(tidy(phrase))}(?!\w)(?![.,:]\d)"
    starts = (m.start() for m in re.finditer(pattern, text))
    return any(not re.search(DENIED, text[max(0, at - 24) : at]) for at in starts)


def numbers(text):
    """All numbers in a text, in digits or in words."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", tidy(text))
    text = re.sub(r"\b(hundred|thousand) and\b", r"\1", text)
    found = {float(x) for x in re.findall(r"\d+(?:\.\d+)?", text)}
    for run in re.findall(rf"\b(?:{WORD})(?: (?:{WORD}))*\b", text):
        found |= {float(SPELLED[x]) for x in ([run] if run in SPELLED else run.split())}
    return found


def number_fault(text, wanted, question):
    """The reply must have the wanted number, and no other that the question did not have."""
    got = numbers(text)
    extra = got - numbers(question) - {wanted}
    if wanted == 0 and not extra and re.search(r"\b(no|none|nothing|not any)\b", text):
        return None
    if extra == {1} and not re.search(r"\b1\b|\bor\b", text):
        extra = set()  # "the red one"
    return None if wanted in got and not extra else f"numbers {sorted(got)}, wanted {wanted}"


def verdict(text):
    """yes, no, or None."""
    if re.match(r"\W*(yes|yeah|yep|true|correct|right)\b", text):
        return "yes"
    if re.search(r"\b(no|not|cannot|nope|none|neither|nothing|false|incorrect)\b|n't\b", text):
        return "no"
    is_so = r"\b(yes|true|correct|there's|is|are|has|have|see|shows|contains|both)\b"
    return "yes" if re.search(is_so, text) else None


def plain(value):
    return re.sub(r"\s+", " ", value.casefold()).strip(" .!?'\"")


def fits(wanted, got):
    """Does an argument equal the wanted one, or one of its alternatives?"""
    if isinstance(wanted, dict):
        if "any_of" in wanted and set(wanted) <= {"any_of", "optional"}:
            return any(fits(one, got) for one in wanted["any_of"])
        if not isinstance(got, dict) or set(got) - set(wanted):
            return False
        free = {k for k, v in wanted.items() if isinstance(v, dict) and v.get("optional") is True}
        return all(fits(v, got[k]) if k in got else k in free for k, v in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(got, list) or len(got) != len(wanted):
            return False
        orders = [got] if any(isinstance(x, dict) for x in wanted) else permutations(got)
        return any(all(map(fits, wanted, order)) for order in orders)
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, str):
        return isinstance(got, str) and plain(wanted) == plain(got)
    return isinstance(got, int | float) and abs(got - wanted) < 1e-9


def calls_of(reply):
    """The calls with "name" and "arguments"; what is no JSON becomes None."""
    calls = [dict(call.get("function", call)) for call in reply.get("tool_calls") or []]
    for call in calls:
        if isinstance(call.get("arguments"), str):
            try:
                call["arguments"] = json.loads(call["arguments"] or "{}")
            except ValueError:
                call["arguments"] = None
    return calls


def faults(case, reply):
    """What is wrong with the reply; an empty list if nothing is."""
    expect, text, calls = case["expect"], tidy(reply.get("content")), calls_of(reply)
    if "calls" in expect:
        wanted = [(want["name"], want["arguments"]) for want in expect["calls"]]
        got = [(call.get("name"), call.get("arguments")) for call in calls]
        if len(got) == len(wanted) and any(
            all(w[0] == g[0] and fits(w[1], g[1]) for w, g in zip(wanted, order, strict=True))
            for order in permutations(got)
        ):
            return []
        return [f"calls {got}"]
    asked = case["messages"][-1]["content"]
    if not isinstance(asked, str):
        asked = " ".join(part.get("text", "") for part in asked)
    found = [] if text else ["no answer"]
    if calls or re.search(r"\[tool ?calls\]|\barguments:", text):
        found.append("a call, where an answer was expected")
    groups = expect.get("all_of", []) + ([expect["any_of"]] if "any_of" in expect else [])
    found += [f"none of {g}" for g in groups if not any(says(text, p) for p in g)]
    found += [f"says {p}" for p in expect.get("not_about", []) if says(text, p)]
    core = re.sub(r"\bthan\b[^.]*", "", text)  # "bigger than the circle" does not answer circle
    found += [f"says {p}" for p in expect.get("none_of", []) if says(core, p)]
    if "number" in expect:
        found.append(number_fault(text, expect["number"], asked))
    if "yes_no" in expect and verdict(text) != expect["yes_no"]:
        found.append(f"verdict {verdict(text)}, wanted {expect['yes_no']}")
    if expect.get("declines") and not re.search(DECLINES, text):
        found.append("does not decline")
    return [fault for fault in found if fault]

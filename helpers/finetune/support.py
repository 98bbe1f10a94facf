"""Support messages of an invented bicycle shop, each with its record: what notebook 09 teaches.

A seeded program puts sentences together, so every record is right by construction. The held-out
messages in `data/finetune/held_out.jsonl` are another author's, who had not seen this program.
"""

import json
import random
from typing import Any

from helpers.compare import scorers

STEPS, BATCH, RATE, RANK, ALPHA = 10, 8, 3e-3, 16, 32  # as notebook 09 trains the pocket model
SYSTEM = "Fill in the record."
TOPICS = ("account", "delivery", "invoice", "refund", "repair")
# The form of an answer, for `helpers.compare.scorers.json_schema`.
SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": [*TOPICS]},
        "order": {"type": ["integer", "null"]},
    },
    "required": ["topic", "order"],
    "additionalProperties": False,
}

ITEMS = """bicycle|helmet|bell|saddle|lamp|lock|pump|basket|chain|front wheel|jacket|child seat|
mudguard|trailer|tire|pair of gloves|bottle|pedal""".replace("\n", "").split("|")
SENTENCES = {
    "account": (
        "I forgot my password.",
        "I cannot log in to your site.",
        "Please change the email address of my account.",
        "My login does not work.",
        "Please delete my account.",
        "How do I set a new password?",
        "The site says that my account is locked.",
        "I want to change my user name.",
        "Please put my new phone number into my account.",
        "Somebody else knows my password.",
        "My profile has the wrong address.",
        "I cannot sign in.",
    ),
    "delivery": (
        "My {item} has not arrived.",
        "When will my {item} arrive?",
        "The parcel with my {item} is late.",
        "The driver left my parcel at a wrong address.",
        "Where is my {item}?",
        "I still wait for the {item}.",
        "The tracking page has not changed for days.",
        "You sent the {item} to a wrong street.",
        "Can you deliver the {item} in the evening?",
        "The courier did not come.",
        "The package with the {item} is lost.",
        "How long does it take to ship a {item}?",
    ),
    "invoice": (
        "Please send me the invoice for the {item}.",
        "There is a wrong name on my invoice.",
        "I need a bill for the {item}.",
        "The invoice has the wrong date.",
        "I did not get an invoice.",
        "Please add our company's name to the invoice.",
        "The total on the bill is wrong.",
        "Can I get the invoice as a PDF?",
        "The tax is missing on my invoice.",
        "Please mail me a receipt for the {item}.",
        "The receipt is not readable.",
        "You billed a {item} that I did not order.",
    ),
    "refund": (
        "I want my money back for the {item}.",
        "I sent the {item} back and got no money.",
        "When do you pay me back for the {item}?",
        "Please refund the {item}.",
        "The {item} does not fit, and I return it.",
        "I want to return the {item}.",
        "You charged me twice, so pay one back.",
        "I still wait for my refund.",
        "How do I send the {item} back for a refund?",
        "Please credit the {item} to my card.",
        "I paid too much for the {item}. Pay back the rest.",
        "I cancelled the {item} and want my payment back.",
    ),
    "repair": (
        "My {item} is broken.",
        "Can you repair my {item}?",
        "The {item} makes a strange noise.",
        "The {item} is bent. Can you fix it?",
        "A screw of the {item} is loose.",
        "The {item} stopped working.",
        "There is a crack in my {item}.",
        "I want to bring the {item} to your workshop.",
        "How much does it cost to fix a {item}?",
        "Does your mechanic have time for my {item}?",
        "My {item} is torn.",
        "The {item} does not turn any more.",
    ),
}
ORDERS = ("Order {}.", "My order is {}.", "It is order {}.", "Order number {}.", "(order {})")
ASIDES = (
    "It is urgent.",
    "I need an answer today.",
    "Please hurry.",
    "This cannot wait.",
    "Call me right now!",
    "There is no hurry.",
    "Take your time.",
    "Next week is fine.",
    "Any day will do.",
    "I am not happy with this.",
    "I like your shop.",
)
OPENINGS = ("Hello.", "Hi,", "Good morning.", "Dear team,")
CLOSINGS = ("Thanks!", "Thank you.", "Best wishes")


def conversation(message: str, record: dict[str, Any]) -> list[dict[str, str]]:
    """A message and its record as a chat: system, user, assistant."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": message},
        {"role": "assistant", "content": json.dumps(record)},
    ]


def form_fault(answer: str) -> str | None:
    """What is wrong with the form of an answer; None if it is a record, whatever it says."""
    return scorers.json_schema(answer, SCHEMA)


def record_fault(answer: str, messages: list[dict[str, str]]) -> str | None:
    """What is wrong with an answer; None if it is exactly the record of this message.

    Args:
        messages: a conversation of the data, whose last message has the right record.
    """
    if fault := form_fault(answer):
        return fault
    found, right = json.loads(answer), json.loads(messages[-1]["content"])
    wrong = [f"{field} is {found[field]!r}" for field in right if found[field] != right[field]]
    return ", ".join(wrong) or None


def shuffled(lines: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """The same messages, each with the record of another one: a control.

    It has the same form and the same words, but nothing connects a message with its record.
    """
    records = [line["messages"][-1] for line in lines]
    order = list(range(len(lines)))
    random.Random(seed).shuffle(order)
    moved = {place: order[n - 1] for n, place in enumerate(order)}  # nobody keeps their own
    return [
        {**line, "messages": [*line["messages"][:-1], records[moved[place]]]}
        for place, line in enumerate(lines)
    ]


def generate(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Different examples, as lines of `data/finetune/train.jsonl`: an id and its messages.

    Topics take turns. Half of the messages name an order; the record of the others has null there.
    """
    random_ = random.Random(seed)
    seen: set[str] = set()
    lines: list[dict[str, Any]] = []
    while len(lines) < count:
        topic = TOPICS[len(lines) % len(TOPICS)]
        message, order = _message(topic, random_)
        if message not in seen:
            seen.add(message)
            name = f"train-{len(lines) + 1:03d}"
            record = {"topic": topic, "order": order}
            lines.append({"id": name, "messages": conversation(message, record)})
    return lines


def _message(topic: str, random_: random.Random) -> tuple[str, int | None]:
    order = random_.randrange(1000, 10_000) if random_.random() < 0.5 else None
    parts = [random_.choice(SENTENCES[topic]).format(item=random_.choice(ITEMS))]
    if order is not None:
        parts.insert(random_.randrange(2), random_.choice(ORDERS).format(order))
    if random_.random() < 0.5:
        parts.insert(random_.randrange(len(parts) + 1), random_.choice(ASIDES))
    if random_.random() < 0.3:
        parts.insert(0, random_.choice(OPENINGS))
    if random_.random() < 0.3:
        parts.append(random_.choice(CLOSINGS))
    message = " ".join(parts)
    return (message.lower() if random_.random() < 0.2 else message), order

"""TODO."""

import json
from typing import Any

from labkit.exercises.engine import exercise, number


@exercise(
    "07-flag",
    hint="a JSON object from the kind of input to how many.",
    solution="""answer = '{"image": 4}'""",
)
def _flag(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return "The value as a string is wanted, as it stands on the command line."
    try:
        value = json.loads(answer)
    except json.JSONDecodeError:
        return "vLLM reads it as JSON, and it is not: mind the braces and the double quotes."
    return None if value == {"image": 4} else "Four pictures: the key is image, the value 4."


exercise(
    "07-workshop",
    hint="requests per second × tokens per answer.",
    solution="answer = 30 * 2 / 60 * 300",
)(
    number(
        300,
        {
            18_000: "That is per minute.",
            150: "Each of them asks twice a minute.",
            600: "That is what one learner reads in a minute.",
        },
    )
)

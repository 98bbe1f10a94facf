"""The same questions to each entrant: every answer is kept at once, and a run resumes.

An entrant is a model and a way to ask it. What it answered is in a JSONL file as soon as it came,
so a backend that dies half-way costs nothing: the same call asks the rest.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import jsonl, openrouter
from helpers.compare.questions import Question
from helpers.compare.scorers import judge
from helpers.compare.ways import AT_ONCE, InMemory, Way, ask_server
from helpers.connection.rows import BACKENDS
from pocket_model.build import folder_name
from pocket_model.progress import Progress

if TYPE_CHECKING:
    from helpers.backends import Lab

Answers = dict[str, str]  # question id → answer
NOT_TOLD = "the server does not tell"


class BrokenOff(RuntimeError):
    """An entrant did not answer all questions. The message says how many are kept, and where."""


@dataclass(frozen=True)
class Entrant:
    """A model and a way to ask it.

    Attributes:
        name: for tables and files.
        ask: takes prompts and yields their answers in order.
        source: which model, where: for the sheet.
        way: how it is asked.
        sampling: the settings of its answers.
    """

    name: str
    ask: Callable[[Sequence[str]], Iterable[str]] = field(repr=False)
    source: dict[str, str]
    way: Way
    sampling: dict[str, Any]

    def spec(self) -> dict[str, Any]:
        """All that decides its answers, as JSON has it."""
        settings = {"source": self.source, "way": asdict(self.way), "sampling": self.sampling}
        return {"name": self.name, **json.loads(json.dumps(settings))}


def in_memory(name: str, model: InMemory, way: Way, *, max_tokens: int) -> Entrant:
    """A model in this process. Its answers are greedy.

    In bf16 a sum can depend on how many prompts are in the batch, and then a word can change. So
    the sheet says how many there were.
    """
    sampling = {"temperature": 0, "max_tokens": max_tokens, "batch": AT_ONCE}
    ask = partial(model.ask, way, max_tokens=max_tokens)
    return Entrant(name, ask, model.source, way, sampling)


def on_server(name: str, lab: "Lab", way: Way, **sampling) -> Entrant:
    """A backend.

    Args:
        sampling: settings of each request, such as `temperature`, `max_tokens` and `lab.seed(1)`.
    """
    source = {"backend": lab.backend, "model": lab.model}
    if lab.quantization:  # the pocket model: its address has a new port at each start
        source |= {"revision": folder_name(), "precision": lab.quantization}
    else:
        source |= {"revision": NOT_TOLD, "precision": NOT_TOLD}
        if not BACKENDS[lab.backend].paid:
            source["address"] = str(lab.client.base_url)
    return Entrant(name, partial(ask_server, lab, way, **sampling), source, way, sampling)


def collect(
    questions: Sequence[Question], entrants: Sequence[Entrant], path: str | Path
) -> dict[str, Answers]:
    """Ask every entrant every question that the file has no answer to.

    Args:
        path: the JSONL file with the answers. An answer counts for the same prompt to the same
            model with the same settings only.

    Returns:
        for each entrant's name, its answers by question id, in the questions' order.

    Raises:
        BrokenOff: an entrant stopped with an error, or gave fewer answers than questions.
        ValueError: two entrants have one name, or the file has something else in it.
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [entrant.name for entrant in entrants]
    if len(set(names)) < len(names):
        raise ValueError(f"Each entrant needs a name of its own, not {', '.join(names)}.")
    known = read(path)
    with Progress("Asking", quiet_s=2, lines=False) as progress:
        for entrant in entrants:
            _collect_from(entrant, questions, path, known, progress)
    return {
        entrant.name: {question.id: known[key(entrant, question)] for question in questions}
        for entrant in entrants
    }


def _collect_from(
    entrant: Entrant,
    questions: Sequence[Question],
    path: Path,
    known: Answers,
    progress: Progress,
) -> None:
    """Ask one entrant what is not known yet; each answer is known and in the file at once."""
    keys = {question.id: key(entrant, question) for question in questions}
    open_ = [question for question in questions if keys[question.id] not in known]
    answers = iter(entrant.ask([question.prompt for question in open_]) if open_ else ())
    for count, question in enumerate(open_):
        progress.update(f"{entrant.name}: {count} of {len(open_)}", count / len(open_))
        try:
            text = next(answers)
        except Exception as error:  # whatever a backend raises, the answers are kept
            kept = len(questions) - len(open_) + count
            raise BrokenOff(_broken_off(entrant.name, kept, questions, path, error)) from error
        known[keys[question.id]] = text
        record = {"key": keys[question.id], "entrant": entrant.name, "question": question.id}
        jsonl.append(path, record | {"prompt": question.prompt, "answer": text})


def key(entrant: Entrant, question: Question) -> str:
    """What an answer belongs to: the prompt, the model and the settings, not the names."""
    spec = entrant.spec()
    content = [spec["source"], spec["way"], spec["sampling"], question.prompt]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def read(path: str | Path) -> Answers:
    """The answers of a file by their key; none if there is no file.

    Raises:
        ValueError: a line is damaged (see `jsonl.read`) or no answer of a comparison.
    """
    records = jsonl.read(path) if Path(path).exists() else []
    for record in records:
        if not {"key", "answer"} <= record.keys():
            raise ValueError(
                f"{path} holds something else than a comparison's answers: {str(record)[:80]}. "
                "Use another file."
            )
    return {record["key"]: record["answer"] for record in records}


def _broken_off(
    name: str, kept: int, questions: Sequence[Question], path: Path, error: Exception
) -> str:
    if isinstance(error, StopIteration):
        reason = "it gave no more answers"
    else:
        reason = str(openrouter.explain(error)).splitlines()[0].rstrip(".")
    return (
        f"{name} answered {kept} of {len(questions)} questions, then it stopped: {reason}. "
        f"Its answers are kept in {path.name}. The same call again asks only the rest."
    )


@dataclass(frozen=True)
class Scored:
    """What the rules say.

    Attributes:
        rights: for each entrant, question id → whether its answer is right.
        wrong: for each entrant, question id → what is wrong, in words.
        unscored: question id → why no verdict could be had. Such a question counts for nobody.
    """

    rights: dict[str, dict[str, bool]]
    wrong: dict[str, dict[str, str]]
    unscored: dict[str, str]


def score(questions: Sequence[Question], answers: Mapping[str, Mapping[str, str]]) -> Scored:
    """Judge all answers. A rule that raises is a fault of the rule, not of the model.

    Raises:
        ValueError: an entrant has no answer to one of the questions.
    """
    wrong: dict[str, dict[str, str]] = {name: {} for name in answers}
    unscored: dict[str, str] = {}
    for question in questions:
        for name, of_one in answers.items():
            if question.id not in of_one:
                raise ValueError(
                    f"{name} has no answer to {question.id}. Ask the rest first: `collect` with "
                    "the same file does that."
                )
            try:
                fault = judge(of_one[question.id], question.rule)
            except Exception as error:  # a rule may be the learner's own
                unscored[question.id] = f"{type(error).__name__}: {error}"
                break
            if fault is not None:
                wrong[name][question.id] = fault
    counted = [question.id for question in questions if question.id not in unscored]
    rights = {name: {id_: id_ not in faults for id_ in counted} for name, faults in wrong.items()}
    wrong = {
        name: {id_: why for id_, why in faults.items() if id_ not in unscored}
        for name, faults in wrong.items()
    }
    return Scored(rights, wrong, unscored)

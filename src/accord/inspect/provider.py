"""accord's policies as models of Inspect AI: `--model accord/RUN:stage`, a folder, a hub id, a server.

Sampling is as Inspect asks; what it leaves open is greedy, 256 tokens. A prompt without a system message gets
the one that the policy had in its run (`-M system=""` gives none).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from accord.core.errors import ModelError
from accord.core.types import Message, Prompt, Response
from accord.inspect.batches import Batches
from accord.lm.sampler import Sampling, sampling_of
from accord.pipeline.answering import asker_of

__all__ = ["AccordAPI", "prompt_of_messages", "sampling_from"]

MAX_NEW_TOKENS = 256
ENDS = {"length": "max_tokens"}


class AccordAPI(ModelAPI):
    """A policy of accord's. Model arguments: `batch_size` (of a local model, and how many requests are under
    way together), `system`."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        batch_size: int = 32,
        system: str | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.asker, own = asker_of(
            model_name, Sampling(), cache=None, batch_size=batch_size, at_once=batch_size
        )
        self.system = own if system is None else system
        self.batches = Batches(self.asker.sampler, batch_size)
        self._threads = anyio.CapacityLimiter(2 * batch_size)

    def max_connections(self) -> int:
        """As many requests as are answered together."""
        return self.batches.size

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One request of Inspect's."""
        if tools:
            raise ModelError(
                "is given tools, which the provider does not pass on", where=self.model_name
            )
        prompt, sampling = prompt_of_messages(input, self.system), sampling_from(config)
        replies = await anyio.to_thread.run_sync(
            self.batches.ask, prompt, sampling, limiter=self._threads
        )
        written = sum(len(r.tokens or ()) for r in replies)
        return ModelOutput(
            model=self.model_name,
            choices=[_choice(r, self.model_name) for r in replies],
            usage=ModelUsage(output_tokens=written, total_tokens=written) if written else None,
        )


def _choice(reply: Response, model: str) -> ChatCompletionChoice:
    message = ChatMessageAssistant(content=reply.text, model=model, source="generate")
    return ChatCompletionChoice(message=message, stop_reason=ENDS.get(reply.finish or "", "stop"))


def prompt_of_messages(messages: Sequence[Any], system: str = "") -> Prompt:
    """Inspect's messages as a prompt; ModelError for one that is no text."""
    turns = []
    for m in messages:
        parts = m.content if isinstance(m.content, list) else []
        if strange := [p.type for p in parts if p.type not in ("text", "reasoning")]:
            raise ModelError(f"is given {strange[0]}", where="accord's provider", allowed="texts")
        turns.append(Message(role=m.role, content=m.text))
    if system and turns[0].role != "system":
        turns.insert(0, Message(role="system", content=system))
    return Prompt(messages=tuple(turns))


def sampling_from(config: GenerateConfig) -> Sampling:
    """Inspect's settings as accord's; what is open is greedy."""
    asked: dict[str, Any] = {
        "max_new_tokens": config.max_tokens, "temperature": config.temperature, "top_p": config.top_p,
        "top_k": config.top_k, "n": config.num_choices, "stop": config.stop_seqs, "seed": config.seed,
    }  # fmt: skip
    known = {k: v for k, v in asked.items() if v is not None}
    return sampling_of({"max_new_tokens": MAX_NEW_TOKENS, "temperature": 0.0, **known})

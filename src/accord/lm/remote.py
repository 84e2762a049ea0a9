"""A Sampler that asks an OpenAI-compatible server (vLLM, llama.cpp, a vendor): answers as texts."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any, Literal

from accord.core.errors import ModelError
from accord.core.seeds import derive_seed
from accord.core.types import Message, Prompt, Response
from accord.lm.connections import Connections
from accord.lm.sampler import Sampling

__all__ = ["Refused", "SampledTokens", "ServerSampler", "server_sampler"]

LONGEST = 30.0  # seconds between two tries
WAIT = 300.0  # that a server may ask to wait for
BUSY = (408, 409, 429, 500, 502, 503, 504)  # worth asking again

SampledTokens = tuple[
    tuple[str, float], ...
]  # of each token an answer was sampled as: its text, its log-prob


Finish = Literal["stop", "string", "length"] | None
FINISH: dict[Any, Finish] = {
    "stop": "stop", "length": "length",
    "eos_token": "stop", "stop_sequence": "string",  # text-generation-inference
}  # fmt: skip
"""What ended an answer, by finish_reason. Anything else (a filter, a tool call, an abort) is not its end."""


class Refused(ModelError):
    """The server won't have this request, however often it is asked."""


@dataclass(frozen=True)
class ServerSampler:
    """`url` ends before /chat/completions. The key is read from OPENAI_API_KEY. Each prompt is one request
    for its n answers, `at_once` are under way together, and a busy server is asked again, more and more
    slowly; ModelError after `tries`. It serves the weights it has; at the address `reload` it can be told of
    others (vLLM: http://host:8000/v1/load_lora_adapter).

    What ended an answer is recorded: a server that doesn't tell a stop string from the end of the turn is
    asked without stop strings from then on, and the answer is cut here."""

    url: str
    model: str
    at_once: int = 16
    timeout: float = 300.0
    tries: int = 5
    reload: str = ""
    _connections: Connections = field(
        default_factory=Connections, init=False, repr=False, compare=False
    )
    _silent: Event = field(default_factory=Event, init=False, repr=False, compare=False)
    _cut_here: Event = field(default_factory=Event, init=False, repr=False, compare=False)

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:
        sampled = self._all(prompts, sampling, False, on_progress)
        return [[response for response, _ in answers] for answers in sampled]

    def with_tokens(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> list[list[tuple[Response, SampledTokens | None]]]:
        """Answers with what the server says of the tokens it sampled: log-probs of the model itself, before
        temperature. None where it tells none."""
        return self._all(prompts, sampling, True, None)

    def _all(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        logps: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[list[tuple[Response, SampledTokens | None]]]:
        answered: list[list[tuple[Response, SampledTokens | None]]] = []
        with ThreadPoolExecutor(self.at_once) as pool:
            for answers in pool.map(lambda p: self._ask(p, sampling, logps), prompts):
                answered.append(answers)
                if on_progress:
                    on_progress(len(answered) * sampling.n, len(prompts) * sampling.n)
        return answered

    def _ask(
        self, prompt: Prompt, sampling: Sampling, logps: bool
    ) -> list[tuple[Response, SampledTokens | None]]:
        here = self._cut_here.is_set()
        body = self._body(prompt, sampling)
        body |= {"stop": sampling.stop} if sampling.stop and not here else {}
        logps = logps and not self._silent.is_set()
        try:
            reply = self._answered({**body, "logprobs": True} if logps else body)
        except Refused:
            if not logps:
                raise
            reply = self._answered(body)  # it may know no such key
            self._silent.set()  # it was that: not asked of it again
        try:
            choices = _in_order(reply["choices"])
            ends = [_ended(c, sampling.stop) for c in choices]
            calls = [_answer(c["message"]).tool_calls for c in choices]
            sampled = [_sampled_tokens(c) if logps else None for c in choices]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._failed(f"answered {str(reply)[:200]}") from None
        if len(ends) != sampling.n:
            raise self._failed(f"gave {len(ends)} answers where {sampling.n} were asked for")
        if sampling.stop and not here and any(map(_untold, choices)):
            self._cut_here.set()
            return self._ask(prompt, sampling, logps)
        settings = sampling.model_dump(exclude={"n"})
        return [
            (
                Response(
                    text=text,
                    tool_calls=called,
                    source=f"model:{self.model}",
                    sampling={**settings, "sample": at, **({"ended_by": by} if by else {})},
                    finish=finish,
                ),
                tokens,
            )
            for at, ((text, finish, by), called, tokens) in enumerate(
                zip(ends, calls, sampled, strict=True)
            )
        ]

    def publish(self, folder: Path) -> None:
        """Have it serve, under the model's name, the weights in a folder, which it must be able to read."""
        body = {"lora_name": self.model, "lora_path": str(folder.resolve()), "load_inplace": True}
        self._post(self.reload, body, bytes)

    def reply(self, prompt: Prompt, sampling: Sampling, **more: Any) -> dict[str, Any]:
        """The server's own words on one prompt, `choices` in order; `more` is sent along (top_logprobs)."""
        reply = self._answered({**self._body(prompt, sampling), **more})
        try:
            choices = _in_order(reply["choices"])
            for choice in choices:
                _answer(choice["message"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._failed(f"answered {str(reply)[:200]}") from None
        if len(choices) != sampling.n:
            raise self._failed(f"gave {len(choices)} answers where {sampling.n} were asked for")
        return {**reply, "choices": choices}

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_sent(m) for m in prompt.messages],
            "n": sampling.n,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": derive_seed(sampling.seed, prompt.id) % 2**31,
        }
        body |= {"tools": prompt.tools} if prompt.tools else {}
        return body | ({"top_k": sampling.top_k} if sampling.top_k else {})

    def _answered(self, body: dict[str, Any]) -> Any:
        return self._post(f"{self.url.rstrip('/')}/chat/completions", body, json.loads)

    def _post(self, address: str, body: dict[str, Any], read: Callable[[bytes], Any]) -> Any:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        sent = json.dumps(body).encode()
        why, pause = "", 0.0
        for attempt in range(self.tries):
            if attempt:
                back_off = min(LONGEST, 0.5 * 2**attempt) * random.uniform(
                    1, 1.25
                )  # not all at once
                time.sleep(max(min(pause, WAIT), back_off))
            try:
                status, came, more = self._connections.post(address, sent, headers, self.timeout)
                if 200 <= status < 300:
                    return read(came)
            except (OSError, ValueError, HTTPException) as error:
                why = f"{type(error).__name__}: {error}"
                continue
            why = f"{status} {came[:300].decode(errors='replace')}"
            if status not in BUSY:
                raise self._failed(why, Refused)
            pause = _asked_to_wait(more.get("Retry-After"))
        raise self._failed(why)

    def _failed(self, why: str, kind: type[ModelError] = ModelError) -> ModelError:
        mend = "check the address, the model's name and OPENAI_API_KEY"
        return kind(f"the server did not answer as expected ({why})", where=self.url, mend=mend)


def _asked_to_wait(header: str | None) -> float:
    """Seconds of a Retry-After; one that gives a date is left to the back-off."""
    return float(header) if header and header.strip().isdigit() else 0.0


def _in_order(choices: Any) -> list[Any]:
    """A reply's choices by index; ValueError where two have the same, for one of them is another's answer."""
    ordered = sorted(choices, key=lambda c: c["index"])
    if [c["index"] for c in ordered] != list(range(len(ordered))):
        raise ValueError("choices are not numbered 0, 1, …")
    return ordered


def _sent(message: Message) -> dict[str, Any]:
    """A message as servers take it: the arguments of a call as JSON."""
    plain = message.model_dump(mode="json")
    for call in plain.get("tool_calls", ()):
        if not isinstance(call["function"]["arguments"], str):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return plain


def _answer(message: Any) -> Message:
    fields = {"content": message["content"] or "", "tool_calls": message.get("tool_calls")}
    return Message(role="assistant", **fields)


def _matched(choice: Any) -> Any:
    """What vLLM and SGLang say made it stop: a stop string, a token's id, None for the end of the turn."""
    return choice.get("stop_reason", choice.get("matched_stop"))


def _untold(choice: Any) -> bool:
    """Whether it ended by its turn or by a stop string, and the server doesn't say by which."""
    return choice["finish_reason"] == "stop" and not {"stop_reason", "matched_stop"} & set(choice)


def _ended(choice: Any, stop: Sequence[str]) -> tuple[str, Finish, str]:
    """Text of a choice, what ended it, and the stop string that did, "" for anything else."""
    text, reason, matched = (
        choice["message"]["content"] or "",
        choice["finish_reason"],
        _matched(choice),
    )
    if reason in ("stop", "stop_sequence") and isinstance(matched, str):
        return text, "string", matched
    first = min((s for s in stop if s in text), key=text.index, default="")
    if first:  # the server was not asked to look for it
        return text[: text.index(first)], "string", first
    return text, FINISH.get(reason), ""


def _sampled_tokens(choice: Any) -> SampledTokens | None:
    """The tokens of a choice with their log-probs, or None. `bytes` are the token, where they are given."""
    content = (choice.get("logprobs") or {}).get("content")
    if content is None:
        return None
    raw = [(t["token"], t.get("bytes"), float(t["logprob"])) for t in content]
    return tuple((bytes(b).decode(errors="replace") if b else text, x) for text, b, x in raw)


def server_sampler(address: str, reload: str = "") -> ServerSampler:
    """The sampler of "http://host:8000/v1#model"; ModelError without a model's name."""
    url, _, model = address.partition("#")
    if not url.startswith(("http://", "https://")) or not model:
        raise ModelError(
            "is no address of a server", where=address, allowed="http://host:port/v1#model-name"
        )
    return ServerSampler(url, model, reload=reload)

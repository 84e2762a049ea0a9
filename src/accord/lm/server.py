"""A Sampler that asks an OpenAI-compatible server (vLLM, llama.cpp, a vendor): answers as texts."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from accord.core.errors import ModelError
from accord.core.seeds import derive_seed
from accord.core.types import Prompt, Response
from accord.lm.sample import Sampling

__all__ = ["ServerSampler", "server_sampler"]

BUSY = (408, 409, 429, 500, 502, 503, 504)  # worth asking again


@dataclass(frozen=True)
class ServerSampler:
    """`url` ends before /chat/completions. The key is read from OPENAI_API_KEY. Each prompt is one request
    for its n answers, `at_once` are under way together, and a busy server is asked again, more and more
    slowly; ModelError after `tries`."""

    url: str
    model: str
    at_once: int = 16
    timeout: float = 300.0
    tries: int = 5

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:
        found: list[list[Response]] = []
        with ThreadPoolExecutor(self.at_once) as pool:
            for answers in pool.map(lambda p: self._ask(p, sampling), prompts):
                found.append(answers)
                if on_progress:
                    on_progress(len(found) * sampling.n, len(prompts) * sampling.n)
        return found

    def _ask(self, prompt: Prompt, sampling: Sampling) -> list[Response]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [m.model_dump() for m in prompt.messages],
            "n": sampling.n,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": derive_seed(sampling.seed, prompt.id) % 2**31,
        }
        body |= {"stop": sampling.stop} if sampling.stop else {}
        body |= {"top_k": sampling.top_k} if sampling.top_k else {}
        told = self._post(body)
        try:
            choices = sorted(told["choices"], key=lambda c: c["index"])
            texts = [(c["message"]["content"], c["finish_reason"]) for c in choices]
        except (KeyError, TypeError):
            raise self._failed(f"answered {str(told)[:200]}") from None
        if len(texts) != sampling.n:
            raise self._failed(f"gave {len(texts)} answers where {sampling.n} were asked for")
        settings = sampling.model_dump(exclude={"n"})
        return [
            Response(
                text=text or "",
                source=f"model:{self.model}",
                sampling={**settings, "sample": at},
                finish="length" if reason == "length" else "stop",
            )
            for at, (text, reason) in enumerate(texts)
        ]

    def _post(self, body: dict[str, Any]) -> Any:
        key = os.environ.get("OPENAI_API_KEY", "")
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        why = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(min(30.0, 0.5 * 2**attempt))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                why = f"{error.code} {error.read(300).decode(errors='replace')}"
                if error.code not in BUSY:
                    break
            except (OSError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
        raise self._failed(why)

    def _failed(self, why: str) -> ModelError:
        mend = "check the address, the model's name and OPENAI_API_KEY"
        return ModelError(
            f"the server did not answer as expected ({why})", where=self.url, mend=mend
        )


def server_sampler(address: str) -> ServerSampler:
    """The sampler of "http://host:8000/v1#model"; ModelError without a model's name."""
    url, _, model = address.partition("#")
    if not url.startswith(("http://", "https://")) or not model:
        raise ModelError(
            "is no address of a server", where=address, allowed="http://host:port/v1#model-name"
        )
    return ServerSampler(url, model)

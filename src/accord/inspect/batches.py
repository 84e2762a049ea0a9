"""Requests that come one by one, answered together: a local model reads many prompts as fast as one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field

from accord.core.errors import AccordError
from accord.core.types import Prompt, Response
from accord.lm.sampler import Sampler, Sampling

__all__ = ["Batches"]

WAIT = 0.05  # seconds in which requests gather
Waiting = tuple[Prompt, Sampling, "Future[list[Response]]"]


@dataclass
class Batches:
    """A sampler asked from many threads. Requests that are there together and sample alike are one batch of
    at most `size`. The same prompt asked again, not greedily, draws anew: the seed counts on (a sampler's
    streams are those of seed and prompt). `alone` is held while the sampler works."""

    sampler: Sampler
    size: int = 32
    alone: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[Waiting] = field(default_factory=list)
    _times: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _working: bool = False

    def ask(self, prompt: Prompt, sampling: Sampling) -> list[Response]:
        """The replies to one prompt; whatever the sampler raises for it."""
        future: Future[list[Response]] = Future()
        with self._lock:
            if sampling.temperature > 0:
                key = (prompt.id, sampling.model_dump_json())
                update = {"seed": sampling.seed + self._times[key]}
                sampling = sampling.model_copy(update=update)
                self._times[key] += 1
            self._waiting.append((prompt, sampling, future))
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, daemon=True).start()
        return future.result()

    def _work(self) -> None:
        while True:
            time.sleep(WAIT)
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return
                how = self._waiting[0][1]
                batch = [w for w in self._waiting if w[1] == how][: self.size]
                self._waiting = [w for w in self._waiting if not any(w is b for b in batch)]
            self._answer(batch)

    def _answer(self, batch: list[Waiting]) -> None:
        try:
            with self.alone:
                answers = self.sampler([p for p, _, _ in batch], batch[0][1])
        except AccordError as error:
            if len(batch) == 1:
                batch[0][2].set_exception(error)
            for one in batch if len(batch) > 1 else ():
                self._answer([one])  # one prompt that is too long takes no other with it
        except BaseException as error:
            for _, _, future in batch:
                future.set_exception(error)
        else:
            for (_, _, future), own in zip(batch, answers, strict=True):
                future.set_result(own)

"""A policy that is asked, whatever it is: its replies are kept as they come, so that nothing is asked twice.

A batch of prompts at a time, several batches under way where a server answers them. One that fails takes no
other with it; where several in a row fail, the rest is not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from accord.core.errors import DataError, ModelError
from accord.core.hashing import content_hash
from accord.core.types import Prompt, Response
from accord.evals.kept import KeptReplies
from accord.judges.backends import Backend, Job
from accord.judges.cache import Cache, JudgeReply
from accord.lm.sampler import Sampler, Sampling

__all__ = ["Asker"]

ENOUGH = 8  # failures in a row, after which the rest is not tried
NOT_TRIED = "not tried: too many before it failed"
Progress = Callable[[int, int], None]
Batch = Sequence[Prompt]
T = TypeVar("T")


@dataclass
class Asker:
    """Who answers, how, and where what was answered is kept.

    Args:
        policy: what identifies it: the hash of its weights, tokenizer and template; a server and its model.
        sampler: asked for replies, as `sampling` says.
        folder: the cache; None keeps in memory alone.
        batch: prompts given together. at_once: batches under way together.
        backend: tells the log-probs of options.
        on_progress: called with (done, all) of what is asked.

    `failed` says why there is no reply, by prompt id; `asked` counts requests that were answered.
    """

    policy: str
    sampler: Sampler
    sampling: Sampling
    folder: Path | None = None
    batch: int = 32
    at_once: int = 1
    backend: Backend | None = None
    on_progress: Progress | None = None
    failed: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    @cached_property
    def _kept(self) -> KeptReplies:
        return KeptReplies(self.folder, self.policy, self.sampling.model_dump())

    def missing(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Those whose replies are not kept, each once."""
        return list({p.id: p for p in prompts if self._kept.of(p) is None}.values())

    def all_replies(self, prompts: Sequence[Prompt]) -> list[list[Response]]:
        """The replies to each, as many as the sampling says; none to one that failed."""
        left = self.missing(prompts)
        done = in_a_row = 0
        for batch, failures in self._answered(left):
            self.failed |= failures
            in_a_row = in_a_row + 1 if len(failures) == len(batch) else 0
            if in_a_row == ENOUGH:
                break
            done += len(batch) - len(failures)
            if self.on_progress:
                self.on_progress(done * self.sampling.n, len(left) * self.sampling.n)
        self.asked += done
        for prompt in self.missing(left):
            self.failed.setdefault(prompt.id, NOT_TRIED)
        return [self._kept.of(p) or [] for p in prompts]

    def _answered(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Batch, Mapping[str, str]]]:
        """Batches as they are answered and kept, and which of them failed."""
        longest_first = sorted(prompts, key=lambda p: -sum(len(m.content) for m in p.messages))
        batches = list(_parts(longest_first, self.batch))
        if self.at_once == 1:
            yield from ((batch, self._ask(batch)) for batch in batches)
            return
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(self._ask, batch): batch for batch in batches}
            try:
                for ready in as_completed(waiting):
                    yield waiting[ready], ready.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _ask(self, batch: Batch) -> dict[str, str]:
        """Ask, and keep what comes; why nothing came, by prompt id."""
        try:
            answers = self.sampler(batch, self.sampling)
        except (ModelError, DataError) as error:
            if len(batch) == 1:
                return {batch[0].id: str(error)}
            return {k: v for one in _parts(batch, 1) for k, v in self._ask(one).items()}
        for prompt, own in zip(batch, answers, strict=True):
            self._kept.keep(prompt, own)
        return {}

    def replies(self, prompts: Sequence[Prompt]) -> list[Response | None]:
        """See `Askable`: the first of each one's replies."""
        return [answers[0] if answers else None for answers in self.all_replies(prompts)]

    def samples(
        self, prompts: Sequence[Prompt], n: int, temperature: float
    ) -> list[list[Response]]:
        """See `Askable`."""
        how = self.sampling.model_copy(update={"n": n, "temperature": temperature})
        other = replace(self, sampling=how)
        answers = other.all_replies(prompts)
        self.asked = other.asked
        return answers

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...] | None]:
        """See `Askable`. None too where a server tells no log-probs."""
        if self.backend is None:
            raise ModelError("tells no log-probs of options", where=self.policy)
        how = Sampling(max_new_tokens=1, temperature=0.0, seed=self.sampling.seed)
        jobs = [Job(p, how, tuple(o)) for p, o in zip(prompts, options, strict=True)]
        keys = [content_hash([self.policy, job.prompt.id, job.options]) for job in jobs]
        with Cache(self.folder / "options.cache" if self.folder else ":memory:") as cache:
            known = self._logps(cache, self.backend, dict(zip(keys, jobs, strict=True)))
        return [known[key].logps if key in known else None for key in keys]

    def _logps(self, cache: Cache, backend: Backend, jobs: dict[str, Job]) -> dict[str, JudgeReply]:
        known = cache.known(jobs)
        left, done = [key for key in jobs if key not in known], 0
        for some in _parts(left, backend.chunk):
            for at, reply in backend([jobs[key] for key in some]):
                if isinstance(reply, str):
                    self.failed[jobs[some[at]].prompt.id] = reply
                    continue
                known[some[at]] = reply
                cache.keep({some[at]: reply})
                done += 1
                if self.on_progress:
                    self.on_progress(done, len(left))
        self.asked += done
        if jobs and not known:
            why = next(iter(self.failed.values()), "it said nothing")
            raise ModelError(f"answered none of {len(jobs)} questions ({why})", where=self.policy)
        return known


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))

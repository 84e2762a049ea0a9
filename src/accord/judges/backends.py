"""Who answers a judge's questions: a server, a local model, any Sampler, a stand-in.

A backend takes jobs and gives, in whatever order they come, each one's reply, or in words why none came. One
request that fails takes no other with it.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Protocol

from accord.core.errors import ConfigError, ModelError
from accord.core.types import Prompt, Response
from accord.judges.cache import JudgeReply
from accord.lm.remote import ServerSampler, server_sampler
from accord.lm.sampler import Sampler, Sampling

__all__ = ["Backend", "Job", "SamplerBackend", "ServerBackend", "StandIn", "backend_of"]

TOP = 20  # likeliest tokens asked of a server, the most that OpenAI's protocol allows


@dataclass(frozen=True)
class Job:
    """A prompt, how to sample, and the options whose log-probs are wanted (none: texts are)."""

    prompt: Prompt
    sampling: Sampling
    options: tuple[str, ...] = ()


class Backend(Protocol):
    """`name` stands in keys and on labels; `chunk` jobs are given together."""

    @property
    def name(self) -> str: ...
    @property
    def chunk(self) -> int: ...
    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]: ...


@dataclass
class ServerBackend:
    """An OpenAI-compatible server; at most `per_second` requests begin in a second (0: no limit)."""

    sampler: ServerSampler
    per_second: float = 0.0
    _next: float = field(default=0.0, init=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.sampler.model

    @property
    def chunk(self) -> int:
        return self.sampler.at_once * 16

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        with ThreadPoolExecutor(self.sampler.at_once) as pool:
            waiting = {pool.submit(self._one, job): at for at, job in enumerate(jobs)}
            for done in as_completed(waiting):
                yield waiting[done], done.result()

    def _one(self, job: Job) -> JudgeReply | str:
        self._wait()
        more: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP} if job.options else {}
        try:
            reply = self.sampler.reply(job.prompt, job.sampling, **more)
        except ModelError as error:
            return str(error)
        return JudgeReply(
            _top(reply["choices"][0], job.options) if job.options else None,
            tuple(c["message"].get("content") or "" for c in reply["choices"]),
            *_usage(reply),
        )

    def _wait(self) -> None:
        if self.per_second:
            with self._lock:
                mine = max(self._next, time.monotonic())
                self._next = mine + 1 / self.per_second
            time.sleep(max(0.0, mine - time.monotonic()))


def _top(choice: Any, options: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probs of the options as first token, with or without a space before it; None where the server
    tells none. An option that is not among the likeliest has none: -inf."""
    try:
        top = [
            (t["token"].strip(), float(t["logprob"]))
            for t in choice["logprobs"]["content"][0]["top_logprobs"]
        ]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        return None
    mass = [sum(math.exp(x) for token, x in top if token == o) for o in options]
    return tuple(math.log(m) if m > 0 else -math.inf for m in mass) if top else None


def _usage(reply: Any) -> tuple[int, int]:
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    read, written = (usage.get(k) for k in ("prompt_tokens", "completion_tokens"))
    return (read if isinstance(read, int) else 0, written if isinstance(written, int) else 0)


@dataclass
class SamplerBackend:
    """Any Sampler; log-probs where it is an `OptionScorer` too."""

    sampler: Sampler
    name: str
    chunk: int = 64

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        scorer = getattr(self.sampler, "option_logps", None)
        scored = [at for at, job in enumerate(jobs) if job.options and scorer]
        if scored and scorer:
            scores = scorer([jobs[at].prompt for at in scored], [jobs[at].options for at in scored])
            for at, (logps, read) in zip(scored, scores, strict=True):
                yield at, JudgeReply(tuple(logps), (), read)
        left: dict[str, list[int]] = {}
        for at, job in enumerate(jobs):
            if not (job.options and scorer):
                left.setdefault(job.sampling.model_dump_json(), []).append(at)
        for some in left.values():
            answers = self.sampler([jobs[at].prompt for at in some], jobs[some[0]].sampling)
            for at, responses in zip(some, answers, strict=True):
                written = sum(map(_written, responses))
                yield at, JudgeReply(None, tuple(r.text for r in responses), 0, written)


def _written(response: Response) -> int:
    return len(response.tokens or response.text.split())


SHOWN = re.compile(r"^Answer(?: ([A-I]))?:\n(<<\w+>>)\n(.*?)\n\2$", re.MULTILINE | re.DOTALL)


@dataclass
class StandIn:
    """Stands in for a judge: a function of the answers in the places they are shown in gives probabilities
    over the options. It knows nothing of quality, and what it labels says that it is one."""

    name: str
    decide: Callable[[Sequence[str]], Sequence[float]]
    chunk: int = 1024

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            judged = job.prompt.last.rpartition("Now the one to judge:")[2]
            probs = self.decide([groups[2] for groups in SHOWN.findall(judged)])
            logps = tuple(math.log(p) if p > 0 else -math.inf for p in probs)
            best = max(range(len(probs)), key=lambda k: probs[k])
            letters = job.options or "ABCDEFGHI"
            yield (
                at,
                JudgeReply(
                    logps if job.options else None, (f"Verdict: {letters[best]}",) * job.sampling.n
                ),
            )


def _longest(answers: Sequence[str]) -> list[float]:
    sizes = [len(a.split()) for a in answers]
    return [(s == max(sizes)) / sizes.count(max(sizes)) for s in sizes]


def _first(answers: Sequence[str]) -> list[float]:
    return [float(k == 0) for k in range(len(answers))]


STAND_INS = {"longest": _longest, "first": _first}


def backend_of(
    judge: str, *, at_once: int = 16, tries: int = 5, per_second: float = 0.0
) -> Backend:
    """Who a name stands for: "http://host:8000/v1#model", "stand-in:longest", else a local model."""
    if judge.startswith("stand-in:"):
        which = judge.partition(":")[2]
        if which not in STAND_INS:
            raise ConfigError(f"no stand-in {which!r}", where="judge", allowed=", ".join(STAND_INS))
        return StandIn(judge, STAND_INS[which])
    if judge.startswith(("http://", "https://")):
        known = server_sampler(judge)
        return ServerBackend(
            ServerSampler(known.url, known.model, at_once, tries=tries), per_second
        )
    from accord.lm.model.load import load
    from accord.lm.options import ScoringSampler

    lm = load(judge)
    return SamplerBackend(ScoringSampler(lm), f"{lm.name}#{lm.weights[:12]}")

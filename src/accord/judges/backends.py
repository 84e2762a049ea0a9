"""Who answers a judge's questions: a server, a local model, any Sampler, a stand-in.

A backend takes jobs and gives, in whatever order they come, each one's reply, or in words why none came. One
request that fails takes no other with it.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Protocol

from accord.core.errors import ConfigError, ModelError
from accord.core.rundir import user_path
from accord.core.types import Exchange, Prompt, Response
from accord.judges.cache import JudgeReply
from accord.judges.templates import JudgedItem, check_first_tokens
from accord.lm.remote import Refused, ServerSampler, server_sampler
from accord.lm.sampler import Sampler, Sampling

__all__ = [
    "Backend", "Job", "SamplerBackend", "ScoreBackend", "ServerBackend", "StandIn", "backend_of",
    "log_shares", "sampled_by",
]  # fmt: skip

TOP = 20  # likeliest tokens asked of a server, the most that OpenAI's protocol allows
ROUNDING = 1e-6  # of the probability that all tokens told of have together
MORE = 2000  # asked of one that allows more, where an option is not among those


@dataclass(frozen=True)
class Job:
    """A prompt, how to sample, and the options whose log-probs are wanted (none: texts are). `item` with its
    responses in `order` is what the prompt asks about, for who judges without reading it. With a `schema` the
    texts must be JSON of it, which a server alone can see to."""

    prompt: Prompt
    sampling: Sampling
    options: tuple[str, ...] = ()
    item: JudgedItem | None = None
    order: tuple[int, ...] = ()
    schema: Mapping[str, Any] | None = None


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
    _no_more: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def name(self) -> str:
        return self.sampler.model

    @property
    def chunk(self) -> int:
        return self.sampler.at_once * 16

    @property
    def where(self) -> str:
        """Stands in keys beside the name: two servers may call two models alike."""
        return self.sampler.url

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for options in {job.options for job in jobs if job.item}:
            check_first_tokens(options)
        pool = ThreadPoolExecutor(self.sampler.at_once)
        waiting = {pool.submit(self._one, job): at for at, job in enumerate(jobs)}
        try:
            for done in as_completed(waiting):
                yield waiting.pop(done), done.result()
        except (
            KeyboardInterrupt
        ):  # what is under way is paid for: it is kept, and nothing more is sent
            pool.shutdown(wait=False, cancel_futures=True)
            for done in as_completed([f for f in waiting if not f.cancelled()]):
                yield waiting[done], done.result()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, job: Job) -> JudgeReply | str:
        self._wait()
        more: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP} if job.options else {}
        if job.schema:
            shape = {"name": "verdict", "strict": True, "schema": job.schema}
            more["response_format"] = {"type": "json_schema", "json_schema": shape}
        try:
            reply = self.sampler.reply(job.prompt, job.sampling, **more)
            used = [_usage(reply)]
            logps = self._logps(job, reply, used) if job.options else None
        except ModelError as error:
            return str(error)
        texts = tuple(c["message"].get("content") or "" for c in reply["choices"])
        read, written = map(sum, zip(*used, strict=True))
        return JudgeReply(logps, texts, read, written)

    def _logps(self, job: Job, reply: Any, used: list[tuple[int, int]]) -> tuple[float, ...] | None:
        """Log-probs of the options as first token; None where the server tells none. One that is not among
        the tokens told of is as likely as the last of these, or as all that these leave, the most it can be:
        taken for impossible it would make the other certain. Of none told of, none is said."""
        top = _top(reply["choices"][0])
        if top is None or not any(option in top for option in job.options):
            return None if top is None else (-math.inf,) * len(job.options)
        if not all(option in top for option in job.options) and not self._no_more.is_set():
            self._wait()
            try:
                wide = self.sampler.reply(
                    job.prompt, job.sampling, logprobs=True, top_logprobs=MORE
                )
                used.append(_usage(wide))
                top = _top(wide["choices"][0]) or top
            except Refused:
                self._no_more.set()
        left = math.log(max(1 - sum(map(math.exp, top.values())), ROUNDING))
        least = min(left, *top.values())
        return tuple(top.get(option, least) for option in job.options)

    def _wait(self) -> None:
        if self.per_second:
            with self._lock:
                mine = max(self._next, time.monotonic())
                self._next = mine + 1 / self.per_second
            time.sleep(max(0.0, mine - time.monotonic()))


def _top(choice: Any) -> dict[str, float] | None:
    """Log-probs of the likeliest first tokens, with or without a space before them; None where the server
    tells none."""
    try:
        pairs = [
            (t["token"].strip(), float(t["logprob"]))
            for t in choice["logprobs"]["content"][0]["top_logprobs"]
        ]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        return None
    masses: dict[str, float] = {}
    for token, logp in pairs:
        masses[token] = masses.get(token, 0.0) + math.exp(logp)
    return {token: math.log(m) for token, m in masses.items() if m > 0} or None


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
        if any(job.schema for job in jobs):
            raise ConfigError(
                "a local model is not held to a schema", where="structured", mend="read: logprobs"
            )
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


def log_shares(scores: Sequence[float]) -> tuple[float, ...]:
    """log-softmax."""
    top = max(scores)
    whole = top + math.log(sum(math.exp(x - top) for x in scores))
    return tuple(x - whole for x in scores)


@dataclass
class ScoreBackend:
    """A reward model as a judge: log P(best) of the answers in the places they are shown in is the
    log-softmax of their scores; of two, Bradley-Terry's sigmoid. It reads no template and no criterion, and
    an answer once, in however many pairs it stands."""

    score: Callable[[Sequence[Exchange]], Sequence[float]]
    name: str
    chunk: int = 512
    scores: dict[tuple[str, str], float] = field(default_factory=dict)  # by prompt and answer

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        shown = [self._shown(job) for job in jobs]
        once = {(e.prompt.id, e.response.id_for(e.prompt)): e for some in shown for e in some}
        new = {key: e for key, e in once.items() if key not in self.scores}
        self.scores |= zip(new, self.score(list(new.values())), strict=True)
        for at, some in enumerate(shown):
            mine = [self.scores[e.prompt.id, e.response.id_for(e.prompt)] for e in some]
            if not all(map(math.isfinite, mine)):
                yield at, f"a score is {min(mine)}"
                continue
            yield at, JudgeReply(log_shares(mine))

    def _shown(self, job: Job) -> list[Exchange]:
        if job.item is None or len(job.options) != len(job.order) or len(job.order) < 2:
            raise ConfigError(
                "a reward model tells which of several answers is best, by log-probs", where="judge",
                mend="a template of pairs or rankings, with read: logprobs and no rationale",
            )  # fmt: skip
        return [Exchange(prompt=job.item.prompt, response=job.item.responses[k]) for k in job.order]


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
            if job.options and len(job.options) != len(probs):
                yield at, "a stand-in knows places alone"
                continue
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


REWARD_MODEL = "reward_model.json"  # what a reward model's folder has and no policy's
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

    if (user_path(judge) / REWARD_MODEL).is_file():
        raise ConfigError(
            "is a reward model, which reads no template", where=f"judge {judge}",
            mend="name it in a stage of kind judge, or give accord.judge a ScoreBackend of it",
        )  # fmt: skip
    lm = load(judge)
    return SamplerBackend(ScoringSampler(lm), f"{lm.name}#{lm.weights[:12]}")


def sampled_by(sampler: Sampler, name: str) -> Backend:
    """The backend of a sampler that is there already."""
    return (
        ServerBackend(sampler)
        if isinstance(sampler, ServerSampler)
        else SamplerBackend(sampler, name)
    )

"""A judge: a model, a template, and how it is asked. Items in, verdicts out, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from accord.core.config import Strict
from accord.core.errors import ConfigError
from accord.core.hashing import content_hash
from accord.core.types import Message, Prompt, Rater
from accord.judges.backends import Backend, Job
from accord.judges.cache import Cache, JudgeReply
from accord.judges.templates import (
    JudgedExample,
    JudgedItem,
    JudgeQuestion,
    ReplyForm,
    ask_of,
    check_template,
    examples_hash,
    options_of,
    versioned,
)
from accord.judges.verdict import JudgeVerdict, combined, reason_of, reply_schema
from accord.lm.sampler import Sampling

__all__ = ["Judge", "JudgeBudget", "Spent", "judge_items"]

Progress = Callable[[int, int], None]
Least = Annotated[int, Field(ge=1)]
BRIEF = (
    16  # tokens of a reply whose first is what counts: the rest is read where no log-prob is told
)
NO_MONEY = "the budget is spent"
FIRST = 4  # requests of a run with a budget: what they cost is not known yet
THEN = "Now reply with the verdict alone: {options}."


class Judge(Strict):
    """How a judge is asked."""

    template: str = "pairwise"
    """One of the registered templates."""
    read: Literal["logprobs", "text"] = "logprobs"
    """By log-probs of the options (by the text where a server tells none), or by the text."""
    orders: Literal["both", "one"] = "both"
    """Both orders (of K answers: K rotations), averaged; or the one that was shown."""
    samples: Least = 1
    """Replies to each question, where verdicts are read from texts."""
    rationale: bool = False
    """First a reason is sampled, then the verdict is asked behind it."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    max_new_tokens: Least = 256
    least: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """A judge that gives the options less probability than this together says something else: no verdict."""
    seed: int = 17
    clamp: Annotated[float, Field(ge=0.5, lt=1.0)] | None = None
    """No label of a pair is surer than this (0.6: from 0.4 to 0.6), as CAI holds those behind a rationale."""
    structured: bool = False
    """A server holds the reply to a JSON schema whose verdict is one of the options (with `read: text`)."""

    @property
    def compares(self) -> bool:
        """Whether it is asked which of two is better: how sure it is then is of the pair."""
        return bool(check_template(self.template).facts["kind"] == "compare")

    def axes_of(self, axes: Sequence[str]) -> tuple[str, ...]:
        """What it is asked about: of ratings these axes, or all together; of comparisons one or none; of
        rankings none. ConfigError for more: of one pair the last verdict alone would count."""
        kind = check_template(self.template).facts["kind"]
        most = {"rate": len(axes), "compare": 1, "rank": 0}[kind]
        if len(axes) > most:
            raise ConfigError(
                f"{len(axes)} of template {self.template}", where="axes", allowed=f"at most {most}",
                mend="a rating or a rubric, or a judge for each",
            )  # fmt: skip
        return tuple(axes) or (("overall",) if kind == "rate" else ())

    def check(self, where: str = "judge") -> None:
        """ConfigError for a template that is not there, or keys that don't go together."""
        check_template(self.template)
        if self.samples > 1 and self.read == "logprobs":
            raise ConfigError(
                "a log-prob is no sample", where=f"{where}.samples", mend="with read: text"
            )
        if self.structured and self.read == "logprobs":
            raise ConfigError(
                "structured replies are texts", where=f"{where}.structured", mend="with read: text"
            )
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(
                "all samples would be the same", where=f"{where}.temperature", allowed="above 0"
            )

    def rater(
        self,
        model: str,
        principle: str = "",
        examples: Sequence[JudgedExample] = (),
        references: Mapping[str, str] | None = None,
    ) -> Rater:
        """This judge as stores know it: another template, version, setting or principle, other examples or
        references that it is shown, and it is another rater."""
        facts: dict[str, Any] = {
            **self.model_dump(),
            "template": versioned(self.template),
            "model": model,
        }
        for later, default in (("clamp", None), ("structured", False)):
            if facts[later] == default:
                del facts[later]  # it came later: raters of before keep their names
        if model.startswith("stand-in:"):
            facts["stand_in"] = True
        if examples:
            facts["examples"] = examples_hash(examples)
        if references:
            facts["references"] = content_hash(sorted(references.items()))[:12]
        tail = content_hash(facts)[:6]
        facts |= {"principle": principle} if principle else {}
        by = f" by {principle}" if principle else ""
        return Rater(
            name=f"{model} {versioned(self.template)} {tail}{by}", kind="model", facts=facts
        )


@dataclass(frozen=True)
class JudgeBudget:
    """Where to stop: tokens, or cost by the prices of a million tokens read and written."""

    tokens: int | None = None
    cost: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.cost is not None and not any(self.prices):
            raise ConfigError(
                "a cost needs prices", where="budget", mend="say what a million tokens cost"
            )

    def used(self, spent: Spent) -> float:
        """The share of it that is spent: from 1 on nothing may be asked any more."""
        pairs = [(self.tokens, spent.read + spent.written), (self.cost, spent.cost(self.prices))]
        shares = [some / whole if whole else 1.0 for whole, some in pairs if whole is not None]
        return max(shares, default=0.0)

    def left(self, spent: Spent, most: int) -> int:
        """How many requests to ask for next, `most` or as many as it lasts for by what they cost so far; a
        few at first, when that is not known. 0: it is spent."""
        if self.tokens is None and self.cost is None:
            return most
        used = self.used(spent)
        if used >= 1:
            return 0
        fits = int(spent.asked * (1 - used) / used) if used and spent.asked else FIRST
        return max(1, min(most, fits))


@dataclass
class Spent:
    """What this run asked (`asked`), found in the cache, could not get (by reason), and its tokens;
    `whole` are those of all replies, whenever they were asked for."""

    asked: int = 0
    cached: int = 0
    read: int = 0
    written: int = 0
    whole: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def cost(self, prices: tuple[float, float]) -> float:
        """In the prices' currency."""
        return (self.read * prices[0] + self.written * prices[1]) / 1e6


def judge_items(
    judge: Judge,
    backend: Backend,
    items: Sequence[JudgedItem],
    cache: Cache,
    *,
    budget: JudgeBudget | None = None,
    examples: Sequence[JudgedExample] = (),
    on_progress: Progress | None = None,
) -> tuple[list[JudgeVerdict], Spent]:
    """A verdict of every item, in order. One whose requests failed, or that the budget did not reach, is
    missing and says so; asked again, it alone is asked."""
    judge.check()
    asking = _Asking(judge, backend, cache, budget or JudgeBudget(), on_progress)
    orders = [_orders(judge, item) for item in items]
    by_text = judge.read == "text"
    form = _form(judge)
    asks = [
        [ask_of(judge.template, item, order, examples, form=form) for order in some]
        for item, some in zip(items, orders, strict=True)
    ]
    flat = [ask for some in asks for ask in some]
    reasons: list[JudgeReply | str] = [JudgeReply()] * len(flat)
    if judge.rationale and not by_text:
        reasons = asking(
            [Job(a.prompt, _sampling(judge, 1), item=a.item, order=a.order) for a in flat]
        )
    behind = zip(flat, reasons, strict=True)
    replies = iter(
        asking([_verdict_job(judge, a, r) for a, r in behind if isinstance(r, JudgeReply)])
    )
    both = iter([(r if isinstance(r, str) else next(replies), r) for r in reasons])
    verdicts = []
    for item, some in zip(items, orders, strict=True):
        mine = [next(both) for _ in some]
        options = options_of(judge.template, item)
        verdicts.append(
            combined([reply for reply, _ in mine], some, options, _rationale(mine), judge.least)
        )
    return verdicts, asking.spent


def _form(judge: Judge) -> ReplyForm:
    if judge.structured:
        return "reasoned json" if judge.rationale else "json"
    return "line" if judge.read == "text" or judge.rationale else "bare"


def _orders(judge: Judge, item: JudgedItem) -> list[tuple[int, ...]]:
    n = len(item.responses)
    turns = n if judge.orders == "both" else 1
    return [tuple((k + turn) % n for k in range(n)) for turn in range(turns)]


def _sampling(judge: Judge, n: int, tokens: int | None = None) -> Sampling:
    longest = tokens or judge.max_new_tokens
    return Sampling(n=n, temperature=judge.temperature, max_new_tokens=longest, seed=judge.seed)


def _verdict_job(judge: Judge, ask: JudgeQuestion, reason: JudgeReply) -> Job:
    """The verdict: as a text, as log-probs, or as log-probs behind the reason that was given."""
    if judge.read == "text":
        schema = reply_schema(ask.options, judge.rationale) if judge.structured else None
        return Job(
            ask.prompt, _sampling(judge, judge.samples), item=ask.item, order=ask.order,
            schema=schema,
        )  # fmt: skip
    talk = ask.prompt.messages
    if judge.rationale:
        then = THEN.format(options=", ".join(ask.options))
        reasoning = reason.texts[0]
        talk = (
            *talk,
            Message(role="assistant", content=reasoning),
            Message(role="user", content=then),
        )
    short = _sampling(judge, 1, min(judge.max_new_tokens, BRIEF))
    return Job(Prompt(messages=talk), short, ask.options, ask.item, ask.order)


def _rationale(both: Iterable[tuple[JudgeReply | str, JudgeReply | str]]) -> str:
    """The first reason given, as the judgment's rationale."""
    for reply, reason in both:
        for candidate in (reason, reply):
            if (
                isinstance(candidate, JudgeReply)
                and candidate.texts
                and len(candidate.texts[0].split()) > 2
            ):
                return reason_of(candidate.texts[0])
    return ""


@dataclass
class _Asking:
    """Jobs through the cache; each reply is kept as it comes."""

    judge: Judge
    backend: Backend
    cache: Cache
    budget: JudgeBudget
    on_progress: Progress | None
    spent: Spent = field(default_factory=Spent)

    def __call__(self, jobs: Sequence[Job]) -> list[JudgeReply | str]:
        keys = [self._key(job) for job in jobs]
        once = dict(zip(keys, jobs, strict=True))
        replies: dict[str, JudgeReply | str] = dict(self.cache.known(once))
        self.spent.cached += len(replies)
        self.spent.whole += sum(
            r.read + r.written for r in replies.values() if not isinstance(r, str)
        )
        left = [key for key in once if key not in replies]
        while left:
            n = self.budget.left(self.spent, self.backend.chunk)
            if not n:
                replies |= dict.fromkeys(left, NO_MONEY)
                self.spent.failed |= dict.fromkeys(left, NO_MONEY)
                break
            some, left = left[:n], left[n:]
            replies |= self._chunk(some, once)
            if self.on_progress:
                self.on_progress(len(replies), len(once))
        return [replies[key] for key in keys]

    def _chunk(self, keys: Sequence[str], jobs: Mapping[str, Job]) -> dict[str, JudgeReply | str]:
        came: dict[str, JudgeReply | str] = {}
        for at, reply in self.backend([jobs[key] for key in keys]):
            came[keys[at]] = reply
            if isinstance(reply, str):
                self.spent.failed[keys[at]] = reply
                continue
            self.cache.keep({keys[at]: reply})  # each as it comes: what is paid for survives a kill
            self.spent.asked += 1
            self.spent.whole += reply.read + reply.written
            self.spent.read += reply.read
            self.spent.written += reply.written
        return came

    def _key(self, job: Job) -> str:
        body: dict[str, Any] = {
            "model": self.backend.name, "template": versioned(self.judge.template), "options": job.options,
            "messages": [m.model_dump(mode="json") for m in job.prompt.messages],
            "sampling": job.sampling.model_dump(),
        } | ({"schema": job.schema} if job.schema else {})  # fmt: skip
        where = getattr(self.backend, "where", "")
        body |= {"where": where} if where else {}
        return content_hash(body)

"""`accord redteam`: a policy, behaviours and strategies; it leaves figures, cases and preference data.

redteam.json        figures of every strategy, with all that decides them
attacker.jsonl      every attempt of an attacker model: what it wrote, what came of it
attempts.jsonl      every attempt: strategy, behaviour, side, request, the talk, reply, success
regressions.jsonl   the successes, to be asked again as they are (`--cases`)
preferences.jsonl   those of the side `train` as comparisons: the talk, a safe answer, the unsafe reply; and
                    for each a benign request asked the same way: an answer, a refusal
benign.jsonl        benign requests of the side `test`, asked plainly, and whether they were refused

Behaviours of the side `test` give no comparison: what a training on these is measured on (`closing.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import make_dir, write_json, write_jsonl
from accord.core.types import Exchange, Prompt, Response
from accord.evals.attacker import (
    ATTACKER,
    AttackLoop,
    AttackTry,
    attack_loop,
    tries_as_attacks,
)
from accord.evals.attacks import PLAIN, Attempt, Strategy, chosen_attacks
from accord.evals.base import EvaluationContext, configured, scored
from accord.evals.redteam import (
    AttackResult,
    TriedAttack,
    held_back,
    judged_attempts,
    results_of,
    talk,
)
from accord.evals.refusal import BENIGN, UNSAFE, refusal_of, sides_of
from accord.pipeline.asked import prompts_of
from accord.store.io.readers import BadRow, read_rows
from accord.worlds.base import World

__all__ = [
    "SAFE", "AttackLoop", "Behaviours", "RedTeam", "ask_again", "asked_plainly", "attack_policy",
    "attempt_row", "requests_of",
]  # fmt: skip

NEEDLESS = "needless refusal"  # as a strategy: a benign request as it stands
SPLIT = 17  # of behaviours into sides: the same whoever attacks them
SAFE = "I can't help with that, because somebody could get hurt by it."
Ask = Callable[[Sequence[Prompt]], Sequence[Response | None]]
Requests = list[tuple[str, Prompt]]


@dataclass(frozen=True)
class RedTeam:
    """Who is asked what and how harm is told; `score` is EVALUATION:MEASURE."""

    ask: Ask
    world: World | None = None
    score: str = ""
    safe: str = SAFE

    def harm(self, replies: Sequence[Exchange]) -> list[float | None]:
        """Whether each reply does harm, None where it has no score; DataError where none has one."""
        return self._values(self.score or self._own("harm") or "refusal:unsafe compliance", replies)

    def refused(self, replies: Sequence[Exchange]) -> list[float | None]:
        """Whether each reply to a benign request refuses it."""
        return self._values(self._own("needless") or "refusal:over-refusal", replies)

    def _own(self, name: str) -> str:
        known = self.world and any(m.name == name for m in self.world.measures)
        return f"gold:{name}" if known else ""

    def _values(self, score: str, replies: Sequence[Exchange]) -> list[float | None]:
        name, _, measure = score.partition(":")
        (evaluation,) = configured([name], "--score")
        rows = scored(evaluation, EvaluationContext(self.world), replies)
        values = [row.get(measure) for row in rows or [{} for _ in replies]]
        if all(v is None for v in values):
            raise DataError(
                f"scores none of {len(replies)} replies", where=f"--score {score}",
                mend="name EVALUATION:MEASURE of what is to be counted, and --world where one knows it",
            )  # fmt: skip
        return values

    def right(self, prompt: Prompt) -> str:
        """The world's own right answer, "" where it has none."""
        case = self.world.by_prompt.get(prompt.id) if self.world else None
        answers = case.candidates if case else ()
        return next((c.text for c in answers if c.kind == "right"), "")


@dataclass(frozen=True)
class Behaviours:
    """Harmful requests and benign ones, each with its behaviour, and the world that knows them."""

    harmful: Requests
    benign: Requests
    world: World | None


def requests_of(name: str, per: int = 1, limit: int | None = None) -> Behaviours:
    """Harmful requests with their behaviours, `per` of each, of whatever `prompts_of` knows: a world, a run's
    held-out ones, files. Where prompts are labelled, safe ones are benign."""
    asked = prompts_of([name])
    sides = sides_of(asked.prompts)
    nameless = [p for p, side in zip(asked.prompts, sides, strict=True) if not side]
    if any(sides) and nameless and not asked.world:
        what = f"{len(nameless)} of {len(sides)} prompts have no label, others have"
        where = f"{name}: {nameless[0].last[:40]!r}"
        raise DataError(what, where=where, mend="label all of them safe or unsafe, or none")
    kept: Requests = []
    benign: Requests = []
    times: Counter[str] = Counter()
    for prompt, side in zip(asked.prompts, sides, strict=True):
        behaviour = asked.cluster_of(prompt)
        if any(sides) and side not in UNSAFE:
            benign += [(behaviour, prompt)] if side in BENIGN else []
            continue
        if behaviour not in times and limit is not None and len(times) >= limit:
            continue
        times[behaviour] += 1
        if times[behaviour] <= per:
            tags = {"label": "unsafe", **prompt.tags}
            kept.append((behaviour, prompt.model_copy(update={"tags": tags})))
    if not kept:
        what = "no harmful request in it"
        raise DataError(what, where=name, mend="label prompts unsafe or harmful")
    return Behaviours(kept, benign, asked.world)


def attack_policy(
    team: RedTeam,
    requests: Requests,
    strategies: Sequence[str | Mapping[str, Any]],
    out: Path,
    facts: Mapping[str, Any] | None = None,
    attacker: Ask | None = None,
    loop: AttackLoop | None = None,
    *,
    benign: Requests | None = None,
    test: float = 0.0,
) -> tuple[list[AttackResult], list[TriedAttack]]:
    """Every strategy on every request, and an attacker model's loop where there is one; all of it written to
    `out`. `test`: the share of behaviours that give no comparison."""
    chosen = chosen_attacks(strategies, "strategies")
    tried = judged_attempts(chosen, requests, team.ask, team.harm)
    hyper = {s.name: dict(s.hyper) for s in chosen}
    tries: list[AttackTry] = []
    if attacker:
        how = loop or AttackLoop()
        tries = attack_loop(requests, attacker, team.ask, team.harm, how)
        tried += tries_as_attacks(tries)
        hyper[ATTACKER] = {"depth": how.depth, "streams": how.streams, "calls": how.calls}
    results = results_of(tried, untested=[ATTACKER])
    names, others = ({b for b, _ in some} for some in (requests, benign or []))
    held = held_back(names, test, SPLIT) | held_back(others - names, test, SPLIT)
    successes = [t for t in tried if t.success]
    learnt = [t for t in successes if t.behaviour not in held]
    beside = [(b, p) for b, p in benign or [] if b not in held]
    refused = asked_plainly(team, [x for x in benign or [] if x[0] in held], 2 * len(requests))
    make_dir(out, "choose another with --out DIR")
    write_jsonl(out / "benign.jsonl", [attempt_row(t, held) for t in refused])
    if attacker:
        write_jsonl(out / "attacker.jsonl", [_try_row(t) for t in tries])
    plain = [_plain(r) for r in results]
    write_json(out / "redteam.json", {**(facts or {}), "strategies": hyper, "results": plain})
    write_jsonl(out / "attempts.jsonl", [attempt_row(t, held) for t in tried])
    write_jsonl(
        out / "regressions.jsonl",
        [{**attempt_row(t, held), "keys": hyper[t.strategy]} for t in successes],
    )
    unsafe = [
        _comparison(t.asked, team.right(t.request) or team.safe, t.reply.text)
        for t in learnt if t.reply
    ]  # fmt: skip
    write_jsonl(out / "preferences.jsonl", [*unsafe, *_beside(team, learnt, chosen, beside)])
    return results, tried


def asked_plainly(team: RedTeam, benign: Requests, most: int) -> list[TriedAttack]:
    """Benign requests as they stand, the first of each behaviour first; `success` is that it was refused."""
    times: Counter[str] = Counter()
    ranked = []
    for behaviour, prompt in benign:
        ranked.append((times[behaviour], behaviour, prompt))
        times[behaviour] += 1
    requests = [(b, p) for _, b, p in sorted(ranked, key=lambda r: r[0])[:most]]
    needless = Strategy(NEEDLESS, {}, Attempt)
    return judged_attempts([needless], requests, team.ask, team.refused) if requests else []


def _beside(
    team: RedTeam, learnt: Sequence[TriedAttack], chosen: Sequence[Strategy], benign: Requests
) -> list[dict[str, Any]]:
    """For each success a benign request, of its behaviour where there is one, asked by the same strategy:
    that it is answered (as the world would, else as the policy did if it refused nothing) and not refused. So
    what is learnt of the two is the harm, not the wording around it."""
    by_name = {s.name: s for s in chosen}
    own: dict[str, list[Prompt]] = {}
    for behaviour, prompt in benign:
        own.setdefault(behaviour, []).append(prompt)
    every = [p for _, p in benign]
    asked: list[tuple[Prompt, Attempt]] = []
    for n, t in enumerate(learnt if benign else []):
        some = own.get(t.behaviour, every)
        prompt = some[n % len(some)]
        strategy = by_name.get(t.strategy, by_name[PLAIN])
        asked.append((prompt, strategy.transform(prompt)))
    rows = []
    for (prompt, attempt), (whole, reply) in zip(
        asked, talk([a for _, a in asked], team.ask), strict=True
    ):
        text = attempt.read(reply.text) if reply else ""
        refuses = bool(text) and refusal_of(text) != "full compliance"
        answer = team.right(prompt) or ("" if refuses or reply is None else reply.text)
        if answer:
            rows.append(_comparison(whole, answer, text if refuses else team.safe))
    return rows


def _plain(result: AttackResult) -> dict[str, Any]:
    metrics = {"rate": result.rate, "over_plain": result.over_plain}
    dumped = {k: m and m.model_dump(mode="json") for k, m in metrics.items()}
    return {"strategy": result.strategy, **dumped, "p": result.p, "weakness": result.weakness}


def _try_row(t: AttackTry) -> dict[str, Any]:
    own = {"stream": t.stream, "wrote": t.wrote, "success": t.success, "behaviour": t.behaviour}
    dumped = {"request": t.request, "prompt": t.asked, "response": t.reply}
    return own | {k: m and m.model_dump(mode="json") for k, m in dumped.items()}


def attempt_row(t: TriedAttack, held: Container[str]) -> dict[str, Any]:
    """As attempts.jsonl has it; `held`: the behaviours of the side `test`."""
    side = "test" if t.behaviour in held else "train"
    return {
        "strategy": t.strategy, "behaviour": t.behaviour, "side": side, "success": t.success,
        "request": t.request.model_dump(mode="json"), "prompt": t.asked.model_dump(mode="json"),
        "response": t.reply and t.reply.model_dump(mode="json"),
    }  # fmt: skip


def _comparison(asked: Prompt, chosen: str, rejected: str) -> dict[str, Any]:
    """The talk that led there, what should have been said, what should not."""
    turns = [m.model_dump(mode="json", include={"role", "content"}) for m in asked.messages]
    return {"prompt": turns, "chosen": chosen, "rejected": rejected}


def ask_again(team: RedTeam, cases: Path) -> list[tuple[str, str, bool | None]]:
    """Kept successes asked again as they are: strategy, behaviour, whether it still succeeds."""
    names: list[str] = []
    requests: Requests = []
    attempts: list[Attempt] = []
    for place, row in read_rows(cases):
        try:
            if isinstance(row, BadRow):
                raise row
            name, keys = row["strategy"], row["keys"]
            own = {"name": PLAIN} if name == ATTACKER else {"name": name, **keys}
            strategy = chosen_attacks([own])[-1]
            request, asked = (Prompt.model_validate(row[k]) for k in ("request", "prompt"))
            requests.append((str(row["behaviour"]), request))
        except (BadRow, KeyError, TypeError, ValueError) as error:
            what = f"is no case of a red team ({type(error).__name__})"
            raise ConfigError(what, where=f"{cases}:{place}", allowed="regressions.jsonl") from None
        names.append(str(name))
        attempts.append(Attempt(asked, read=strategy.transform(request).read))
    if not names:
        raise DataError(
            "no cases in it", where=str(cases), mend="nothing succeeded, or the wrong file"
        )
    kept = iter(attempts)
    tried = judged_attempts(
        [Strategy("kept", {}, lambda _: next(kept))], requests, team.ask, team.harm
    )
    return [
        (name, t.behaviour, None if t.success is None else bool(t.success))
        for name, t in zip(names, tried, strict=True)
    ]

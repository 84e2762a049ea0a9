"""`accord redteam`: a policy, behaviours and strategies; it leaves figures, cases and preference data.

redteam.json        figures of every strategy, with all that decides them
attacker.jsonl      every attempt of an attacker model: what it wrote, what came of it
attempts.jsonl      every attempt: strategy, behaviour, request, the talk, reply, success
regressions.jsonl   the successes, to be asked again as they are (`--cases`)
preferences.jsonl   the successes as comparisons: the talk, a safe answer, the unsafe reply
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from accord.evals.redteam import AttackResult, TriedAttack, judged_attempts, results_of
from accord.evals.refusal import UNSAFE, sides_of
from accord.pipeline.asked import prompts_of
from accord.store.io.readers import BadRow, read_rows
from accord.worlds.base import World

__all__ = ["SAFE", "AttackLoop", "RedTeam", "ask_again", "attack_policy", "requests_of"]

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
        known = self.world and any(m.name == "harm" for m in self.world.measures)
        score = self.score or ("gold:harm" if known else "refusal:unsafe compliance")
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

    def rewritten(self, t: TriedAttack) -> str:
        """What the reply should have been: the world's own right answer where it has one."""
        case = self.world.by_prompt.get(t.request.id) if self.world else None
        answers = case.candidates if case else ()
        return next((c.text for c in answers if c.kind == "right"), self.safe)


def requests_of(name: str, per: int = 1, limit: int | None = None) -> tuple[Requests, World | None]:
    """Harmful requests with their behaviours, `per` of each, of whatever `prompts_of` knows: a world, a run's
    held-out ones, files. Where prompts are labelled, safe ones are left out."""
    asked = prompts_of([name])
    sides = sides_of(asked.prompts)
    nameless = [p for p, side in zip(asked.prompts, sides, strict=True) if not side]
    if any(sides) and nameless and not asked.world:
        what = f"{len(nameless)} of {len(sides)} prompts have no label, others have"
        where = f"{name}: {nameless[0].last[:40]!r}"
        raise DataError(what, where=where, mend="label all of them safe or unsafe, or none")
    kept: Requests = []
    times: Counter[str] = Counter()
    for prompt, side in zip(asked.prompts, sides, strict=True):
        behaviour = asked.cluster_of(prompt)
        if any(sides) and side not in UNSAFE:
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
    return kept, asked.world


def attack_policy(
    team: RedTeam,
    requests: Requests,
    strategies: Sequence[str | Mapping[str, Any]],
    out: Path,
    facts: Mapping[str, Any] | None = None,
    attacker: Ask | None = None,
    loop: AttackLoop | None = None,
) -> tuple[list[AttackResult], list[TriedAttack]]:
    """Every strategy on every request, and an attacker model's loop where there is one; all of it written to
    `out`."""
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
    successes = [t for t in tried if t.success]
    make_dir(out, "choose another with --out DIR")
    if attacker:
        write_jsonl(out / "attacker.jsonl", [_try_row(t) for t in tries])
    plain = [_plain(r) for r in results]
    write_json(out / "redteam.json", {**(facts or {}), "strategies": hyper, "results": plain})
    write_jsonl(out / "attempts.jsonl", [_row(t) for t in tried])
    write_jsonl(
        out / "regressions.jsonl", [{**_row(t), "keys": hyper[t.strategy]} for t in successes]
    )
    write_jsonl(out / "preferences.jsonl", [_comparison(t, team.rewritten(t)) for t in successes])
    return results, tried


def _plain(result: AttackResult) -> dict[str, Any]:
    metrics = {"rate": result.rate, "over_plain": result.over_plain}
    dumped = {k: m and m.model_dump(mode="json") for k, m in metrics.items()}
    return {"strategy": result.strategy, **dumped, "p": result.p, "weakness": result.weakness}


def _try_row(t: AttackTry) -> dict[str, Any]:
    own = {"stream": t.stream, "wrote": t.wrote, "success": t.success, "behaviour": t.behaviour}
    dumped = {"request": t.request, "prompt": t.asked, "response": t.reply}
    return own | {k: m and m.model_dump(mode="json") for k, m in dumped.items()}


def _row(t: TriedAttack) -> dict[str, Any]:
    return {
        "strategy": t.strategy, "behaviour": t.behaviour, "success": t.success,
        "request": t.request.model_dump(mode="json"), "prompt": t.asked.model_dump(mode="json"),
        "response": t.reply and t.reply.model_dump(mode="json"),
    }  # fmt: skip


def _comparison(t: TriedAttack, safe: str) -> dict[str, Any]:
    """A success as preference data: the talk that led there, what should have been said, what was."""
    turns = [m.model_dump(mode="json", include={"role", "content"}) for m in t.asked.messages]
    return {"prompt": turns, "chosen": safe, "rejected": t.reply.text if t.reply else ""}


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

"""What an earlier red team left, and its strategies tried again after a training: is the weakness closed?

after.json      figures of every strategy before and after, by which policy
after.jsonl     every attempt of it, as attempts.jsonl, and the benign requests, as benign.jsonl
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import read_json, read_jsonl, write_json, write_jsonl
from accord.core.types import Metric, Prompt, Response
from accord.evals.attacker import ATTACKER
from accord.evals.attacks import PLAIN, chosen_attacks
from accord.evals.redteam import AttackChange, TriedAttack, changes_of, judged_attempts
from accord.pipeline.redteaming import RedTeam, asked_plainly, attempt_row

__all__ = ["attack_again", "kept_facts"]

LEFT = ("redteam.json", "attempts.jsonl", "benign.jsonl")


def kept_facts(folder: Path) -> dict[str, Any]:
    """What decided an earlier red team, and its figures; empty where the folder holds none."""
    path = folder / LEFT[0]
    facts = read_json(path) if path.is_file() else {}
    return facts if isinstance(facts, dict) else {}


def attack_again(
    team: RedTeam, folder: Path, facts: Mapping[str, Any] | None = None
) -> list[AttackChange]:
    """The strategies of an earlier red team on the requests of its side `test`, asked anew, beside what came
    of them then, and last whether benign ones are refused. Written to its folder; an attacker model's
    attempts are not repeated."""
    before, benign = _attempts(folder)
    kept = kept_facts(folder)
    names = list(dict.fromkeys(t.strategy for t in before))
    hyper = kept.get("strategies", {})
    strategies = chosen_attacks([{"name": n, **hyper.get(n, {})} for n in names], "strategies")
    requests = {t.request.id: (t.behaviour, t.request) for t in before}
    after = judged_attempts(strategies, list(requests.values()), team.ask, team.harm)
    were = [r["strategy"] for r in kept.get("results", []) if r["weakness"]]
    plain = [(t.behaviour, t.request) for t in benign]
    refused = asked_plainly(team, plain, len(plain))
    changes = [*changes_of(before, after, were), *changes_of(benign, refused, [])]
    held = {t.behaviour for t in (*before, *benign)}
    write_jsonl(folder / "after.jsonl", [attempt_row(t, held) for t in (*after, *refused)])
    write_json(folder / "after.json", {**(facts or {}), "changes": [_plain(c) for c in changes]})
    return changes


def _plain(change: AttackChange) -> dict[str, Any]:
    fields = asdict(change).items()
    return {k: v.model_dump(mode="json") if isinstance(v, Metric) else v for k, v in fields}


def _attempts(folder: Path) -> tuple[list[TriedAttack], list[TriedAttack]]:
    """What was tried on behaviours that gave no comparison, and benign requests. Errors name the file."""
    if missing := [name for name in LEFT if not (folder / name).is_file()]:
        raise ConfigError(
            f"has no {missing[0]}", where=str(folder), allowed="what accord redteam left in --out"
        )
    tried, benign = (_tried(folder / name) for name in LEFT[1:])
    if not any(t.strategy != PLAIN for t in tried):
        raise DataError(
            "all its behaviours are in preferences.jsonl: nothing is left to measure on",
            where=str(folder), mend="run the red team with --test 0.5",
        )  # fmt: skip
    return tried, benign


def _tried(path: Path) -> list[TriedAttack]:
    """The attempts of a file on the side `test`, but those of an attacker model."""
    try:
        return [
            TriedAttack(
                row["strategy"], row["behaviour"], Prompt.model_validate(row["request"]),
                Prompt.model_validate(row["prompt"]),
                row["response"] and Response.model_validate(row["response"]), _success(row["success"]),
            )
            for row in read_jsonl(path)
            if row["side"] == "test" and row["strategy"] != ATTACKER
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
        what = f"holds no attempts of a red team ({type(error).__name__})"
        raise DataError(what, where=str(path)) from None


def _success(value: Any) -> float | None:
    """A share, or None; ValueError for what only looks like one ("false" would count as a success)."""
    if value is None or (isinstance(value, (bool, int, float)) and 0 <= value <= 1):
        return value
    raise ValueError(value)

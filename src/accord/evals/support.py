"""Harbor & Pine: the embedded world where the truth is known, and the gold scorer it allows.

Five axes in [0, 1], each computed from the shop's own rules, never from a model:

accuracy    no invented policy: every quantity stands in the policy or in the customer's message,
            and nothing contradicts the rule
resolution  the answer states the fact that was asked for; a case for people is handed over
escalation  handed to a person exactly when it must be
tone        no rudeness
length      1 up to 20 words, falling to 0 at 40; 0 when the answer was cut off

The gold score is their mean. An empty answer scores 0 on every axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.core.config import read_yaml
from accord.core.errors import DataError
from accord.core.types import Frozen, Prompt, Response

__all__ = ["AXES", "Candidate", "Case", "World", "gold"]

AXES = ("accuracy", "resolution", "escalation", "tone", "length")
FULL_WORDS, NO_WORDS = 20, 40
KEYS = {
    "system", "facts", "lookalikes", "escalations", "handover_regex", "refusal_regex", "rude_regex"
}  # fmt: skip

_QUANTITY = re.compile(
    r"\$\s?(\d+(?:\.\d+)?)"
    r"|(\d+(?:\.\d+)?)\s?(%|percent)"
    r"|(\d+(?:\.\d+)?)[\s-]?(days?|hours?|weeks?|months?|years?|minutes?|km|kg|kilos?|liters?)\b",
    re.IGNORECASE,
)


class Candidate(Frozen):
    """A response of known kind: right, padded, wrong, rude, refusing, flattering, caving, missed."""

    kind: str
    text: str


class Case(Frozen):
    """A customer's message, what would answer it, and candidate responses of known quality."""

    prompt: Prompt
    kind: str  # plain, vague, abusive, false_premise, break_policy, lookalike, escalation
    fact: str | None  # None: must go to a person
    candidates: tuple[Candidate, ...]


class World:
    """The texts of the shop and everything that follows from them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data, _ = read_yaml(path)
        missing = KEYS - set(self.data)
        if missing:
            raise DataError(f"lacks {', '.join(sorted(missing))}", where=str(path))
        try:
            self.facts: dict[str, dict[str, Any]] = {f["id"]: f for f in self.data["facts"]}
            self.handover, self.refusal, self.rude = (
                re.compile(self.data[f"{name}_regex"], re.IGNORECASE)
                for name in ("handover", "refusal", "rude")
            )
            _ = self.cases, self.quantities
        except (KeyError, TypeError, AttributeError, ValueError, re.error) as error:
            raise DataError(
                f"is not a world of this form ({type(error).__name__}: {error})",
                where=str(path),
                mend="compare it with recipes/support/world.yaml",
            ) from None

    @cached_property
    def cases(self) -> list[Case]:
        """Every message of the world once, in the file's order."""
        return [*self._fact_cases(), *self._lookalikes(), *self._escalations()]

    @cached_property
    def by_prompt(self) -> dict[str, Case]:
        """The cases by prompt id."""
        return {case.prompt.id: case for case in self.cases}

    @cached_property
    def quantities(self) -> set[str]:
        """Every quantity any policy states."""
        return set().union(*(quantities(f["policy"]) for f in self.facts.values()))

    def _case(self, text: str, kind: str, fact: str | None, found: list[tuple[str, str]]) -> Case:
        prompt = Prompt.user(text, system=self.data["system"], kind=kind, fact=fact or "none")
        candidates = tuple(Candidate(kind=k, text=t) for k, t in found)
        return Case(prompt=prompt, kind=kind, fact=fact, candidates=candidates)

    def _fact_cases(self) -> Iterator[Case]:
        for f in self.facts.values():
            asked = [(kind, text) for kind in ("plain", "vague", "abusive") for text in f[kind]]
            for i, (kind, text) in enumerate(asked):
                rude = f["rude"] if isinstance(f["rude"], str) else f["rude"][0]
                yield self._case(text, kind, f["id"], [
                    ("right", _turn(f["answers"], i)),
                    ("padded", _turn(f["padded"], i)),
                    ("wrong", _turn(f["wrong"], i)),
                    ("rude", rude) if i % 3 == 0 else ("wrong", _turn(f["wrong"], i + 1)),
                ])  # fmt: skip
            for i, item in enumerate(f["false_premise"]):
                yield self._case(item["text"], "false_premise", f["id"], [
                    ("right", item["correct"]),
                    ("flattering", item["flatter"]),
                    ("wrong", _turn(f["wrong"], i)),
                ])  # fmt: skip
            for i, item in enumerate(f["break_policy"]):
                yield self._case(item["text"], "break_policy", f["id"], [
                    ("right", item["hold"]),
                    ("caving", item["cave"]),
                    ("wrong", _turn(f["wrong"], i)),
                ])  # fmt: skip

    def _lookalikes(self) -> Iterator[Case]:
        for i, item in enumerate(self.data["lookalikes"]):
            f = self.facts[item["fact"]]
            yield self._case(item["text"], "lookalike", f["id"], [
                ("right", _turn(f["answers"], i)),
                ("refusing", item["refuse"]),
                ("padded", _turn(f["padded"], i)),
            ])  # fmt: skip

    def _escalations(self) -> Iterator[Case]:
        for item in self.data["escalations"]:
            yield self._case(item["text"], "escalation", None, [
                ("right", item["handover"]),
                ("missed", item["missed"]),
            ])  # fmt: skip


def _turn(texts: list[str], i: int) -> str:
    return texts[i % len(texts)]


def quantities(text: str) -> set[str]:
    """Amounts with units in a text, normalised: {"45 day", "$8", "15 %"}."""
    found = set()
    for money, share, _, number, unit in _QUANTITY.findall(text):
        if money:
            found.add(f"${float(money):g}")
        elif share:
            found.add(f"{float(share):g} %")
        else:
            found.add(f"{float(number):g} {unit.lower().rstrip('s')}".replace("kilo", "kg"))
    return found


def gold(world: World, case: Case, response: Response) -> dict[str, float]:
    """The five axes and their mean under the key "gold"."""
    text = response.text.strip()
    if not text:
        return dict.fromkeys((*AXES, "gold"), 0.0)
    handed = bool(world.handover.search(text))
    asked = quantities(case.prompt.last)
    if case.fact is None:
        accurate = quantities(text) <= world.quantities | asked
        resolved = handed
    else:
        f = world.facts[case.fact]
        contradicts = any(re.search(p, text, re.IGNORECASE) for p in f.get("forbid", ()))
        accurate = quantities(text) <= quantities(f["policy"]) | asked and not contradicts
        stated = all(re.search(p, text, re.IGNORECASE) for p in f["must"])
        resolved = stated and accurate and not world.refusal.search(text)
    words = len(text.split())
    brief = min(1.0, max(0.0, (NO_WORDS - words) / (NO_WORDS - FULL_WORDS)))
    axes = {
        "accuracy": float(accurate),
        "resolution": float(resolved),
        "escalation": float(handed == (case.fact is None)),
        "tone": float(not world.rude.search(text)),
        "length": 0.0 if response.finish == "length" else brief,
    }
    return {**axes, "gold": sum(axes.values()) / len(axes)}

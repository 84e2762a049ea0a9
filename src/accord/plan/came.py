"""What came in, by category: prompts that people labelled, how far they agree, and how often a judge says
what they say. A rater has one say on a pair, the last; people are `human`, or simulated ones."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

from accord.core.types import Rater
from accord.feedback.trust.ballots import category
from accord.plan.budget import Agreed, Came
from accord.store import Snapshot
from accord.store.snapshot.pairs import by_pair, votes

__all__ = ["Measured", "came_in"]


@dataclass
class Measured:
    """Of one category. Agreement is counted over two people, or a person and a judge, on one pair; where one
    of them sees a tie, half of it."""

    prompts: int = 0
    judged: int = 0
    pairs: int = 0
    votes: int = 0
    together: int = 0
    agree: float = 0.0
    checked: int = 0
    same: float = 0.0

    @property
    def there(self) -> Came:
        overlap = self.votes / self.pairs if self.pairs else 1.0
        return Came(self.prompts, overlap, self.judged)

    @property
    def rater(self) -> Agreed | None:
        """How often one person is right: two who are right with q agree with q² + (1-q)²."""
        if not self.together:
            return None
        q = (1 + (2 * max(0.5, self.agree / self.together) - 1) ** 0.5) / 2
        return Agreed(right=round(q * self.together), of=self.together)

    @property
    def judge(self) -> Agreed | None:
        return Agreed(right=round(self.same), of=self.checked) if self.checked else None


def came_in(snapshot: Snapshot, tag: str) -> dict[str, Measured]:
    """By the value of this tag of a prompt."""
    by_tag: dict[str, Measured] = defaultdict(Measured)
    tables = snapshot.tables
    for prompt, pairs in by_pair(votes(snapshot.judgments, tables)[0]).items():
        one = by_tag[tables.prompts[prompt].tags.get(tag, "")]
        by_people = by_judges = False
        for cast in pairs.values():
            vote_of = {v.rater: v.value for v in cast}
            people = [value for r, value in vote_of.items() if _person(tables.raters[r])]
            judges = [value for r, value in vote_of.items() if tables.raters[r].kind == "model"]
            by_people |= bool(people)
            by_judges |= bool(judges)
            one.pairs += bool(people)
            one.votes += len(people)
            for a, b in itertools.combinations(people, 2):
                one.together += 1
                one.agree += _agreement(a, b)
            for a, b in itertools.product(people, judges):
                one.checked += 1
                one.same += _agreement(a, b)
        one.prompts += by_people
        one.judged += by_judges and not by_people
    return by_tag


def _person(rater: Rater) -> bool:
    return rater.kind == "human" or bool(rater.facts.get("simulated"))


def _agreement(a: float, b: float) -> float:
    """1 when both take the same side, 0 when the other, 1/2 when one of them sees a tie."""
    one, two = (float(category(x)) for x in (a, b))
    return one * two + (1 - one) * (1 - two)

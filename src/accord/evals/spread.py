"""How unlike a policy's own samples of one message are: less where a judge, or a reward, knows one way alone.

Of two texts 1 - 2|a ∩ b| / (|a| + |b|), a and b the multisets of their word pairs, ends of the text among
them (Dice): 0 where they are the same, 1 where they begin and end otherwise and no two words
follow each other in both. A message's spread is
the mean over pairs of its samples, drawn at one temperature whoever is asked.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from accord.core.measure import Measure
from accord.core.types import Prompt
from accord.evals.base import EvaluationContext, Scores, evaluation

__all__ = ["SPREAD", "apart", "spread"]

SPREAD = Measure(
    name="spread", title="spread of samples", bounded=True,
    meaning="how unlike samples of one message are: 1 less the share of word pairs that two have in common",
)  # fmt: skip
SAMPLES = 4
WORD = re.compile(  # letters that no space parts (Chinese, Japanese, Thai) are words of their own
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\W_\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+"
)


def apart(texts: Sequence[str]) -> float:
    """Mean over pairs of texts of what they do not have in common, from 0 to 1; two at least."""
    pairs = [_pairs(text) for text in texts]
    shares = [
        1 - 2 * (a & b).total() / (a.total() + b.total())
        for a, b in itertools.combinations(pairs, 2)
    ]
    return sum(shares) / len(shares)


def _pairs(text: str) -> Counter[tuple[str, str]]:
    return Counter(itertools.pairwise(["", *WORD.findall(text.lower()), ""]))


@evaluation("spread", measures=[SPREAD], asks=SAMPLES)
def spread(
    context: EvaluationContext,
    *,
    n: Annotated[int, Field(ge=2)] = SAMPLES,
    temperature: Annotated[float, Field(gt=0.0)] = 1.0,
    prompts: Annotated[int, Field(ge=1)] = 40,
) -> Callable[[Sequence[Prompt]], list[Scores]]:
    """How unlike `n` samples of a message are, of the first `prompts` of them."""

    def score(asked: Sequence[Prompt]) -> list[Scores]:
        assert context.asker
        some = context.asker.samples(asked[:prompts], n, temperature)
        rows = [{SPREAD.name: apart([r.text for r in own])} if len(own) > 1 else {} for own in some]
        return [*rows, *({} for _ in asked[prompts:])]

    return score

"""The figures of policies and of best-of-n, from n answers to each prompt.

Legend: P prompts, N answers to each. Every interval is over prompts, those of a group together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from accord.core.measure import Measure
from accord.core.types import Metric
from accord.evals.base import measured
from accord.pipeline.stages.kl_frontier import ERROR, KL, RATIO, REWARD, RIGHT, SURE
from accord.stats.best_of_n import best_of_n_kl, expected_best
from accord.stats.calibration import calibration_error
from accord.stats.intervals import paired_difference

__all__ = ["ScoredAnswers", "best_of", "doublings", "orders", "policy_figures"]

Floats = NDArray[np.float64]
Figures = dict[str, Metric]
APART = 1e-9  # true scores nearer than this are one
DIGITS = 12  # beyond them means differ by how they were added up


@dataclass(frozen=True)
class ScoredAnswers:
    """What is known of a policy's answers: by measure [P, N], and each prompt's cluster [P]. `truth` is the
    measure of the true score among them, None where the world isn't known."""

    values: Mapping[str, Floats]
    clusters: Sequence[str]
    truth: Measure | None

    def paid(self) -> list[Measure]:
        """What may be gained: the true score and the learned reward."""
        return [m for m in (self.truth, REWARD) if m]

    def means(self, name: str) -> Floats:
        """Means [P] over each prompt's answers."""
        return np.asarray(self.values[name].mean(1), dtype=float)


def policy_figures(own: ScoredAnswers, reference: ScoredAnswers) -> Figures:
    """A policy's own means, what it gained on the reference's answers to the same prompts, and how far the
    reward model is right on its answers."""
    each = [*own.paid(), KL, RATIO]
    figures = {m.name: measured(m, own.means(m.name).tolist(), own.clusters) for m in each}
    if own is reference:
        figures[KL.name] = Metric(value=0.0, n=len(own.clusters), note="the reference").of(KL)
    else:
        figures |= _gained({m.name: own.means(m.name) for m in own.paid()}, reference)
    return figures | orders(own)


def best_of(reference: ScoredAnswers, n: int) -> Figures:
    """What the answer with the highest reward among n of the reference's is expected to be: of all draws of n
    from the N that there are. Its KL is at most the one given."""
    best = {
        m.name: np.array([
            expected_best(by_N.tolist(), n, value_N.tolist())
            for by_N, value_N in zip(reference.values[REWARD.name], reference.values[m.name], strict=True)
        ])
        for m in reference.paid()
    }  # fmt: skip
    figures = {
        m.name: measured(m, best[m.name].tolist(), reference.clusters) for m in reference.paid()
    }
    most = Metric(
        value=best_of_n_kl(n), n=len(reference.clusters), method="log n - (n-1)/n", note="at most"
    )
    figures[KL.name] = most.of(KL)
    return figures | _gained(best, reference) if n > 1 else figures


def _gained(after: Mapping[str, Floats], reference: ScoredAnswers) -> Figures:
    """Differences of means [P] from the reference's, paired by prompt."""
    figures = {}
    for m in reference.paid():
        apart = paired_difference(
            *(x.round(DIGITS).tolist() for x in (after[m.name], reference.means(m.name))),
            bounded=m.span is not None, span=m.span or 1.0, clusters=reference.clusters,
        )  # fmt: skip
        figures[f"{m.name} gained"] = apart.of(m.difference())
    return figures


def orders(own: ScoredAnswers) -> Figures:
    """Of all pairs of answers to a prompt of which one is truly better: how often the reward model says which
    (equal rewards half), how often it expects to, and how far its probabilities are from what is true."""
    if own.truth is None:
        return {}
    gaps, won, clusters = list[float](), list[float](), list[str]()
    rows = zip(own.values[REWARD.name], own.values[own.truth.name], own.clusters, strict=True)
    for reward_N, truth_N, cluster in rows:
        for i, j in itertools.combinations(range(len(truth_N)), 2):
            if abs(truth_N[i] - truth_N[j]) > APART:
                gaps.append(float(reward_N[i] - reward_N[j]))
                won.append(float(truth_N[i] > truth_N[j]))
                clusters.append(cluster)
    hits = [
        0.5 if gap == 0 else float((gap > 0) == (first > 0))
        for gap, first in zip(gaps, won, strict=True)
    ]
    predicted = special.expit(np.array(gaps))
    return {
        RIGHT.name: measured(RIGHT, hits, clusters),
        SURE.name: measured(SURE, np.maximum(predicted, 1 - predicted).tolist(), clusters),
        ERROR.name: calibration_error(predicted.tolist(), won, clusters).of(ERROR),
    }


def doublings(most: int) -> list[int]:
    """1, 2, 4… up to `most`, and that."""
    return sorted({*(2**k for k in range(most.bit_length())), most})

"""What answers to different prompts share: passages, openings, whole answers.

Whether an answer shares anything depends on which others its policy gave, so it is counted anew for each
exchange. Legend: G things shared (answer sets, each once), M answers, B exchanges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from accord.core.types import Verdict
from accord.detect.base import Detector, Reply
from accord.detect.paired import Exchanges, Floats, shared_out, verdict

__all__ = ["by_sharing"]

BLOCK = 4_000_000  # counts held at once


def by_sharing(
    name: str, parts: Callable[[Reply], Iterable[Hashable]], *, says: str, smallest: float, large: float
) -> Detector:  # fmt: skip
    """A detector of the share of answers that have a part in common with an answer to another prompt."""

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        given = shared_out(after, before)
        if given is None:
            return verdict(name, None, np.array([]), says=says, smallest=smallest, large=large)
        holds_GM = _sets(given, parts)
        score_M = np.where(
            given.after_M, *(_shares(holds_GM, s[None])[0] for s in (given.after_M, ~given.after_M))
        ).astype(float)
        return verdict(
            name, given, score_M, says=says, smallest=smallest, large=large,
            change=lambda after_BM: _change(holds_GM, after_BM),
            clear_M=_having(holds_GM, given.after_M),
        )  # fmt: skip

    return look


def _sets(given: Exchanges, parts: Callable[[Reply], Iterable[Hashable]]) -> sparse.csr_matrix:
    """The sets of answers that have a part in common, [G, M]; several parts of one set count once. Of several
    answers to one prompt the first with a part has it: a policy may repeat itself there."""
    having: dict[Hashable, dict[int, int]] = defaultdict(dict)
    for m, reply in enumerate(given.replies):
        place = int(given.prompt_M[m]) * 2 + int(given.after_M[m])
        for part in parts(reply):
            having[part].setdefault(place, m)
    sets = sorted(
        {tuple(sorted(members.values())) for members in having.values() if len(members) > 1}
    )
    rows = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    columns = np.array([m for s in sets for m in s], dtype=np.int64)
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_matrix((ones, (rows, columns)), (len(sets), len(given.replies)))


def _shares(holds_GM: sparse.csr_matrix, side_BM: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each answer of the side has a part in common with another of it."""
    common_GB = (holds_GM @ side_BM.T.astype(np.float32)) >= 2
    return np.asarray(((holds_GM.T @ common_GB.astype(np.float32)) > 0).T & side_BM)


def _having(holds_GM: sparse.csr_matrix, after_M: NDArray[np.bool_]) -> Floats:
    """How many answers after have the part that an answer shares with most."""
    count_G = np.asarray(holds_GM @ after_M.astype(np.float32)).ravel()
    most = holds_GM.multiply(count_G[:, None]).max(axis=0) if len(count_G) else None
    return np.zeros(len(after_M)) if most is None else np.asarray(most.toarray(), float).ravel()


def _change(holds_GM: sparse.csr_matrix, after_BM: NDArray[np.bool_]) -> Floats:
    step = max(1, BLOCK // max(1, holds_GM.shape[0] + holds_GM.shape[1]))
    changes = []
    for start in range(0, len(after_BM), step):
        after = after_BM[start : start + step]
        shares = (_shares(holds_GM, side).sum(1) / side.sum(1) for side in (after, ~after))
        changes.append(np.subtract(*shares))
    return np.concatenate(changes)

"""Answers that grow alike: a policy that has found one way to please."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from accord.core.types import Verdict
from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import Floats, shared_out, verdict
from accord.detect.texts import words

__all__ = ["diversity"]

MOST = 1_500  # answers that are compared with each other


@detector("diversity", version=2, panel=True)
def diversity(context: DetectorContext, *, smallest: float = 0.04, large: float = 0.1) -> Detector:
    """Mean cosine similarity of two answers of a policy, rare words weighing more (TF-IDF over both policies'
    answers): length hardly moves it."""

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        few = (list(side)[: MOST // 2] for side in (after, before))
        given = shared_out(*few)
        if given is None:
            says = "answers grow alike"
            return verdict(
                "diversity", None, np.array([]), says=says, smallest=smallest, large=large
            )
        alike_MM = _alike([r.text for r in given.replies])

        def change(after_BM: np.ndarray) -> Floats:
            sides = (after_BM.astype(np.float32), (~after_BM).astype(np.float32))
            likeness = [((s @ alike_MM) * s).sum(1) / (s.sum(1) * (s.sum(1) - 1)) for s in sides]
            return np.asarray(likeness[0] - likeness[1], dtype=float)

        side = given.after_M
        own = np.where(side[:, None] == side[None], alike_MM, 0.0).sum(1)
        score_M = own / (np.where(side, side.sum(), (~side).sum()) - 1)
        return verdict(
            "diversity", given, score_M, says="answers grow alike", smallest=smallest, large=large,
            change=change,
        )  # fmt: skip

    return look


def _alike(texts: Sequence[str]) -> np.ndarray:
    """Cosine similarities, 0 on the diagonal."""
    counts = [Counter(words(t)) for t in texts]
    in_texts = Counter(w for c in counts for w in c)
    column = {w: k for k, w in enumerate(in_texts)}
    rows = np.repeat(np.arange(len(texts)), [len(c) for c in counts])
    columns = [column[w] for c in counts for w in c]
    weights = [np.log1p(n) * np.log(len(texts) / in_texts[w]) for c in counts for w, n in c.items()]
    matrix = sparse.csr_matrix((weights, (rows, columns)), (len(texts), len(column)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    matrix = sparse.diags(1 / np.maximum(norms, 1e-12)) @ matrix
    alike = (matrix @ matrix.T).toarray().astype(np.float32)
    np.fill_diagonal(alike, 0.0)
    return np.asarray(alike)

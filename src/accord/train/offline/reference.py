"""Reference log-probs are data: computed once with the starting weights, cached by content.

They are kept token by token: sums, means and the part beyond a length are taken where they are needed.
The key is (weights, precision of the forward pass, token ids), so a resumed run, a second epoch and a
sweep over beta all read the same file, and a trained policy can never be taken for its own reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from accord.core.hashing import content_hash
from accord.core.rundir import beside, drop_abandoned
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree, hash_trees

__all__ = ["reference_logps"]

SHARD = 16  # micro-batches between two writes


def reference_logps(
    engine: Engine,
    trees: Sequence[Tree],
    weights: str,
    tokens: int,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """`token_logps` through the cache folder; call it before the first optimiser step.

    `weights` is the content hash of the starting weights. Shards already there are not recomputed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    dtype = str(next(engine.model.parameters()).dtype)
    order = sorted(range(len(trees)), key=lambda i: (trees[i].tokens, i))  # even shards
    size = max(1, SHARD * tokens // max(1, max(t.tokens for t in trees)))
    how = [dtype, engine.forward_precision, engine.mode, tokens, size]
    key = content_hash(["token log-probs 2", weights, how, hash_trees(trees)])
    logps: dict[int, Tensor] = {}

    def progress(done: int, _: int) -> None:
        if on_progress:
            on_progress(len(logps) + done, len(order))

    for start in range(0, len(order), size):
        part = order[start : start + size]
        path = cache / f"{key[:24]}-{start}.safetensors"
        shard = _read(path, part)
        if shard is None:
            values = token_logps(engine, [trees[i] for i in part], tokens, progress)
            shard = {str(i): v.clone() for i, v in zip(part, values, strict=True)}
            drop_abandoned(path)
            save_file(shard, beside(path))
            beside(path).replace(path)
        logps |= {i: shard[str(i)] for i in part}
        progress(0, 0)
    return [logps[i] for i in range(len(trees))]


def _read(path: Path, part: Sequence[int]) -> dict[str, Tensor] | None:
    """A shard with all of its items; None, to be computed again, when it is missing or damaged."""
    try:
        shard: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError):
        return None
    return shard if shard.keys() == {str(i) for i in part} else None

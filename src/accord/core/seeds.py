"""Seeds: one number in the recipe, a stream of its own for each use.

Streams are derived by name, so that adding a consumer never shifts another's numbers.
"""

from __future__ import annotations

import hashlib
import random

__all__ = ["derive_seed", "rng"]


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under the run's `seed`."""
    text = "/".join(str(n) for n in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(seed: int, *names: str | int) -> random.Random:
    """A `random.Random` of its own for the stream called `names`."""
    return random.Random(derive_seed(seed, *names))

"""Answers that others foretell: what a compressor saves of each that has read the others."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from accord.core.hashing import content_hash
from accord.core.types import Verdict
from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import Exchanges, shared_out, verdict

__all__ = ["compression"]

WINDOW = 32_000  # bytes that deflate remembers


@detector("compression", panel=True)
def compression(
    context: DetectorContext, *, smallest: float = 0.06, large: float = 0.15
) -> Detector:
    """The share of an answer's bytes that deflate saves after reading the answers of both policies to the
    prompts after it, up to 32 kB: what is shared in whatever form, phrases and forms that no list knows."""

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        given = shared_out(after, before)
        saved_M = np.array(_saved(given) if given else [])
        return verdict(
            "compression", given, saved_M, says="answers are foretold by each other",
            smallest=smallest, large=large,
        )  # fmt: skip

    return look


def _saved(given: Exchanges) -> list[float]:
    """Of each answer; of one that says nothing it is not known. Prompts follow each other by their ids'
    hashes: where the sides share none, each is foretold by both all the same."""
    texts = [r.text.encode() for r in given.replies]
    numbers = given.prompt_M.tolist()
    ids = [
        (content_hash(r.exchange.prompt.id), k) for r, k in zip(given.replies, numbers, strict=True)
    ]
    by_prompt: dict[tuple[str, int], list[bytes]] = {}
    for prompt, text in sorted(
        zip(ids, texts, strict=True)
    ):  # the same whichever side an answer is on
        by_prompt.setdefault(prompt, []).append(text)
    every = list(by_prompt.values())
    pools = {prompt: _pool(every, k) for k, prompt in enumerate(by_prompt)}
    return [
        1 - _size(text, pools[prompt]) / len(text) if text else math.nan
        for prompt, text in zip(ids, texts, strict=True)
    ]


def _pool(by_prompt: Sequence[Sequence[bytes]], prompt: int) -> bytes:
    """What is answered to the prompts after it, round to itself, as far as the window goes."""
    kept, size = list[bytes](), 0
    for step in range(1, len(by_prompt)):
        for text in by_prompt[(prompt + step) % len(by_prompt)]:
            kept.append(text)
            size += len(text) + 1
        if size > WINDOW:
            break
    return b"\n".join(kept)[:WINDOW]


def _size(text: bytes, known: bytes) -> int:
    """Bytes of a text for whoever has read what is known."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=known)
    return len(coder.compress(text) + coder.flush())

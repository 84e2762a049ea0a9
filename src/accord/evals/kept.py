"""Replies and scores are kept apart, so that a change of scoring samples nothing again.

cache/replies/<key>.jsonl    the replies of (policy, prompts, sampling)
cache/scores/<key>.jsonl     the scores of (replies, evaluation, its config and version)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError
from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl, write_jsonl
from accord.core.types import Exchange, Prompt, Response
from accord.evals.base import ChosenEvaluation, EvaluationContext, identity, scored

__all__ = ["replies", "scores"]

SAMPLED = 1  # raise it when the same policy, prompts and sampling give other replies


def replies(
    folder: Path,
    policy: str,
    prompts: Sequence[Prompt],
    sampling: Mapping[str, Any],
    sample: Callable[[], Sequence[Response]],
) -> list[Exchange]:
    """The kept replies, or those that `sample` gives, kept from now on.

    Args:
        folder: the cache.
        policy: what identifies its weights, tokenizer and template (`lm.chain.identity`).
        prompts: in order; a reply to each.
        sampling: all that decides a reply beside them, the size of batches included: rounding depends on it.
        sample: asked where nothing is kept.
    """
    ids = [content_hash(p.model_dump(mode="json")) for p in prompts]
    file = folder / "replies" / f"{content_hash([SAMPLED, policy, ids, dict(sampling)])[:24]}.jsonl"
    rows = _read(file, len(prompts))
    if rows is None:
        rows = [r.model_dump(mode="json") for r in sample()]
        _write(file, rows)
    responses = [Response.model_validate(row) for row in rows]
    return [Exchange(prompt=p, response=r) for p, r in zip(prompts, responses, strict=True)]


def scores(
    folder: Path,
    evaluation: ChosenEvaluation,
    context: EvaluationContext,
    exchanges: Sequence[Exchange],
) -> list[dict[str, float]] | None:
    """The kept scores of these replies, or new ones; None where the evaluation has nothing to say."""
    plain = [
        [e.prompt.model_dump(mode="json"), e.response.model_dump(mode="json", exclude={"source"})]
        for e in exchanges
    ]
    key = content_hash([identity(evaluation, context), plain])[:24]
    file = folder / "scores" / f"{evaluation.name}-{key}.jsonl"
    rows = _read(file, len(exchanges))
    if rows is None:
        rows = scored(evaluation, context, exchanges)
        if rows is not None:
            _write(file, rows)
    return rows


def _read(file: Path, n: int) -> list[dict[str, Any]] | None:
    """What is kept; None where nothing whole is."""
    try:
        rows = read_jsonl(file)
    except (OSError, AccordError):
        return None
    return rows if len(rows) == n else None


def _write(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(file, rows)

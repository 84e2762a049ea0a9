"""Replies and scores are kept apart, so that a change of scoring samples nothing again.

cache/replies/<key>.jsonl    the replies of (policy, sampling), a prompt a line, written as they come
cache/scores/<key>.jsonl     the scores of (replies, evaluation, its config and version)
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError
from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl, write_jsonl
from accord.core.types import Exchange, Prompt, Response
from accord.evals.base import ChosenEvaluation, EvaluationContext, identity, scored

__all__ = ["KeptReplies", "replies", "scores"]

SAMPLED = 2  # raise it when the same policy, prompts and sampling give other replies


class KeptReplies:
    """The replies of a policy under one sampling, by prompt. Each is on disk when `keep` returns; a line that
    a kill has cut is as if it had never been."""

    def __init__(self, folder: Path | None, policy: str, sampling: Mapping[str, Any]) -> None:
        """
        Args:
            folder: the cache; None keeps in memory alone.
            policy: what identifies its weights, tokenizer and template (`lm.chain.identity`), or a server
                and the model there.
            sampling: all that decides a reply beside them and its prompt.
        """
        key = content_hash([SAMPLED, policy, dict(sampling)])[:24]
        self.file = folder / "replies" / f"{key}.jsonl" if folder else None
        self._lock = threading.Lock()
        self._known: dict[str, list[Response]] = {}
        if self.file and self.file.is_file():
            for line in self.file.read_bytes().splitlines():
                self._read(line)

    def _read(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self._known[row["prompt"]] = [Response.model_validate(r) for r in row["replies"]]
        except (ValueError, KeyError, TypeError):
            return  # cut off, or another's

    def of(self, prompt: Prompt) -> list[Response] | None:
        """Its replies, where they are known."""
        return self._known.get(prompt.id)

    def keep(self, prompt: Prompt, answers: Sequence[Response]) -> None:
        """From now on these are its replies."""
        with self._lock:
            self._known[prompt.id] = list(answers)
            if self.file:
                row = {"prompt": prompt.id, "replies": [r.model_dump(mode="json") for r in answers]}
                _append(self.file, json.dumps(row).encode())


def _append(file: Path, line: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as opened:
        end = opened.seek(0, 2)
        if end and (opened.seek(end - 1), opened.read(1))[1] != b"\n":
            line = b"\n" + line  # behind what a kill has cut
        opened.write(line + b"\n")


def replies(
    folder: Path,
    policy: str,
    prompts: Sequence[Prompt],
    sampling: Mapping[str, Any],
    sample: Callable[[Sequence[Prompt], int], Sequence[Sequence[Response]]],
    parts: Sequence[Sequence[Prompt]] = (),
) -> list[list[Exchange]]:
    """The kept replies to each prompt, or those that `sample` gives, kept from now on: of each part all or
    none, for which prompts are answered together decides a reply's last bits.

    Args:
        folder, policy: as of `KeptReplies`.
        prompts: in order.
        sampling: with how many to each, and the size of batches, for rounding depends on it.
        sample: asked for a part of which not all are kept, and how many prompts stand in parts before it.
        parts: the prompts by what is answered together; all of them by default.
    """
    kept = KeptReplies(folder, policy, {**sampling, "together": [p.id for p in prompts]})
    before = 0
    for part in parts or [prompts]:
        if not all(map(kept.of, part)):
            for prompt, answers in zip(part, sample(part, before), strict=True):
                kept.keep(prompt, answers)
        before += len(part)
    return [[Exchange(prompt=p, response=r) for r in kept.of(p) or []] for p in prompts]


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

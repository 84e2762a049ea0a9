"""What `accord audit` looks at: the policies of a run by their kept answers, or files of answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.measure import Measure
from accord.core.types import Exchange, Prompt, Response
from accord.detect.base import READING, DetectorContext, Reply, configured, needs
from accord.detect.panel import looked
from accord.evals.base import scores_of
from accord.store.io.formats import convert, detect
from accord.store.io.readers import BadRow, read_rows
from accord.store.io.schemas import question

__all__ = ["audit", "context_of", "notes", "of_files", "of_run", "replies_of", "verdicts_of"]

Row = dict[str, Any]
Verdicts = list[Row]
ASKED = ("prompt", "instruction", "question", "input", "messages")
SAID = ("response", "output", "answer", "completion", "generation", "prediction")
PROXY, TRUTH, DISTANCE = ("reward", "score"), ("gold", "truth"), ("kl", "log_ratio")


def audit(
    answers: Mapping[str, Sequence[Reply]],
    context: DetectorContext,
    names: Sequence[str] | str = "all",
    baseline: str | None = None,
) -> Verdicts:
    """Every detector's verdict of each policy against the one before it, or against `baseline`."""
    if baseline is not None and baseline not in answers:
        raise ConfigError(
            f"no answers of {baseline!r}", where="--baseline", allowed=", ".join(answers)
        )
    policies = list(answers)
    pairs = [(b, a) for a, b in itertools.pairwise(policies)]
    if baseline is not None:
        pairs = [(p, baseline) for p in policies if p != baseline]
    if not pairs:
        what = f"answers of {len(policies)} policies, and an audit holds one against another"
        mend = "evaluate two policies or more (a stage of kind eval)"
        raise DataError(what, where="audit", mend=mend)
    makes = [make for _, _, make in configured(names, "--detector")]
    return looked(makes, context, answers, pairs)


def notes(answers: Mapping[str, Sequence[Reply]], rows: Verdicts) -> list[str]:
    """Of pairs of policies that share hardly any prompt: that what differs may be the prompts."""
    texts = []
    for after, before in dict.fromkeys((row["policy"], row["before"]) for row in rows):
        own, other = ({r.exchange.prompt.id for r in answers[side]} for side in (after, before))
        if 2 * len(own & other) < min(len(own), len(other)):
            texts.append(
                f"{after} and {before} share {len(own & other)} of {min(len(own), len(other))} prompts: a "
                "difference may be that of the prompts; are they spelt alike?"
            )
    return texts


def context_of(measures: Mapping[str, Measure]) -> DetectorContext:
    """Which of the figures are a learned model's word, which the truth, as they were declared."""
    roles: dict[str | None, str] = {}
    for m in measures.values():
        roles.setdefault(m.role, m.name)
    spans = {m.name: m.span for m in measures.values() if m.span is not None}
    return DetectorContext(roles.get("proxy"), roles.get("truth"), roles.get("distance"), spans)


def replies_of(rows: Sequence[Row]) -> list[Reply]:
    """Rows of an evaluation's answers.jsonl."""
    return [
        Reply(
            Exchange(
                prompt=Prompt.model_validate(row["prompt"]),
                response=Response.model_validate(row["response"]),
            ),
            scores_of(row),
        )
        for row in rows
    ]


def of_run(path: Path) -> tuple[dict[str, list[Reply]], DetectorContext]:
    """The kept answers of a run's policies, in the order of its recipe."""
    from accord.pipeline.manifest import finished
    from accord.pipeline.report.gather import Outputs

    outputs = Outputs.read(finished(path)[2])
    answers = {policy: replies_of(rows) for policy, rows in outputs.answers.items()}
    return answers, context_of(outputs.measures)


def verdicts_of(
    run: Path, detector: str, rewards: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, list[Reply]], DetectorContext, Verdicts]:
    """A run's kept answers and the whole panel's verdicts; for a detector that needs it the reward models of
    its recipe's `rewards` read them first."""
    from accord.pipeline.reading import read_as_paid

    answers, context = of_run(run)
    if needs(detector) == READING:
        answers, context = read_as_paid(answers, context, rewards, run)
    return answers, context, audit(answers, context, "all")


def of_files(paths: Sequence[Path]) -> tuple[dict[str, list[Reply]], DetectorContext]:
    """Answers of a file each; numbers named reward or score, gold or truth, kl or log_ratio are what
    they say."""
    answers = {name: _file(path) for name, path in zip(_names(paths), paths, strict=True)}
    there = [{k for r in side for k in r.scores} for side in answers.values()]
    both = set.intersection(*there)
    proxy, truth, distance = (
        next((n for n in names if n in both), None) for names in (PROXY, TRUTH, DISTANCE)
    )
    return answers, DetectorContext(proxy, truth, distance)


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names of files, their whole paths where these would be one."""
    short = [p.name.removesuffix(".gz").rpartition(".")[0] or p.name for p in paths]
    return short if len(set(short)) == len(short) else [str(p) for p in paths]


def _file(path: Path) -> list[Reply]:
    replies = []
    for place, row in read_rows(path):
        try:
            if isinstance(row, BadRow):
                raise row
            replies.append(_reply(row))
        except BadRow as bad:
            where = f"{path}:{place} {bad.field}".rstrip()
            raise DataError(bad.reason, where=where, allowed=bad.allowed) from None
    if not replies:
        raise DataError("no answers in it", where=str(path), allowed="rows of prompt and response")
    return replies


def _reply(row: Row) -> Reply:
    asked = next((k for k in ASKED if row.get(k)), None)
    answer = next((k for k in SAID if k in row), None)
    if asked is None or answer is None:
        exchange = _published(row)
    elif isinstance(row[asked], dict) and isinstance(row[answer], dict):
        return _kept(row, asked, answer)
    else:
        prompt = Prompt(messages=question(row[asked], asked))
        exchange = Exchange(prompt=prompt, response=_response(row, answer))
    scores = {
        k: float(v)
        for k, v in row.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    }
    return Reply(exchange, scores)


def _kept(row: Row, asked: str, answer: str) -> Reply:
    """A row that accord wrote."""
    try:
        return replies_of([{**row, "prompt": row[asked], "response": row[answer]}])[0]
    except ValueError:
        allowed = "a text, or a prompt and a response as accord writes them"
        raise BadRow(asked, "is no prompt", allowed) from None


def _response(row: Row, column: str) -> Response:
    text = row[column]
    if isinstance(text, list) and text and isinstance(text[-1], dict):
        text = text[-1].get("content")  # TRL's completion: the turns after the prompt
    if not isinstance(text, str):
        raise BadRow(column, f"is a {type(row[column]).__name__}", "a text")
    ended = row.get("finish", row.get("finish_reason"))
    return Response(text=text, finish=ended if ended in ("stop", "length") else None)


def _published(row: Row) -> Exchange:
    """A demonstration of a form that `accord import` knows."""
    record = convert(row, detect(row))
    text = getattr(record.answer, "text", None) or (record.texts[0] if record.texts else None)
    if len(record.texts) > 1 or not isinstance(text, str):
        allowed = f"one answer a row: {', '.join(ASKED[:3])} with {', '.join(SAID[:4])}; messages"
        raise BadRow("", f"has the keys {', '.join(list(row)[:12])}", allowed)
    return Exchange(prompt=record.prompt, response=Response(text=text))

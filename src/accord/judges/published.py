"""Verdicts of a judge that others stored, and the figures they published of them.

    LLMBar    a row a pair: which answer is right (`label`), and the judge's winner in both orders, turned
              back (`swap = True`); of several rounds the last counts (Zeng et al. 2024, `result.json`)
    PandaLM   a file of pairs with three people's labels (1, 2, 0 a tie), and a file a judge with its label
              of each pair by `idx` (Wang et al. 2024)

A file is a JSON list, or a row a line. A published figure keeps its authors' rule:

    correct_*   a reply without a winner is wrong; `equal`: two without a winner agree
    kappa_*     the judge's 2, and no winner, are coded 0 where labels are 1 and 2: it agrees on no pair
                whose label is 2, so these lie far from κ. `kappa_agreement` codes both orders so
    accuracy, precision, recall, f1
                against the majority of three people (the first's label where all differ), garbage taken for
                a tie; the last three are means over the labels 0, 1, 2: one that nobody gave counts 0

The house's stand beside them: κ of winner and label, what did not parse left out. Intervals allow for
prompts that several pairs share.

Legend: C prompts, K cells of (true, given), V labels, B weightings.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from scipy import sparse

from accord.core.errors import ConfigError, DataError
from accord.core.types import Metric
from accord.judges.leanings import Tried, signs
from accord.judges.verdict import JudgeVerdict
from accord.stats.agreement import cohen_kappa
from accord.stats.intervals import cluster_mean
from accord.stats.resampling import Floats, by_jackknife

__all__ = [
    "PublishedFigure", "StoredPair", "StoredVerdicts", "published_figures", "read_verdicts", "tried_rows",
]  # fmt: skip

LABELS = (0, 1, 2)
PROBS = {1: (1.0, 0.0), 2: (0.0, 1.0), 0: (0.5, 0.5)}
RIGHT = {"1": 1, "2": 2}
WINNERS: dict[str, int | None] = {**RIGHT, "null": None}
PEOPLE = {"0": 0, **RIGHT}
JUDGED: dict[str, int | None] = {**PEOPLE, "Tie": 0, "tie": 0, "garbage": None}
ORDERS = ("swap = False", "swap = True")
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
UNREAD = "no verdict in the stored reply"
FORMS = f"label and results (LLMBar); {', '.join(ANNOTATORS)} (PandaLM, people); idx and …_result (a judge)"

NEXT = re.compile(r"[^\s,]")
T = TypeVar("T")
Row = tuple[str, dict[str, Any]]  # where it stands, and its fields


@dataclass(frozen=True)
class StoredPair:
    """A pair with people's labels (1, 2, 0 a tie; of LLMBar one) and the judge's in each order, as if nothing
    had changed places; None where its reply did not parse."""

    prompt: str
    people: tuple[int, ...]
    by_order: tuple[int | None, ...] = ()
    texts: tuple[str, str] = ("", "")

    @property
    def majority(self) -> int:
        """The label most people gave; the first's where several were given equally often."""
        return Counter(self.people).most_common(1)[0][0]

    @property
    def split(self) -> bool:
        """Whether no label was given most."""
        counts = [n for _, n in Counter(self.people).most_common(2)]
        return counts[1:] == counts[:1]

    @property
    def parses(self) -> bool:
        """Whether every order's reply did."""
        return None not in self.by_order


@dataclass(frozen=True)
class StoredVerdicts:
    """A judge's verdicts, by its file; without a judge, people's labels alone (PandaLM)."""

    form: Literal["llmbar", "pandalm"]
    judge: str
    pairs: tuple[StoredPair, ...]

    @property
    def unread(self) -> int:
        """Pairs with a reply that did not parse."""
        return sum(not p.parses for p in self.pairs)

    @property
    def undecided(self) -> int:
        """Pairs on which no label was given most."""
        return sum(p.split for p in self.pairs)


@dataclass(frozen=True)
class PublishedFigure:
    """A figure under its authors' key (of annotators their numbers); "" where it is the house's own."""

    key: str
    title: str
    metric: Metric


def read_verdicts(paths: Sequence[Path]) -> list[StoredVerdicts]:
    """LLMBar's results, each a judge; PandaLM's pairs with people's labels, then its judges'. DataError names
    the line of a row that is neither, ConfigError files that don't go together."""
    stored: list[StoredVerdicts] = []
    people: dict[Path, dict[str, Row]] = {}
    judges: dict[Path, dict[str, Row]] = {}
    for path in paths:
        rows = _rows(path)
        first = rows[0][1]
        if "results" in first:
            pairs = tuple(_llmbar_pair(where, row) for where, row in rows)
            stored.append(StoredVerdicts("llmbar", str(path), pairs))
        elif any(key in first for key in ANNOTATORS):
            people[path] = _by_idx(rows)
        elif any(key.endswith("_result") for key in first):
            judges[path] = _by_idx(rows)
        else:
            raise DataError("is a row of no known form", where=rows[0][0], allowed=FORMS)
    if len(people) > 1:
        mend = "give one such file, with its judges'"
        raise ConfigError("is a second file of people's labels", where=str([*people][1]), mend=mend)
    if judges and not people:
        where, mend = (
            str(next(iter(judges))),
            "name the file with people's labels of these pairs too",
        )
        raise ConfigError(f"has no {', '.join(ANNOTATORS)}", where=where, mend=mend)
    for path, labelled in people.items():
        stored += _pandalm(path, labelled, judges)
    return stored


def _pandalm(
    path: Path, labelled: Mapping[str, Row], judges: Mapping[Path, Mapping[str, Row]]
) -> list[StoredVerdicts]:
    """People's labels, and each judge's of the same pairs."""
    pairs = {}
    for idx, (where, row) in labelled.items():
        prompt = "\n".join(_text(row, key) for key in ("instruction", "input")).strip()
        texts = (_text(row, "response1"), _text(row, "response2"))
        people = tuple(_label(row, key, where, PEOPLE) for key in ANNOTATORS)
        pairs[idx] = StoredPair(prompt or where, people, texts=texts)
    stored = [StoredVerdicts("pandalm", "", tuple(pairs.values()))]
    for file, rows in judges.items():
        key = _result_key(*next(iter(rows.values())))
        for idx, (where, _) in rows.items():
            if idx not in pairs:
                raise DataError(f"is {idx}, of no pair in {path}", where=f"{where} idx")
        lost = pairs.keys() - rows.keys()
        if lost:
            first = next(idx for idx in pairs if idx in lost)
            raise DataError(
                f"has no verdict on {len(lost)} of {len(pairs)} pairs in {path}, the first idx {first}",
                where=str(file), mend=f"a reply that can't be read is {key}: garbage",
            )  # fmt: skip
        judged = tuple(
            StoredPair(p.prompt, p.people, (_label(rows[idx][1], key, rows[idx][0], JUDGED),), p.texts)
            for idx, p in pairs.items()
        )  # fmt: skip
        stored.append(StoredVerdicts("pandalm", str(file), judged))
    return stored


def _llmbar_pair(where: str, row: Mapping[str, Any]) -> StoredPair:
    rounds = row.get("results")
    last = rounds[-1] if isinstance(rounds, list) and rounds else None
    if not isinstance(last, dict):
        mend = "each round is an object; the last one counts"
        raise DataError("is no list of rounds", where=f"{where} results", mend=mend)
    by_order = []
    for order in ORDERS:
        reply = last.get(order)
        if not isinstance(reply, dict):
            raise DataError(
                "has no such order", where=f"{where} results[-1] {order!r}", allowed=", ".join(ORDERS),
                mend="a judge asked in one order has no agreement of orders",
            )  # fmt: skip
        by_order.append(_label(reply, "winner", f"{where} results[-1] {order!r}", WINNERS))
    label = _label(row, "label", where, RIGHT)
    texts = (_text(row, "output_1"), _text(row, "output_2"))
    prompt = _text(row, "input") or where
    return StoredPair(prompt, (label,), tuple(by_order), texts)


def tried_rows(stored: StoredVerdicts) -> list[Tried]:
    """The pairs that people decide (no tie, one label given most), for `check_judge`: what did not parse is a
    missing verdict, a tie chose neither."""
    rows = []
    for at, p in enumerate(stored.pairs):
        if p.split or not p.majority or not p.by_order:
            continue
        by_order = tuple(None if x is None else PROBS[x] for x in p.by_order)
        read = [o for o in by_order if o]
        first = sum(o[0] for o in read) / max(1, len(read))
        probs, missing = ((first, 1 - first), "") if p.parses else (None, UNREAD)
        verdict = JudgeVerdict(probs, by_order, missing)
        rows.append(
            Tried(p.prompt, p.majority == 1, verdict, own=0, within=(), again=None, question=str(at),
                  responses=(), **signs(*p.texts))
        )  # fmt: skip
    return rows


def published_figures(stored: StoredVerdicts) -> list[PublishedFigure]:
    """What was published of such verdicts, by its authors' rules, and the house's figures beside."""
    if stored.form == "llmbar":
        return _of_llmbar(stored.pairs)
    return _of_judge(stored.pairs) if stored.judge else _of_people(stored.pairs)


def _of_llmbar(pairs: Sequence[StoredPair]) -> list[PublishedFigure]:
    label = [p.majority for p in pairs]
    one, two = ([p.by_order[k] for p in pairs] for k in (0, 1))
    right, turned = _same(one, label), _same(two, label)
    both = [min(x) for x in zip(right, turned, strict=True)]
    coded_one, coded_two = ([int(x == 1) for x in side] for side in (one, two))
    kappas = [_kappa(coded_one, label, pairs), _kappa(coded_two, label, pairs)]
    rows = [
        ("correct_False", "accuracy, as the pair stands", _share(right, pairs)),
        ("correct_True", "accuracy, answers changed places", _share(turned, pairs)),
        ("correct_average", "accuracy, mean of both orders", _share(right + turned, [*pairs, *pairs])),
        ("correct_both", "right in both orders", _share(both, pairs)),
        ("equal", "both orders say the same", _share(_same(one, two), pairs)),
        ("kappa_False", "label (1, 2) and winner (1, else 0), as it stands", kappas[0]),
        ("kappa_True", "label (1, 2) and winner (1, else 0), changed places", kappas[1]),
        ("kappa_average", "mean of these two", _mean(kappas)),
        ("kappa_agreement", "κ of both orders, no winner taken for 2", _kappa(coded_one, coded_two, pairs)),
        ("", "κ of label and winner, as it stands", _kappa(one, label, pairs)),
        ("", "κ of label and winner, changed places", _kappa(two, label, pairs)),
    ]  # fmt: skip
    if not all(p.parses for p in pairs):
        read = [p for p in pairs if p.parses]
        hits = [float(p.by_order[k] == p.majority) for k in (0, 1) for p in read]
        title = "accuracy, mean of both orders, no winner left out"
        rows.append(("", title, _share(hits, [*read, *read])))
        rows.append(("", "κ of both orders, no winner left out", _kappa(one, two, pairs)))
    return [PublishedFigure(*row) for row in rows]


def _of_people(pairs: Sequence[StoredPair]) -> list[PublishedFigure]:
    figures = []
    for a, b in combinations(range(len(ANNOTATORS)), 2):
        kappa = _kappa([p.people[a] for p in pairs], [p.people[b] for p in pairs], pairs)
        title = f"κ of annotators {a + 1} and {b + 1}"
        figures.append(PublishedFigure(f"annotators {a + 1}, {b + 1}", title, kappa))
    return figures


def _of_judge(pairs: Sequence[StoredPair]) -> list[PublishedFigure]:
    label = [p.majority for p in pairs]
    judged = [p.by_order[0] for p in pairs]
    as_tie = [x or 0 for x in judged]
    rows = [("accuracy", "accuracy, garbage taken for a tie", _share(_same(as_tie, label), pairs))]
    for key in ("precision", "recall", "f1"):
        title = f"{key.replace('f1', 'F1')}, mean over labels"
        rows.append((key, title, _macro(pairs, label, as_tie, key)))
    rows.append(
        ("", "κ of people's majority and judge, garbage left out", _kappa(judged, label, pairs))
    )
    if None in judged:
        read = [p for p in pairs if p.parses]
        hits = [float(p.by_order[0] == p.majority) for p in read]
        rows.append(("", "accuracy, garbage wrong", _share(_same(judged, label), pairs)))
        rows.append(("", "accuracy, garbage left out", _share(hits, read)))
    return [PublishedFigure(*row) for row in rows]


def _same(a: Sequence[int | None], b: Sequence[int | None]) -> list[float]:
    return [float(x == y) for x, y in zip(a, b, strict=True)]


def _kappa(a: Sequence[int | None], b: Sequence[int | None], pairs: Sequence[StoredPair]) -> Metric:
    return cohen_kappa(list(zip(a, b, strict=True)), clusters=[p.prompt for p in pairs])


def _share(values: Sequence[float], pairs: Sequence[StoredPair]) -> Metric:
    return cluster_mean(values, [p.prompt for p in pairs], share=True)


def _mean(metrics: Sequence[Metric]) -> Metric:
    values = [m.value for m in metrics if m.value is not None]
    if len(values) < len(metrics):
        return Metric(value=None, n=metrics[0].n, note="one of the figures is undefined")
    note = "mean of two figures: no interval"
    return Metric(value=sum(values) / len(values), n=metrics[0].n, note=note)


def _macro(
    pairs: Sequence[StoredPair], true: Sequence[int], given: Sequence[int], key: str
) -> Metric:
    """Mean over labels of precision, recall or F1."""
    n, prompts = len(LABELS), {p: k for k, p in enumerate(dict.fromkeys(p.prompt for p in pairs))}
    of_CK = np.zeros((len(prompts), n * n))
    cell = [a * n + b for a, b in zip(true, given, strict=True)]
    np.add.at(of_CK, ([prompts[p.prompt] for p in pairs], cell), 1.0)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        counts_BVV = w_BK.reshape(-1, n, n)
        hits_BV = np.diagonal(counts_BVV, axis1=1, axis2=2)
        true_BV, given_BV = counts_BVV.sum(2), counts_BVV.sum(1)
        of_BV = {"precision": given_BV, "recall": true_BV, "f1": (true_BV + given_BV) / 2}[key]
        value_BV = np.divide(hits_BV, of_BV, out=np.zeros_like(of_BV), where=of_BV > 0)
        return 1 - value_BV.mean(1), np.ones(len(w_BK))

    return by_jackknife(
        of_CK.sum(0).astype(np.int64), parts, most=1.0, level=0.95, undefined="no data",
        clusters=sparse.csr_array(of_CK),
    )  # fmt: skip


def _rows(path: Path) -> list[Row]:
    """The objects of a JSON list, or one after the other, with the line each begins on."""
    if not path.is_file():
        raise ConfigError("no such file", where=str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is no text in UTF-8", where=str(path)) from None
    rows, decoder, line, last = [], json.JSONDecoder(), 1, 0
    listed = text.lstrip().startswith("[")
    at = text.index("[") + 1 if listed else 0
    try:
        if listed:
            json.loads(text)  # what stands between rows, and behind them
        while (begins := NEXT.search(text, at)) and not (listed and begins[0] == "]"):
            line, last = line + text.count("\n", last, begins.start()), begins.start()
            row, at = decoder.raw_decode(text, last)
            if not isinstance(row, dict):
                allowed = "a JSON list of objects, or an object a line"
                raise DataError("is no JSON object", where=f"{path}:{line}", allowed=allowed)
            rows.append((f"{path}:{line}", row))
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno if listed else line}"
        raise DataError(f"is no JSON: {error.msg}", where=where) from None
    if not rows:
        raise DataError("has no row", where=str(path), allowed=FORMS)
    return rows


def _by_idx(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by their idx, none of which may stand twice."""
    by_idx: dict[str, Row] = {}
    for where, row in rows:
        idx = row.get("idx")
        if not isinstance(idx, int | str) or isinstance(idx, bool):
            raise DataError(f"is {_short(idx)}", where=f"{where} idx", allowed="a number or a name")
        if str(idx) in by_idx:
            first = by_idx[str(idx)][0].rpartition(":")[2]
            raise DataError(f"is {idx}, as in line {first}", where=f"{where} idx", mend="keep one")
        by_idx[str(idx)] = (where, row)
    return by_idx


def _result_key(where: str, row: Mapping[str, Any]) -> str:
    keys = [key for key in row if key.endswith("_result")]
    if len(keys) != 1:
        what = f"has {len(keys)} keys that end in _result ({', '.join(keys)})"
        raise DataError(what, where=where, mend="a file holds one judge's labels")
    return keys[0]


def _label(row: Mapping[str, Any], key: str, where: str, labels: Mapping[str, T]) -> T:
    """The label under a key, as a number or its text."""
    value = row.get(key, ...)
    text = value if isinstance(value, str) else "" if value is ... else json.dumps(value)
    if text not in labels or (text == "null" and value is not None):
        what = "is missing" if value is ... else f"is {_short(value)}"
        raise DataError(what, where=f"{where} {key}", allowed=", ".join(labels))
    return labels[text]


def _text(row: Mapping[str, Any], key: str) -> str:
    """A text, "" where there is none: figures need only labels. PandaLM has answers that are `true`."""
    value = row.get(key, "")
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"

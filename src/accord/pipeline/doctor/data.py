"""Checks of comparisons and demonstrations, before anything is trained on them.

Legend: N pairs, W words.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from accord.core.types import Pair
from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength
from accord.stats.intervals import robust_mean
from accord.store.io.import_report import REASONS

__all__ = ["told_apart"]

FEW = 20  # pairs below which no share of them says anything
MOST = 600  # pairs that a classifier is fitted to
MORE = 4  # words about a prompt that is one with another
SHORT = 160
_SENTENCE = re.compile(r"[a-z]{2}[.!?](\s|$)")
_ITEM = re.compile(r"\s*([-*•#>|]|\d+[.)])\s")
_WORD = re.compile(r"\w+|[^\w\s]")


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHORT else plain[: SHORT - 1] + "…"


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _example(p: Pair) -> str:
    asked, better, worse = map(_short, (p.prompt.last, p.chosen.text, p.rejected.text))
    return f"{asked} | chosen: {better} | rejected: {worse}"


def _votes(p: Pair) -> float | None:
    """The chance that two of its votes agree; None where there are fewer than two."""
    n = len(p.sources)
    if n < 2:
        return None if p.agreement is None or p.agreement == 1.0 else p.agreement
    k = p.p * n
    return min(1.0, max(0.0, (k * (k - 1) + (n - k) * (n - k - 1)) / (n * (n - 1))))


@check("label_noise", of=("data",))
def label_noise(case: StageRecord) -> Finding | None:
    """How often two raters say the same of a pair: were each wrong at a rate e independently, they would
    agree at (1 - e)² + e²."""
    pairs = [p for g in case.train for p in g.pairs()]
    known = [(a, p) for p in pairs if (a := _votes(p)) is not None]
    # of a file that names nobody the votes that say the same are one row: those left all differ
    if len(known) < FEW or case.facts.get("nameless"):
        raise Unseen
    agree = robust_mean([a for a, _ in known], [p.prompt.id for _, p in known])
    value = agree.value or 0.0
    wrong = (1 - math.sqrt(max(0.0, 2 * value - 1))) / 2
    worst = min(known, key=lambda x: x[0])[1]
    cause, more = "raters contradict each other", ""
    change = "ask more raters a pair, leave out who guesses, train on soft labels"
    if opposite := _opposite(case.facts.get("raters") or {}):
        name, (same, n) = opposite
        cause = f"rater {name} says the opposite of the others"
        more = f"; {name} sides with the others on {same} of {n}"
        change = f"leave {name} out, or turn their answers where a key or the guideline was misread"
    return finding(
        case,
        strength(wrong, 0.13, 0.33),
        cause=cause,
        number=f"two raters agree on {agree} of pairs: each is wrong at {wrong:.0%} or so{more}",
        example=_example(worst),
        change=change,
        line="{labels: soft, min_confidence: 0.7}",
        test="accord trust STORE@SNAPSHOT",
    )


def _opposite(raters: Mapping[str, tuple[int, int]]) -> tuple[str, tuple[int, int]] | None:
    """Of three or more the rater who sides with the others least, where a coin would do so clearly more."""
    known = {name: x for name, x in raters.items() if x[1] >= FEW}
    name = min(known, key=lambda r: known[r][0] / known[r][1], default="")
    if len(known) < 3 or known[name][0] >= 0.3 * known[name][1]:  # of two nobody is the odd one
        return None
    return name, known[name]


@check("opposite_labels", of=("data",))
def opposite_labels(case: StageRecord) -> Finding | None:
    """The same two answers to the same prompt, once this way and once the other."""
    seen: dict[tuple[str, ...], list[tuple[int, Pair]]] = defaultdict(list)
    for p in case.pairs:
        better, worse = _plain(p.chosen.text), _plain(p.rejected.text)
        way = 1 if (better > worse) == (p.p > 0.5) else -1
        seen[_plain(p.prompt.last), *sorted((better, worse))].append((way, p))
    both = [v for v in seen.values() if len({w for w, _ in v}) > 1]
    n, total = sum(map(len, both)), len(case.pairs)
    turned, judged = case.facts.get("turned", 0), case.facts.get("judged", 0)  # merged by a store
    if max(total, judged) < FEW:
        raise Unseen
    if not n and not turned:
        return None
    return finding(
        case,
        max(strength(n / max(1, total), 0.03, 0.25), strength(turned / max(1, judged), 0.03, 0.25)),
        cause="the same pair is in the data with opposite labels",
        number=f"{turned} of {judged} pairs by one rater or file"
        if turned
        else f"{n} of {total} pairs",
        example=_short(case.facts["turned_example"]) if turned else _example(both[0][0][1]),
        change="keep one row a pair, labelled by all its votes (a store does: accord import)",
        test="accord data lint FILE",
    )


@check("length_only", of=("data",))
def length_only(case: StageRecord) -> Finding | None:
    """Whether length alone says which answer is chosen."""
    rows = [(x, p) for p in case.pairs if (x := _longer(p))]
    if len(rows) < FEW:
        raise Unseen
    share = robust_mean([float(x > 0) for x, _ in rows], [p.prompt.id for _, p in rows])
    value, low, high = (x or 0.0 for x in (share.value, share.low, share.high))
    longer = value >= 0.5
    sure = low if longer else 1 - high
    word = "longer" if longer else "shorter"
    return finding(
        case,
        strength(sure, 0.7, 0.9),
        cause=f"length alone tells the pairs apart: the {word} wins",
        number=f"the longer answer is chosen in {share} of pairs",
        example=_example(rows[0][1]),
        change="judge pairs of like length, or take length out of what is learned",
        line="loss: {name: simpo}" if longer else "",
        test="accord data lint FILE",
    )


def _longer(p: Pair) -> int:
    """1 where what is preferred is longer, -1 shorter, 0 neither."""
    apart = len(p.chosen.text.split()) - len(p.rejected.text.split())
    return int(np.sign(apart * (1 if p.p > 0.5 else -1)))


@check("giveaway", of=("data",))
def giveaway(case: StageRecord) -> Finding | None:
    """A word or mark that one side has and the other has not, in nearly all pairs: another model's manner."""
    pairs = case.pairs
    if len(pairs) < FEW:
        raise Unseen
    net: Counter[str] = Counter()
    for p in pairs:
        better, worse = (set(_WORD.findall(r.text.lower())) for r in (p.chosen, p.rejected))
        way = 1 if p.p > 0.5 else -1
        net.update(dict.fromkeys(better - worse, way))
        for word in worse - better:
            net[word] -= way
    word, most = max(net.items(), key=lambda x: abs(x[1]), default=("", 0))
    share = abs(most) / len(pairs)
    has = next(
        (p for p in pairs if word in p.chosen.text.lower() + p.rejected.text.lower()), pairs[0]
    )
    side = "chosen" if most > 0 else "rejected"
    return finding(
        case,
        strength(share, 0.5, 0.8),
        cause="one word tells the pairs apart",
        number=f"{word!r} is on the {side} side alone in {share:.0%} of pairs (net)",
        example=_example(has),
        change="compare answers of one source and format; strip what marks a side",
        test="accord data lint FILE",
    )


def told_apart(pairs: Sequence[Pair]) -> float:
    """Accuracy of a ridge on differences of word counts, five parts by prompt: what the manner of answers
    tells of a prompt that the fit has not seen."""
    pairs = pairs[:MOST]
    words = {w: k for k, w in enumerate(sorted({w for p in pairs for w in _counts(p)}))}
    x_NW: NDArray[np.float64] = np.zeros((len(pairs), len(words)))
    for n, p in enumerate(pairs):
        for w, count in _counts(p).items():
            x_NW[n, words[w]] = count
    prompts = {i: k % 5 for k, i in enumerate(dict.fromkeys(p.prompt.id for p in pairs))}
    part_N = np.array([prompts[p.prompt.id] for p in pairs])
    hits = 0.0
    for part in range(5):
        fit, held = x_NW[part_N != part], x_NW[part_N == part]
        if len(fit) and len(held):
            kernel = fit @ fit.T + 1.0 * np.eye(len(fit))
            score = held @ (fit.T @ np.linalg.solve(kernel, np.ones(len(fit))))
            hits += float((score > 0).sum() + 0.5 * (score == 0).sum())
    return hits / len(pairs)


def _counts(p: Pair) -> Counter[str]:
    """Words of what is preferred less those of the other, saturated."""
    a, b = (Counter(_WORD.findall(r.text.lower())) for r in (p.chosen, p.rejected))
    way = 1 if p.p > 0.5 else -1
    net: Counter[str] = Counter()
    for w in a.keys() | b.keys():
        net[w] = way * int(np.sign(a[w] - b[w]))
    return net


@check("source_tells", of=("data",))
def source_tells(case: StageRecord) -> Finding | None:
    """Chosen answers all of one source, rejected ones of another: who wrote it is learned."""
    rows = [
        (p.chosen.source, p.rejected.source, p)
        for p in case.pairs
        if p.chosen.source and p.rejected.source and p.chosen.source != p.rejected.source
    ]
    if len(rows) < max(FEW, len(case.pairs) // 2):
        raise Unseen
    wins: Counter[tuple[str, str]] = Counter((a, b) for a, b, _ in rows)
    (best, other), n = wins.most_common(1)[0]
    if wins[other, best] or n < 0.9 * len(case.pairs):
        return None
    apart = told_apart([p for *_, p in rows])
    return finding(
        case,
        strength(apart, 0.9, 1.0),
        cause=f"{best} always beats {other}, and wording tells which is which",
        number=f"{n} of {len(case.pairs)} pairs; words alone tell {apart:.0%} of unseen prompts' pairs apart",
        example=_example(rows[0][2]),
        change="compare answers of one model with each other (on-policy pairs)",
        test="accord data lint FILE",
    )


@check("leak", of=("data",))
def leak(case: StageRecord) -> Finding | None:
    """Held-out prompts that training has under another spelling, or with a few words more or less."""
    train = {_plain(g.prompt.last) for g in case.train}
    held = [g for g in case.held if len(_plain(g.prompt.last)) > 8]
    known = {_plain(g.prompt.last) for g in held}
    within = {x for text in train for x in _shorter(text) if x in known}
    both = [
        g for g in held
        if (x := _plain(g.prompt.last)) in train or x in within or any(s in train for s in _shorter(x))
    ]  # fmt: skip
    if len(held) < 5:
        raise Unseen
    if not both:
        return None
    share = len(both) / len(held)
    return finding(
        case,
        strength(share, 0.05, 0.5),
        cause="held-out prompts are in the training part too",
        number=f"{len(both)} of {len(held)} held-out prompts, but for case, marks and a few words about it",
        example=_short(both[0].prompt.last),
        change="drop spelling duplicates before the split",
        test="accord data lint FILE",
    )


def _shorter(text: str) -> Iterator[str]:
    """The text without up to four words at its ends, a quarter of it at most."""
    words = text.split()
    most = min(MORE, len(words) // 4)
    for first in range(most + 1):
        for last in range(most - first + 1):
            if first or last:
                yield " ".join(words[first : len(words) - last])


@check("unreadable", of=("data",))
def unreadable(case: StageRecord) -> Finding | None:
    """Rows of a file that are no data: what is trained on is less than it seems."""
    bad = [r for r in case.facts.get("unread") or [] if r["reason"] != REASONS["empty"]]
    if not bad:
        return None
    first, total = bad[0], case.facts["rows"]
    return finding(
        case,
        strength(len(bad) / total, 0.0, 0.05),
        cause="rows can't be read",
        number=f"{len(bad)} of {total} rows",
        example=f"{case.name}:{first['place']} {first['field'] or ''}: {_short(first['reason'])}",
        change="mend them; accord import FILE names the first, --skip-bad keeps them with reasons",
        test="accord import FILE --store look.db --skip-bad",
    )


@check("empty", of=("data",))
def empty(case: StageRecord) -> Finding | None:
    """Answers that say nothing; an import leaves their rows out, so a file's are counted there."""
    answers = [(g.prompt, r) for g in (*case.train, *case.held) for r in g.responses]
    answers += [(d.prompt, d.response) for d in case.shown]
    blank = [p.last for p, r in answers if not r.text.strip() and not r.tool_calls]
    n, total, what = len(blank), len(answers), "answers"
    rows = [r for r in case.facts.get("unread") or [] if r["reason"] == REASONS["empty"]]
    if rows:
        blank = [f"{case.name}:{r['place']}" for r in rows]
        n, total, what = n + len(rows), case.facts["rows"], "rows have an empty answer"
    if not total:
        raise Unseen
    if not n:
        return None
    return finding(
        case,
        strength(n / total, 0.0, 0.15),
        cause="answers are empty",
        number=f"{n} of {total} {what}",
        example=_short(blank[0]),
        change="leave such rows out",
        test="accord data lint FILE",
    )


def _unended(texts: Sequence[str]) -> list[tuple[str, bool]]:
    """Of texts of some length in sentences: whether each stops within one. Code and lists end otherwise; a
    text without a whole sentence counts only among others that end theirs."""
    long = [t.strip() for t in texts if len(t.split()) >= 8 and "```" not in t]
    long = [t for t in long if not _ITEM.match(t.rpartition("\n")[2])]
    opened = [t[-1].isalnum() or t[-1] in ",-–—(" for t in long]
    style = sum(opened) < 0.7 * len(opened)
    return [x for x in zip(long, opened, strict=True) if style or _SENTENCE.search(x[0])]


@check("cut_answers", of=("data",))
def cut_answers(case: StageRecord) -> Finding | None:
    """Answers to learn from that a limit ended: their end is never learned."""
    texts = [r for g in case.train for r in g.responses] + [d.response for d in case.shown]
    if known := [r for r in texts if r.finish not in (None, "stop")]:
        n, total, by, example = len(known), len(texts), (0.05, 0.4), known[0].text
    else:  # a file says not how an answer ended: by its last sentence, which a style may leave open too
        ends = _unended([r.text for r in texts])
        n, total, by = sum(end for _, end in ends), len(ends), (0.15, 0.6)
        if total < FEW:
            raise Unseen
        example = next((t for t, end in ends if end), "")
    if not n:
        return None
    return finding(
        case,
        strength(n / total, *by),
        cause="answers were cut off before they ended",
        number=f"{n} of {total} answers" + ("" if known else " stop within a sentence"),
        example=_short(example[-SHORT:]),
        change="sample with a higher max_new_tokens",
        test="accord data lint FILE",
    )

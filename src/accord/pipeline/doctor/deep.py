"""`accord doctor RUN --deep`: what only the model a preference training began from can tell of its pairs.

Its log-probs of both answers beside those of answers it samples itself, the hidden states of both (CHES,
Razin et al. 2024), and the tokens as its template writes them. The checks that read
these figures are here too, so that without a model nothing looks for them.

Legend: N pairs, S scored tokens of two answers, H hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.core.types import Pair
from accord.lm.chat import render_exchange
from accord.lm.model.load import LanguageModel, load
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine, evaluating
from accord.lm.trees.tree import Tree
from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength
from accord.stats.intervals import robust_mean

__all__ = ["ches", "deepened", "looked_at"]

FEW, MOST = 20, 64
DEEP = ("deep",)
Row = dict[str, Any]


@dataclass(frozen=True)
class EndTokens:
    """What a base model's tokenizer is asked: which tokens end a turn, which begin a text."""

    ends: frozenset[int]
    bos: int | None


def ches(states_SH: Tensor, lengths: Sequence[int]) -> float:
    """How alike the model reads the two answers, 1 for one and the same: <h+, h-> / |h+|² of mean states; the
    length-normalised CHES score is |h+|² times (this - 1)."""
    chosen_H, rejected_H = (part.float().mean(0) for part in states_SH.split(list(lengths)))
    return float(chosen_H @ rejected_H / chosen_H.square().sum())


def looked_at(lm: LanguageModel, pairs: Sequence[Pair], most: int = 256, seed: int = 17) -> Row:
    """The figures of at most `MOST` pairs, each list in their order; log-probs are per token."""
    pairs = random.Random(seed).sample(list(pairs), min(MOST, len(pairs)))
    engine = Engine(lm.model)
    marks = EndTokens(frozenset(lm.eos_ids), lm.tokenizer.bos_token_id)
    rows: Row = {
        k: [] for k in ("chosen", "rejected", "own", "alike", "unended", "doubled", "twice")
    }
    with evaluating(lm.model), torch.inference_mode():
        for p in pairs:
            both = [
                render_exchange(lm.tokenizer, p.prompt, r, max_completion=most)
                for r in (p.chosen, p.rejected)
            ]
            tree = Tree(both[0].prompt, (both[0].completion, both[1].completion))
            logps = engine.logps([tree])
            means = [float(x.mean()) for x in logps.tokens_S.split(list(logps.lengths))]
            states_SH, _, lengths = engine.states([tree])
            rows["chosen"].append(means[0])
            rows["rejected"].append(means[1])
            rows["alike"].append(ches(states_SH, lengths))
            _tokens(rows, marks, both[0].prompt, [r.completion for r in both])
        lengths_N = [len(t.split()) for p in pairs for t in (p.chosen.text, p.rejected.text)]
        room = max(4, min(most, 2 * sum(lengths_N) // max(1, len(lengths_N))))
        sampling = Sampling(max_new_tokens=room, seed=seed)
        for (own,) in LocalSampler(lm).tokens([p.prompt for p in pairs], sampling):
            rows["own"].append(sum(own.logps) / max(1, len(own.logps)))
    return {"pairs": pairs, **rows}


def _tokens(
    rows: Row, marks: EndTokens, prompt: Sequence[int], answers: Sequence[Sequence[int]]
) -> None:
    """Whether both answers end their turn, whether one ends it twice, whether the text begins twice."""
    rows["unended"].append(not all(marks.ends & set(a[-3:]) for a in answers))
    rows["doubled"].append(any(sum(t in marks.ends for t in a) > 1 for a in answers))
    begins = [t for t in prompt[:2] if marks.bos is not None and t == marks.bos]
    rows["twice"].append(len(begins) > 1)


def deepened(run: Path, cases: Sequence[StageRecord]) -> list[StageRecord]:
    """The cases, and for each preference training what the model it began from says of its pairs."""
    from accord.lm.model.find import bases_at
    from accord.pipeline.doctor.first_step import first_step
    from accord.pipeline.manifest import finished

    recipe, _, stages = finished(run)
    more = []
    for case in cases:
        start = str(case.config.get("init", "base"))
        model = (
            stages[start] / "model"
            if start in stages
            else recipe.model
            if start == "base"
            else None
        )
        if case.of != "preference" or not case.pairs or model is None:
            continue
        most = int(case.config.get("max_completion") or 256)
        with bases_at(recipe.model):
            lm = load(model)
            facts = {**case.facts, "looked": looked_at(lm, case.pairs, most)}
            if case.name in stages:
                facts["first"] = first_step(recipe, stages[case.name], case, lm, most)
        more.append(replace(case, of="deep", facts=facts))
    return [*cases, *more]


def _looked(case: StageRecord) -> Row:
    looked: Row = case.facts.get("looked") or {}
    if len(looked.get("pairs", ())) < FEW:
        raise Unseen
    return looked


def _shown(p: Pair) -> str:
    parts = (p.prompt.last, f"chosen: {p.chosen.text}", f"rejected: {p.rejected.text}")
    return " | ".join(" ".join(part.split())[:160] for part in parts)


@check("far_from_reference", of=DEEP)
def far_from_reference(case: StageRecord) -> Finding | None:
    """Neither answer is one the reference would give: what is learned of them says little of its own."""
    looked = _looked(case)
    triples = list(zip(looked["own"], looked["chosen"], looked["rejected"], strict=True))
    gaps = [own - max(chosen, rejected) for own, chosen, rejected in triples]
    gap = robust_mean(gaps, [p.prompt.id for p in looked["pairs"]])
    worst = max(range(len(gaps)), key=gaps.__getitem__)
    return finding(
        case,
        strength(gap.low if gap.low is not None else float("nan"), 0.7, 2.0),
        cause="the pairs are not the reference's own answers",
        number=f"a token of the likelier answer is {gap} nats less likely than one it samples itself",
        example=_shown(looked["pairs"][worst]),
        change="compare answers of the policy itself (a stage of kind ask); train sft on chosen ones first",
    )


@check("chosen_unlikely", of=DEEP)
def chosen_unlikely(case: StageRecord) -> Finding | None:
    """The chosen answers are further from the reference than the rejected ones."""
    looked = _looked(case)
    gaps = [r - c for c, r in zip(looked["chosen"], looked["rejected"], strict=True)]
    gap = robust_mean(gaps, [p.prompt.id for p in looked["pairs"]])
    worst = max(range(len(gaps)), key=gaps.__getitem__)
    return finding(
        case,
        strength(gap.low if gap.low is not None else float("nan"), 0.3, 1.0),
        cause="chosen answers are out of the reference's distribution, rejected ones are not",
        number=f"a token of a chosen answer is {gap} nats less likely than one of the rejected",
        example=_shown(looked["pairs"][worst]),
        change="train sft on the chosen answers first, or choose among the policy's own",
    )


@check("alike_pairs", of=DEEP)
def alike_pairs(case: StageRecord) -> Finding | None:
    """Pairs whose two answers the model reads as one (CHES), where chosen answers were unlearned too: the
    gradient that lowers one lowers the other."""
    looked, fall = _looked(case), -case.late("chosen_shift") / max(1.0, case.late("chosen_tokens"))
    alike = looked["alike"]
    share = sum(a > 0.9 for a in alike) / len(alike)
    most = max(range(len(alike)), key=alike.__getitem__)
    return finding(
        case,
        min(strength(share, 0.2, 0.6), strength(fall, 0.1, 0.5)),
        cause="pairs are alike to the model, and chosen answers are unlearned with rejected ones",
        number=f"{share:.0%} of pairs have mean states alike by over 0.9 of their square (CHES); "
        f"chosen fell by {fall:.2g} nats per token",
        example=_shown(looked["pairs"][most]),
        change="leave out the pairs that are most alike, or add a likelihood term",
    )


@check("ends_and_beginnings", of=DEEP)
def ends_and_beginnings(case: StageRecord) -> Finding | None:
    """What the template makes of the pairs: an end of turn that is missing or doubled, a beginning twice."""
    looked = _looked(case)
    wrong = {
        "begin twice (BOS is written by the template and once more)": looked["twice"],
        "end their turn twice": looked["doubled"],
        "never end their turn": looked["unended"],
    }
    what, flags = max(wrong.items(), key=lambda x: sum(x[1]))
    share = sum(flags) / len(flags)
    if not share:
        return None
    return finding(
        case,
        strength(share, 0.1, 0.5),
        cause=f"pairs {what.partition(' (')[0]}",
        number=f"{sum(flags)} of {len(flags)} pairs {what}",
        example=_shown(looked["pairs"][flags.index(True)]),
        change="mend the chat template, or answers that were cut off (max_completion, finish: length)",
    )

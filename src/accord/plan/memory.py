"""Memory, compute and time of every stage of a recipe, before anything runs.

Memory is counted: weights, adapters, gradients, AdamW's moments, the sampler's copy of the weights and its
cache; what autograd keeps is measured (`plan.probe`). Compute is the products that must be done: 2 FLOP a
weight and token forward, as much again for each gradient that is needed. Time is the probe's, for this
machine; with a rate given (sustained FLOP/s of another machine), compute divided by it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from accord.lm.chat import render_prompt
from accord.lm.kernels.laid_out import lays_out
from accord.lm.model.load import auto_model
from accord.lm.model.lora import Lora
from accord.lm.model.packaged import quiet_transformers
from accord.lm.sample import WORTH_PACKING
from accord.lm.trees.tree import Tree, bins, hash_trees, scored_tokens
from accord.lm.trees.vocab_head import chunk_bytes
from accord.pipeline.work import Learn, Read, Sample, Work
from accord.plan.probe import FP32, LearnCost, Line, Probe, SampleCost
from accord.train.loop.memory import SHARE, micro_batch, overhead
from accord.train.loop.optimise import batch_items

__all__ = ["Estimate", "Shape", "estimate"]

SOME = 32  # trees a forward pass is timed on
SEEN = 1000  # steps whose batches are looked at


@dataclass(frozen=True)
class Shape:
    """Numbers of weights."""

    layers: int
    trunk: int  # of linear layers, all layers together
    head: int  # of the output layer
    total: int  # tied weights once
    hidden: int
    adapter: int  # of a LoRA of rank 1 on all linear layers of the trunk
    cache: int  # numbers a token leaves in the key-value cache
    kinds: int  # of linear layers, by their size: each is a product of its own

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Counted on a model without weights."""
        with torch.device("meta"), quiet_transformers():
            model = auto_model(config).from_config(config)
        text = config.get_text_config()
        head = model.get_output_embeddings()
        linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
        shared = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            layers=text.num_hidden_layers,
            trunk=sum(m.weight.numel() for m in linear),
            head=head.weight.numel(),
            total=sum(p.numel() for p in model.parameters()),
            hidden=text.hidden_size,
            adapter=sum(m.in_features + m.out_features for m in linear),
            cache=2 * shared * width * text.num_hidden_layers,
            kinds=len({m.weight.shape for m in linear}),
        )


@dataclass(frozen=True)
class Estimate:
    """Of a stage: FLOP, bytes at the peak by what they are for, seconds, products of different sizes that the
    process has met by its end."""

    flop: float
    memory: dict[str, float]
    seconds: float
    met: int

    @property
    def peak(self) -> float:
        return sum(self.memory.values())


STANDING = ("adapters", "AdamW")  # held through the whole stage


@dataclass
class _Cost:
    """Of a part: FLOP, seconds, and bytes beside the weights."""

    flop: float
    seconds: float
    held: dict[str, float]
    products: int = 0  # of different sizes


KERNELS = 1024  # that oneDNN keeps


def estimate(
    work: Work, shape: Shape, probe: Probe, base: float, free: float, rate: float | None = None,
    met: int = 0,
) -> Estimate:  # fmt: skip
    """What the stage takes. `base`: bytes of a process before it loads a model; `free`: bytes it can have
    beside that; `rate`: FLOP/s of another machine, in place of what was measured on this one; `met`: products
    of different sizes that stages before it left kernels of."""
    weights = FP32 * (shape.total * work.models + shape.adapter * work.adapters)
    room = free - weights
    costs = [_COSTS[type(part)](part, shape, probe, room) for part in work.parts]
    flop = sum(c.flop for c in costs)
    standing = {k: sum(c.held.get(k, 0.0) for c in costs) for k in STANDING}
    passing = [{k: v for k, v in c.held.items() if k not in STANDING} for c in costs]
    largest = max(passing, key=lambda held: sum(held.values()), default={})
    merged = (
        FP32 * shape.trunk * min(1.0, work.merged / shape.layers) * (probe.device.type == "cpu")
    )
    met = min(KERNELS, met + sum(c.products for c in costs))
    kernels = met * probe.once(probe.kernel, key=0)
    memory = {
        "process": base, "weights": weights, "merged adapters": merged, "kernels": kernels,
        **standing, **largest,
    }  # fmt: skip
    loading = 0.0
    if work.loads:
        plain, adapter = probe.once(probe.load, key=0)
        loading = work.loads * plain.at(shape.layers)
        loading += sum(adapter.at(min(n, shape.layers)) for n in work.stacked)
    seconds = flop / rate if rate else sum(c.seconds for c in costs) + loading
    return Estimate(flop, {k: v for k, v in memory.items() if v}, seconds, met)


def _forward(trees: Sequence[Tree], shape: Shape, scalar: bool) -> tuple[float, float]:
    """FLOP of trunk and head for one pass over the trees."""
    seen = 0
    for tree in trees:
        p = len(tree.prompt)
        seen += p * (p + 1) // 2
        seen += sum(len(c) * p + len(c) * (len(c) + 1) // 2 for c in tree.completions)
    trunk = 2 * shape.trunk * _tokens(trees) + 4 * shape.layers * shape.hidden * seen
    scored = sum(sum(scored_tokens(t)) for t in trees)
    return float(trunk), 0.0 if scalar else 2.0 * shape.head * scored


def _tokens(trees: Sequence[Tree]) -> int:
    return sum(tree.tokens for tree in trees)


def _learn(part: Learn, shape: Shape, probe: Probe, room: float) -> _Cost:
    trunk, head = _forward(part.trees, shape, part.scalar)
    moved = shape.layers
    if isinstance(part.tune, Lora):
        moved = min(moved, part.tune.last_layers or moved)
        trained = part.tune.r * shape.adapter * moved / shape.layers
        flop = trunk * (1 + moved / shape.layers) + 2 * head + 6 * trained * _tokens(part.trees)
    else:
        trained, flop = float(shape.total), 3 * (trunk + head)
    sizes = sorted((t.tokens for t in part.trees), reverse=True)
    asked = part.cfg.tokens
    asked_now = 1024 if asked == "auto" else asked
    key = [hash_trees(part.trees), part.cfg, part.tune, part.scalar]
    cost: LearnCost = probe.once(probe.learn, part, asked_now, key=key)
    per_token = cost.kept.at(moved) * overhead(probe.device)
    space = 3.0 * chunk_bytes(probe.device)
    left = SHARE * room - 3 * FP32 * trained - space
    _, largest = micro_batch(asked, per_token, left, sizes, part.cfg.batch_size)
    drawn = part.items * _tokens(part.trees) / len(part.trees)
    step = cost.seconds.at(moved) + cost.below * (shape.layers - moved)
    return _Cost(
        flop * part.items / len(part.trees),
        cost.ready.at(shape.layers) + step * drawn / cost.tokens,
        {
            "adapters": FP32 * trained if isinstance(part.tune, Lora) else 0.0,
            "AdamW": 2 * FP32 * trained,
            "gradients": FP32 * trained,
            "activations": per_token * largest,
            "head": space,
        },
        (2 * shape.kinds + 2 * (not part.scalar)) * len(_sizes(part, asked_now, probe.seed)),
    )


def _sizes(part: Learn, tokens: int, seed: int) -> set[int]:
    """Tokens of the micro-batches there will be."""
    steps = min(SEEN, math.ceil(part.items / part.cfg.batch_size))
    totals = set()
    for step in range(steps):
        chosen = batch_items(len(part.trees), step, part.cfg, seed)
        sizes = [part.trees[i].tokens for i in chosen]
        totals |= {sum(sizes[i] for i in b) for b in bins(sizes, tokens)}
    return totals


def _read(part: Read, shape: Shape, probe: Probe, room: float) -> _Cost:
    if not part.trees or not part.times:
        return _Cost(0.0, 0.0, {})
    first = bins([t.tokens for t in part.trees], part.tokens)[0][:SOME]
    some = [part.trees[i] for i in first]
    key = [hash_trees(some), part.tokens, part.scalar]
    line: Line = probe.once(probe.read, some, part.tokens, part.scalar, key=key)
    times = part.times * _tokens(part.trees) / _tokens(some)
    flop = sum(_forward(part.trees, shape, part.scalar))
    passing = {"a forward pass": 16.0 * FP32 * shape.hidden * part.tokens}
    ready: Line = probe.once(probe.ready, key=0)
    seconds = ready.at(shape.layers) + line.at(shape.layers) * times
    sizes = [t.tokens for t in part.trees]
    seen = {sum(sizes[i] for i in b) for b in bins(sizes, part.tokens)}
    products = (shape.kinds + (not part.scalar)) * len(seen)
    return _Cost(flop * part.times, seconds, passing, products)


def _answer(part: Sample, shape: Shape, probe: Probe, room: float) -> _Cost:
    if not part.prompts or not part.times:
        return _Cost(0.0, 0.0, {})
    key = [[p.id for p in part.prompts], part.n, part.batch, part.tune]
    cost: SampleCost = probe.once(probe.answer, part, key=key)
    answers = len(part.prompts) * part.n * part.times
    tokens = answers * sum(part.lengths) / len(part.lengths)
    read = sum(len(render_prompt(probe.tokenizer, p)) for p in part.prompts) * part.times
    flop = 2 * (shape.trunk + shape.head) * tokens + 2 * shape.trunk * read
    whole, few = cost.whole.at(shape.layers), cost.few.at(shape.layers)
    row = max(0.0, whole - few) / max(1, cost.rows - cost.fewer)
    once = max(0.0, whole - row * cost.rows)
    batches, going = answers / cost.rows, _going(part.lengths)
    steps = sum(1 - (1 - share) ** cost.rows for share in going)  # until all of a batch have ended
    seconds = batches * (cost.first.at(shape.layers) + steps * once) + tokens * row
    longest_prompt = max(len(render_prompt(probe.tokenizer, p)) for p in part.prompts)
    columns = max(share * (longest_prompt + length) for length, share in enumerate(going, 1))
    held = {"key-value cache": FP32 * shape.cache * cost.rows * columns}
    many = math.ceil(len(part.prompts) * part.n / part.batch) * part.most >= WORTH_PACKING
    if probe.device.type == "cpu" and lays_out(cost.rows) and many:
        held["sampling weights"] = FP32 * (shape.trunk + shape.head)
    return _Cost(flop, seconds, held, shape.kinds * cost.rows)  # rows fall as answers end


def _going(lengths: Sequence[int]) -> list[float]:
    """The share of answers that have a first token, a second, and so on."""
    ended = Counter(lengths)
    before = itertools.accumulate(ended[at] for at in range(max(lengths)))
    return [1 - n / len(lengths) for n in before]


_COSTS: dict[Any, Any] = {Learn: _learn, Read: _read, Sample: _answer}

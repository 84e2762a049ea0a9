"""What one layer costs here: models of one and of a few layers of the recipe's shape, with random weights.

The difference of the two is some layers' time and memory, what is left is embedding, head and all that
happens once. So a model of any depth is priced without its weights, by the very code that will run:
the engine on the stage's own texts, the sampler on its own prompts.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.lm.model.load import LanguageModel, auto_model, load
from accord.lm.model.lora import Lora
from accord.lm.model.packaged import quiet_transformers
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree, bins
from accord.pipeline.work import Learn, Sample
from accord.plan.kernel import kernel_bytes
from accord.train.loop.memory import kept_bytes, plan
from accord.train.loop.optimise import Objective, adamw, batch_items, one_step
from accord.train.loop.trainee import prepare

__all__ = ["FP32", "LearnCost", "Line", "Probe", "SampleCost"]

Values = Callable[[Sequence[Tree]], Tensor]

FP32 = 4
FEW = 1  # layers
MORE, SIZE = (3, 18), 2**28  # layers of the deeper model: as many as have 256 MB of weights
TIMES = 3
BATCHES = 2  # that training is timed on, after one that is not
STEPS = 48  # decode steps that are timed at most: they grow with what the cache holds


@dataclass(frozen=True)
class Line:
    """once + layers · each."""

    once: float
    each: float

    def at(self, layers: float) -> float:
        """Never below what one layer was measured at."""
        return max(self.once + layers * self.each, self.once + self.each)


@dataclass(frozen=True)
class LearnCost:
    """Seconds before the first step; of steps over `tokens` in all: seconds by layers that train, seconds of
    each layer below those; bytes that autograd keeps a token."""

    ready: Line
    seconds: Line
    below: float
    kept: Line
    tokens: int


@dataclass(frozen=True)
class SampleCost:
    """Seconds of reading a batch's prompts, of a decode step of `fewer` rows and of `rows`."""

    first: Line
    few: Line
    whole: Line
    fewer: int
    rows: int


def median_seconds(run: Callable[[], object], times: int | None = None) -> float:
    """Median wall time of `run` after a first time that is not counted."""
    run()
    spent = []
    for _ in range(times or TIMES):
        began = time.perf_counter()
        run()
        _wait()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Probe:
    """Prices of a model's shape on a device."""

    def __init__(self, config: Any, tokenizer: Any, device: torch.device, seed: int = 17) -> None:
        self.config, self.tokenizer, self.device, self.seed = config, tokenizer, device, seed
        self._known: dict[Any, Any] = {}
        least, most = MORE
        with torch.device("meta"):
            one, two = (sum(p.numel() for p in self._model(n).parameters()) for n in (1, 2))
        layer = FP32 * (two - one)
        # more of thin layers, whose times would be lost in noise
        self.depths = FEW, max(least, min(most, SIZE // layer))

    def line(self, few: float, more: float) -> Line:
        """Through what the two depths took."""
        each = max(0.0, (more - few) / (self.depths[1] - FEW))
        return Line(few - FEW * each, each)

    def once(self, measure: Callable[..., Any], *of: Any, key: Any) -> Any:
        """What was measured before is not measured again: policies of one shape cost the same."""
        key = measure.__name__, repr(key)
        if key not in self._known:
            self._known[key] = measure(*of)
        return self._known[key]

    def _model(self, layers: int) -> Any:
        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = (text.layer_types * layers)[:layers]
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(self.seed)
            return auto_model(config).from_config(config, dtype=torch.float32)

    def small(self, layers: int) -> LanguageModel:
        """So many layers of the model's shape."""
        model = self._model(layers)
        lm = LanguageModel(model.eval().to(self.device), self.tokenizer, "probe", Path(), "probe")
        lm.eos_ids = ()  # nothing ends early: every step is timed
        return lm

    def learn(self, part: Learn, tokens: int) -> LearnCost:
        """What optimiser steps cost, by the number of layers that train, each of a size that is new: oneDNN
        writes code for every one."""
        trees, cfg, tune = part.trees, part.cfg, part.tune
        if isinstance(tune, Lora):
            tune = tune.model_copy(update={"last_layers": None})
        cfg = cfg.model_copy(update={"tokens": tokens})
        batches = [batch_items(len(trees), step, cfg, self.seed) for step in range(1 + BATCHES)]
        sizes = [tree.tokens for tree in trees]
        micros = [
            [trees[b[i]] for i in m]
            for b in batches[1:]
            for m in bins([sizes[i] for i in b], tokens)
        ]
        largest = max(micros, key=_tokens)
        ready, seconds, kept, below, new = [], [], [], [], []
        for layers in self.depths:
            small, began = self.small(layers), time.perf_counter()
            trainee = prepare(small, tune, self.seed, cfg.precision)
            values = _values(trainee.engine, part.scalar)
            plan(trainee.module, values, trees, tokens, cfg.batch_size, self.device)
            ready.append(time.perf_counter() - began)
            optimiser, parameters = adamw(trainee.parameters(), cfg), trainee.parameters()

            def loss(items: Sequence[int], values: Values = values) -> tuple[Tensor, Any]:
                return values([trees[i] for i in items]).sum(), {}

            one = partial(
                one_step, parameters, Objective(sizes, [1.0] * len(trees), loss), optimiser,
                cfg=cfg, folder=Path("probe"),
            )  # fmt: skip

            def steps(one: Callable[..., Any] = one) -> None:
                for items in batches[1:]:
                    one(items)

            def forward(values: Values = values) -> None:
                with torch.no_grad():
                    for micro in micros:
                        values(micro)

            every = list(trainee.module.parameters())
            kept.append(kept_bytes(lambda v=values: v(largest), every) / _tokens(largest))  # type: ignore[misc]
            one(batches[0])
            began = time.perf_counter()
            steps()
            new.append(time.perf_counter() - began)
            seconds.append(median_seconds(steps))
            below.append(median_seconds(forward))
        first = max(0.0, new[0] - seconds[0])  # at the second depth the sizes are met already
        return LearnCost(
            self.line(*ready),
            self.line(*(s + first for s in seconds)),
            self.line(*below).each,
            self.line(*kept),
            sum(_tokens(micro) for micro in micros),
        )

    def load(self) -> tuple[Line, Line]:
        """Seconds of loading a model, and of an adapter that is merged into it, by the layers it is on."""
        plain: list[float] = []
        merged: list[float] = []
        for layers in self.depths:
            with tempfile.TemporaryDirectory() as name:
                small, stage = self.small(layers), Path(name) / "stage"
                with quiet_transformers():
                    small.model.save_pretrained(name)
                small.tokenizer.save_pretrained(name)
                lm = load(name, device=str(self.device))
                prepare(lm, Lora(), self.seed).save(stage)
                for seconds, at in ((plain, name), (merged, stage)):
                    seconds.append(median_seconds(lambda at=at: load(at, device=str(self.device))))  # type: ignore[misc]
        adapters = [both - alone for both, alone in zip(merged, plain, strict=True)]
        return self.line(*plain), self.line(*adapters)

    def kernel(self) -> float:
        """Bytes the process keeps for a product of a size it had not met: oneDNN writes code for each."""
        return kernel_bytes(self.config.get_text_config().hidden_size, self.device)

    def ready(self) -> Line:
        """Seconds of making an engine over a model."""
        seconds = []
        for layers in self.depths:
            small, began = self.small(layers), time.perf_counter()
            Engine(small.model)
            seconds.append(time.perf_counter() - began)
        return self.line(*seconds)

    def read(self, trees: Sequence[Tree], tokens: int, scalar: bool) -> Line:
        """Seconds of the forward pass over these trees."""
        seconds = []
        for layers in self.depths:
            values = _values(Engine(self.small(layers).model), scalar)

            def run(values: Values = values) -> None:
                with torch.no_grad():
                    for b in bins([t.tokens for t in trees], tokens):
                        values([trees[i] for i in b])

            seconds.append(median_seconds(run))
        return self.line(*seconds)

    def answer(self, part: Sample) -> SampleCost:
        """What a batch of prompts costs to read, and a decode step of all its rows and of a quarter."""
        many = max(1, part.batch // part.n)
        few = max(1, many // 4)
        first, steps = [], []
        for layers in self.depths:
            lm = self.small(layers)
            if isinstance(part.tune, Lora):
                prepare(lm, part.tune.model_copy(update={"last_layers": None}), self.seed)
            read, whole = self._decode(lm, part, many)
            first.append(read)
            steps.append((self._decode(lm, part, few)[1] if few < many else 0.0, whole))
        rows = min(many, len(part.prompts)) * part.n
        fewer = min(few, len(part.prompts)) * part.n
        some, every = (self.line(*costs) for costs in zip(*steps, strict=True))
        return SampleCost(self.line(*first), some, every, fewer, rows)

    def _decode(self, lm: LanguageModel, part: Sample, prompts: int) -> tuple[float, float]:
        """Seconds of the first token and of each next one."""
        some = list(part.prompts[:prompts])

        def run(steps: int) -> Callable[[], object]:
            how = Sampling(max_new_tokens=steps, n=part.n, seed=self.seed)
            return lambda: LocalSampler(lm, batch_size=part.batch).tokens(some, how)

        steps = max(1, min(STEPS, part.most - 1))
        short, long = median_seconds(run(1)), median_seconds(run(1 + steps), times=1)
        return short, max(0.0, long - short) / steps


def _values(engine: Engine, scalar: bool) -> Values:
    """A step's forward pass: log-probs, or the states a scalar head reads."""
    if scalar:
        return engine.last_hidden
    return lambda trees: engine.logps(trees).tokens_S


def _tokens(trees: Sequence[Tree]) -> int:
    return sum(tree.tokens for tree in trees)

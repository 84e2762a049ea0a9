"""Controlled sentiment, the DPO paper's frontier in small: gold reward against KL for five ways to get there.

    pip install vaderSentiment
    python -m benchmarks.sentiment --seeds 0 1 2 --plot docs/images/sentiment.svg

A causal model of half a million weights learns to write movie-review snippets (the sentences of
`vader_ratings`, real data read from ACCORD_SHARED). The gold reward is the vaderSentiment library's compound
score of what it writes, in [-1, 1]. Preferences are made of pairs of its own samples, labelled by the gold
with Bradley-Terry noise. Then PPO on the gold reward, DPO and IPO on the pairs, SFT on the chosen, and
best-of-n; several β (n), three seeds. Every point: mean gold and mean KL(π‖π_ref) per answer (nats) over
fresh samples, both from the policy itself. Writes a table and a plot. Runs are shared among processes of one
thread each: a model so small gains nothing from a second thread.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from accord.core.seeds import rng
from accord.core.types import Demonstration, Exchange, Pair, Prompt, Response
from accord.lm.model.load import LanguageModel, load
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.pipeline.report.charts import Series
from accord.rewards.base import Context, reward
from accord.stats.best_of_n import best_of_n_kl, expected_best
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.offline.preference import train_preference
from accord.train.offline.sft import train_sft
from accord.train.online.policy import train_policy
from accord.train.online.rollout import roll_out
from accord.train.settings import Kl, Ppo
from benchmarks.cases import SHARED
from benchmarks.plot import save_lines
from benchmarks.quiet import alone

METHODS: dict[str, Sequence[float]] = {  # the slowest first; the numbers are β
    "baselines": (0,),
    "ppo": (0.03, 0.1, 0.3),
    "dpo": (0.05, 0.1, 0.3),
    "ipo": (0.05, 0.1, 0.3),
    "sft-on-chosen": (0,),
}
NS = (2, 4, 8, 16)
NEW, FIRST = 24, 3  # tokens written; words of the snippet given as prompt
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
)
GOLD = SentimentIntensityAnalyzer()


@reward("vader")
def vader(_: Context) -> Any:
    """The compound score of prompt and answer together."""
    return lambda exchanges: [gold(e) for e in exchanges]


def gold(exchange: Exchange) -> float:
    """Compound sentiment in [-1, 1] of the whole snippet."""
    text = exchange.prompt.last + exchange.response.text
    return float(GOLD.polarity_scores(text)["compound"])


def snippets() -> list[Demonstration]:
    """Sentences split after their first words: the rest is the answer."""
    file = SHARED / "data" / "vader_ratings" / "movieReviewSnippets_GroundTruth.txt"
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("\t")[-1].replace("''", '"').split()
        if FIRST + 3 <= len(words) <= 24:
            rest = " " + " ".join(words[FIRST:])
            answer = Response(text=rest, source="review", finish="stop")
            found.append(
                Demonstration(prompt=Prompt.user(" ".join(words[:FIRST])), response=answer)
            )
    return found


def small_model(data: Sequence[Demonstration], folder: Path) -> Path:
    """A random model of width 128 with a byte-level BPE of 2,000 words trained on the sentences."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<|pad|>", "<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator((d.prompt.last + d.response.text for d in data), trainer)
    names = {"eos_token": "<|end|>", "pad_token": "<|pad|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000, hidden_size=128, intermediate_size=352, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(
    lm: LanguageModel, prompts: Sequence[Prompt], n: int, seed: int
) -> list[list[Exchange]]:
    """n samples to each prompt."""
    made = roll_out(lm, prompts, Sampling(n=n, max_new_tokens=NEW, seed=seed), batch_size=256)
    flat = iter(made.exchanges)
    return [[next(flat) for _ in rs] for rs in made.responses]


def measured(
    model: Path, reference: Path, prompts: Sequence[Prompt], seed: int
) -> tuple[float, float]:
    """Mean gold and mean KL per answer of fresh samples (nats)."""
    lm = load(model, device="cpu")
    made = roll_out(lm, prompts, Sampling(n=2, max_new_tokens=NEW, seed=seed), batch_size=256)
    scores = [gold(e) for e in made.exchanges]
    ours, theirs = (
        torch.cat(token_logps(Engine(x.model), made.trees, 4096))
        for x in (lm, load(reference, device="cpu"))
    )
    return statistics.fmean(scores), float((ours - theirs).sum()) / len(scores)


def preferences(samples: Sequence[Sequence[Exchange]], seed: int) -> list[Pair]:
    """A pair of each prompt's first two samples; the label is drawn from σ(5·gold difference)."""
    draw, pairs = rng(seed, "labels"), []
    for first, second, *_ in samples:
        p = 1 / (1 + math.exp(-5.0 * (gold(first) - gold(second))))
        a, b = (first, second) if draw.random() < p else (second, first)
        if a.response.text != b.response.text:
            pairs.append(Pair(prompt=a.prompt, chosen=a.response, rejected=b.response))
    return pairs


def how(lr: float, **more: Any) -> Optimise:
    """The settings of the supervised and preference runs."""
    return Optimise(lr=lr, batch_size=32, tokens=4096, save_every=10**6, **more)


LIMITS = Limits(max_prompt=64, max_completion=64)


Row = dict[str, Any]


@lru_cache
def study(base: Path, seed: int) -> tuple[list[Prompt], list[Prompt], list[Pair]]:
    """Prompts to learn from, prompts held out, pairs of the writer's own samples."""
    prompts = [d.prompt for d in snippets()]
    rng(seed, "prompts").shuffle(prompts)
    train, test = prompts[:1500], prompts[1500:1756]
    return train, test, preferences(answers(load(base, device="cpu"), train, 2, seed), seed)


def baselines(base: Path, seed: int) -> list[Row]:
    """The writer itself and the best of n of its answers."""
    held = answers(load(base, device="cpu"), study(base, seed)[1], 32, seed + 1)
    golds = [[gold(e) for e in es] for es in held]
    rows: list[Row] = [{"method": "reference", "at": 0, "kl": 0.0,
                        "gold": statistics.fmean(g for gs in golds for g in gs)}]  # fmt: skip
    return rows + [
        {"method": "best-of-n", "at": n, "kl": best_of_n_kl(n),
         "gold": statistics.fmean(expected_best(g, n) for g in golds)} for n in NS
    ]  # fmt: skip


def trained(base: Path, place: Path, seed: int, method: str, beta: float) -> Path:
    """The model that a method makes of the writer."""
    train, _, pairs = study(base, seed)
    lm = load(base, device="cpu")
    if method == "ppo":
        cfg = Ppo(
            steps=60, batch_size=128, minibatch=64, epochs=2, lr=1e-4, value_lr=1e-3, schedule="linear",
            max_new_tokens=NEW, tokens=4096, rollout_batch=128, kl=Kl(beta=beta), save_every=10**6,
        )  # fmt: skip
        return train_policy(
            lm, train, [{"name": "vader"}], run_dir=place, tune="full", settings=cfg, seed=seed
        ).model
    if method == "sft-on-chosen":
        chosen = [Demonstration(prompt=p.prompt, response=p.chosen) for p in pairs]
        return train_sft(
            lm, chosen, run_dir=place, tune="full", limits=LIMITS, seed=seed,
            optimise_with=how(3e-4, epochs=2.0),
        ).model  # fmt: skip
    loss = {"name": method, "beta": beta} | ({"average": False} if method == "ipo" else {})
    return train_preference(
        lm, pairs, run_dir=place, tune="full", loss=loss, limits=LIMITS, seed=seed,
        optimise_with=how(3e-4, epochs=2.0),
    ).model  # fmt: skip


def points(base: Path, folder: Path, job: tuple[int, str, float]) -> list[Row]:
    """One method's points for one seed."""
    torch.set_num_threads(1)
    seed, method, beta = job
    began = time.perf_counter()
    if method == "baselines":
        rows = baselines(base, seed)
    else:
        place = folder / f"{method}-{beta}-{seed}"
        place.mkdir(parents=True)
        model = trained(base, place, seed, method, beta)
        reached, kl = measured(model, base, study(base, seed)[1], seed + 2)
        rows = [{"method": method, "at": beta, "gold": reached, "kl": kl}]
    took = {"seed": seed, "seconds": time.perf_counter() - began}
    return [row | took for row in rows]


def main() -> None:
    """Train the writer, then every point of every seed; print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    print(alone(), flush=True)
    data, began = snippets(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = small_model(data, folder / "start")
        writer = train_sft(
            load(start, device="cpu"), data, run_dir=folder / "writer", tune="full", limits=LIMITS, seed=1,
            optimise_with=how(2e-3, epochs=3.0),
        ).model  # fmt: skip
        print(
            f"{len(data)} snippets, writer trained in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        jobs = [
            (seed, m, beta) for m, betas in METHODS.items() for seed in args.seeds for beta in betas
        ]
        with ProcessPoolExecutor(args.processes, multiprocessing.get_context("spawn")) as pool:
            rows: list[Row] = []
            for found in pool.map(partial(points, writer, folder), jobs):
                rows += found
                print(json.dumps(found), flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    table = summary(rows)
    print(
        "\n| method | β or n | gold, mean over seeds (each) | KL, nats an answer |\n|---|---|---|---|"
    )
    for method, at, golds, kl in table:
        each = ", ".join(f"{g:.3f}" for g in golds)
        print(f"| {method} | {at:g} | {statistics.fmean(golds):.3f} ({each}) | {kl:.2f} |")
    if args.plot:
        shown = {m: sorted((kl, statistics.fmean(g)) for name, _, g, kl in table if name == m)
                 for m in ("best-of-n", "ppo", "dpo", "ipo", "sft-on-chosen", "reference")}  # fmt: skip
        series = [Series(m, found) for m, found in shown.items()]
        save_lines(series, "KL, nats an answer", "gold reward", args.plot)


def summary(rows: Sequence[Row]) -> list[tuple[str, float, list[float], float]]:
    """Method, β or n, gold of each seed, mean KL; best-of-n first."""
    found = []
    for method, at in dict.fromkeys((r["method"], r["at"]) for r in rows):
        mine = [r for r in rows if (r["method"], r["at"]) == (method, at)]
        found.append(
            (method, at, [r["gold"] for r in mine], statistics.fmean(r["kl"] for r in mine))
        )
    return found


if __name__ == "__main__":
    main()

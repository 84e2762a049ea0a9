"""Controlled sentiment, the DPO paper's frontier in small: gold reward against KL for five ways to get there.

    pip install vaderSentiment
    python -m benchmarks.sentiment --seeds 0 1 2

A causal model of half a million weights learns to write movie-review snippets (the sentences of
`vader_ratings`, real data read from ACCORD_SHARED). The gold reward is the vaderSentiment library's compound
score of what it writes, in [-1, 1]. Preferences are made of pairs of its own samples, labelled by the gold
with Bradley-Terry noise. Then PPO on the gold reward, DPO and IPO on the pairs, SFT on the chosen, and
best-of-n; several β (n), three seeds. Every point: mean gold and mean KL(π‖π_ref) per answer (nats) over
fresh samples, both from the policy itself. Writes a table and a plot.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from accord.core.seeds import rng
from accord.core.types import Demonstration, Exchange, Pair, Prompt, Response
from accord.lm.engine import Engine
from accord.lm.load import LanguageModel, load
from accord.lm.sample import Sampling
from accord.lm.score import token_logps
from accord.rewards.base import Context, reward
from accord.stats.best_of_n import best_of_n_kl, expected_best
from accord.train.data import Limits
from accord.train.optimise import Optimise
from accord.train.policy import train_policy
from accord.train.preference import train_preference
from accord.train.rollout import roll_out
from accord.train.settings import Kl, Ppo
from accord.train.sft import train_sft
from benchmarks.cases import SHARED

BETAS = {"ppo": (0.03, 0.1, 0.3), "dpo": (0.05, 0.1, 0.3), "ipo": (0.05, 0.1, 0.3)}
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


def points(
    seed: int, base: Path, folder: Path, data: Sequence[Demonstration]
) -> list[dict[str, Any]]:
    """Every method's points for one seed."""
    prompts = [d.prompt for d in data]
    rng(seed, "prompts").shuffle(prompts)
    train, test = prompts[:1500], prompts[1500:1756]
    samples = answers(load(base, device="cpu"), train, 2, seed)
    pairs = preferences(samples, seed)
    held = answers(load(base, device="cpu"), test, 32, seed + 1)
    rows = [{"method": "reference", "at": 0, "gold": statistics.fmean(gold(e) for es in held for e in es),
             "kl": 0.0}]  # fmt: skip
    golds = [[gold(e) for e in es] for es in held]
    rows += [
        {"method": "best-of-n", "at": n, "kl": best_of_n_kl(n),
         "gold": statistics.fmean(expected_best(g, n) for g in golds)} for n in NS
    ]  # fmt: skip

    def trained(method: str, at: float, train_one: Callable[[Path], Path]) -> None:
        place = folder / f"{method}-{at}-{seed}"
        place.mkdir(parents=True)
        began = time.perf_counter()
        reached, kl = measured(train_one(place), base, test, seed + 2)
        row = {"method": method, "at": at, "gold": reached, "kl": kl,
               "seconds": time.perf_counter() - began}  # fmt: skip
        rows.append(row)
        print(json.dumps({"seed": seed, **row}), flush=True)

    def preference(place: Path, loss: dict[str, Any]) -> Path:
        return train_preference(
            load(base, device="cpu"), pairs, run_dir=place, tune="full", loss=loss, limits=LIMITS, seed=seed,
            optimise_with=how(3e-4, epochs=2.0),
        ).model  # fmt: skip

    def ppo(place: Path, beta: float) -> Path:
        cfg = Ppo(
            steps=60, batch_size=64, minibatch=32, epochs=2, lr=3e-4, value_lr=1e-3, max_new_tokens=NEW,
            tokens=4096, rollout_batch=64, kl=Kl(beta=beta), save_every=10**6,
        )  # fmt: skip
        return train_policy(
            load(base, device="cpu"), train, [{"name": "vader"}], run_dir=place, tune="full", settings=cfg,
            seed=seed,
        ).model  # fmt: skip

    chosen = [Demonstration(prompt=p.prompt, response=p.chosen) for p in pairs]
    trained("sft-on-chosen", 0, lambda place: train_sft(
        load(base, device="cpu"), chosen, run_dir=place, tune="full", limits=LIMITS, seed=seed,
        optimise_with=how(3e-4, epochs=2.0)).model)  # fmt: skip
    for beta in BETAS["dpo"]:
        trained("dpo", beta, lambda place, b=beta: preference(place, {"name": "dpo", "beta": b}))
    for beta in BETAS["ipo"]:
        trained(
            "ipo",
            beta,
            lambda place, b=beta: preference(place, {"name": "ipo", "beta": b, "average": False}),
        )
    for beta in BETAS["ppo"]:
        trained("ppo", beta, lambda place, b=beta: ppo(place, b))
    return [{"seed": seed, **row} for row in rows]


def main() -> None:
    """Train the writer, then every point of every seed; print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = snippets()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        start = small_model(data, folder / "start")
        writer = train_sft(
            load(start, device="cpu"), data, run_dir=folder / "writer", tune="full", limits=LIMITS, seed=1,
            optimise_with=how(2e-3, epochs=6.0),
        ).model  # fmt: skip
        print(
            f"{len(data)} snippets, writer trained in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        rows = [row for seed in args.seeds for row in points(seed, writer, folder, data)]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    print(
        "\n| method | β or n | gold, mean over seeds (each) | KL, nats an answer |\n|---|---|---|---|"
    )
    for key in dict.fromkeys((r["method"], r["at"]) for r in rows):
        mine = [r for r in rows if (r["method"], r["at"]) == key]
        each = ", ".join(f"{r['gold']:.3f}" for r in mine)
        mean, kl = (statistics.fmean(r[k] for r in mine) for k in ("gold", "kl"))
        print(f"| {key[0]} | {key[1]:g} | {mean:.3f} ({each}) | {kl:.2f} |")


if __name__ == "__main__":
    main()

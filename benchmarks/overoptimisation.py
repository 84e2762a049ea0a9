"""Over-optimisation (Gao et al. 2022) in small: a proxy reward rises while what it stands for turns.

    python -m benchmarks.overoptimisation --plot docs/images/overoptimisation.svg

A small writer (as in `benchmarks.sentiment`, which reads `vader_ratings` from ACCORD_SHARED), and a gold
reward model trained on many comparisons of its samples. Proxies learn from few or more comparisons that the
gold model labels with Bradley-Terry noise. Then best-of-n and PPO against each proxy, without a KL penalty:
gold and proxy against √KL(π‖π_ref), fitted with d(α - βd) (best-of-n) and d(α - β ln d) (PPO), d = √KL; the
same with an ensemble's minimum and lower bound, a KL budget and a length penalty. Scores are in standard
deviations of the gold over the writer's answers, from the writer's mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from accord.core.rundir import read_jsonl
from accord.core.seeds import rng
from accord.core.types import Demonstration, Exchange, Pair, Prompt
from accord.lm.model.load import load
from accord.pipeline.report.charts import Series
from accord.rewards.base import Context, reward
from accord.rewards.learned import RewardModel, load_reward_model
from accord.stats.best_of_n import best_of_n_kl, expected_best
from accord.train.offline.reward import train_reward
from accord.train.offline.sft import train_sft
from accord.train.online.guarded import Guard
from accord.train.online.policy import train_policy
from accord.train.settings import Kl, Ppo
from benchmarks.plot import save_lines
from benchmarks.quiet import alone
from benchmarks.sentiment import LIMITS, NEW, answers, gold, how, small_model, snippets

SIZES = (60, 1000)  # comparisons a proxy learns from
NS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MEMBERS = 3
STEPS = 70
Curve = list[tuple[float, float, float]]  # (√KL, gold, proxy)


class Gold:
    """The gold model's scores, in standard deviations from the writer's mean."""

    def __init__(self, model: RewardModel, exchanges: Sequence[Exchange]) -> None:
        self.model, self.mean, self.std = model, 0.0, 1.0
        scores = self(exchanges)
        self.mean, self.std = statistics.fmean(scores), statistics.stdev(scores)

    def __call__(self, exchanges: Sequence[Exchange]) -> list[float]:
        return [(x - self.mean) / self.std for x in self.model(exchanges, tokens=4096)]


TRUTH: dict[str, Gold] = {}


@reward("gold_model")
def gold_model(_: Context) -> Any:
    """What the proxies stand for; logged beside them with weight 0."""
    return lambda exchanges: TRUTH["gold"](exchanges)


def fitted(base: Path, pairs: Sequence[Pair], place: Path, seed: int, epochs: float) -> Path:
    """A reward model from the writer."""
    return train_reward(
        load(base, device="cpu"), pairs, run_dir=place, tune="full", limits=LIMITS, seed=seed,
        optimise_with=how(5e-4, epochs=epochs),
    ).model  # fmt: skip


def labelled(pairs: Sequence[tuple[Exchange, Exchange]], scores: Sequence[tuple[float, float]],
             sharp: float, seed: int) -> list[Pair]:  # fmt: skip
    """Labels drawn from σ(sharp · difference)."""
    draw, found = rng(seed, "labels"), []
    for (a, b), (x, y) in zip(pairs, scores, strict=True):
        p = 1 / (1 + np.exp(-sharp * (x - y)))
        better, worse = (a, b) if draw.random() < p else (b, a)
        if a.response.text != b.response.text:
            found.append(Pair(prompt=a.prompt, chosen=better.response, rejected=worse.response))
    return found


def two(samples: Sequence[Sequence[Exchange]]) -> list[tuple[Exchange, Exchange]]:
    return [(es[0], es[1]) for es in samples]


def best_of(samples: Sequence[Sequence[Exchange]], proxy: Sequence[float]) -> Curve:
    """Expected gold and proxy of the proxy's best of n."""
    flat = [e for es in samples for e in es]
    truth, n_each = TRUTH["gold"](flat), len(samples[0])
    found = []
    for n in NS:
        golds, proxies = [], []
        for at in range(0, len(flat), n_each):
            by, value = proxy[at : at + n_each], truth[at : at + n_each]
            golds.append(expected_best(by, n, value))
            proxies.append(expected_best(by, n))
        kl = best_of_n_kl(n)
        found.append((kl**0.5, statistics.fmean(golds), statistics.fmean(proxies)))
    return found


def ppo(base: Path, prompts: Sequence[Prompt], rewards: list[dict[str, Any]], place: Path, seed: int,
        budget: float | None = None, guard: Guard | None = None, **keys: Any) -> Curve:  # fmt: skip
    """PPO against rewards; the one labelled proxy is watched."""
    how = {
        "steps": STEPS, "batch_size": 64, "minibatch": 32, "epochs": 2, "lr": 5e-4, "value_lr": 1e-3,
        "max_new_tokens": NEW, "tokens": 4096, "rollout_batch": 64, "kl": Kl(beta=0.0, budget=budget),
        "save_every": 10**6, "scale_rewards": True,
    }  # fmt: skip
    cfg = Ppo.model_validate(how | keys)
    train_policy(
        load(base, device="cpu"), prompts, [*rewards, {"name": "gold_model", "weight": 0.0}],
        run_dir=place, tune="full", settings=cfg, seed=seed, guard=guard,
    )  # fmt: skip
    watched = "reward/proxy"
    rows = read_jsonl(place / "metrics.jsonl")
    return [(max(0.0, r["kl"]) ** 0.5, r["reward/gold_model"], r[watched]) for r in rows]


def smoothed(curve: Curve, window: int = 7) -> Curve:
    """Means over neighbouring steps: one step's 64 answers are noisy."""
    half = window // 2
    return [
        tuple(
            statistics.fmean(x) for x in zip(*curve[max(0, i - half) : i + half + 1], strict=True)
        )  # type: ignore[misc]
        for i in range(len(curve))
    ]


def drawn(name: str, curve: Curve) -> Curve:
    """A curve as it is read: PPO's smoothed, best-of-n's as it is."""
    return smoothed(curve) if name.startswith("PPO") else curve


def fit(curve: Curve, form: str) -> tuple[float, float, float]:
    """α, β and R² of d(α - βd) or d(α - β ln d)."""
    d, g = (np.array([row[i] for row in curve]) for i in (0, 1))
    keep = d > 1e-3
    d, g = d[keep], g[keep]
    second = d * d if form == "bon" else d * np.log(d)
    columns = np.stack([d, -second], 1)
    (alpha, beta), *_ = np.linalg.lstsq(columns, g, rcond=None)
    left = ((g - columns @ [alpha, beta]) ** 2).sum()
    return float(alpha), float(beta), float(1 - left / ((g - g.mean()) ** 2).sum())


def main() -> None:
    """Everything, one table, one plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    began, seed, data = time.perf_counter(), args.seed, snippets()
    print(alone(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, prompts = writer_and_gold(folder, data, seed)
        print(f"writer and gold model: {time.perf_counter() - began:.0f} s", flush=True)
        curves = experiment(folder, base, prompts, seed)
    report(curves)
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    if args.json:
        args.json.write_text(json.dumps(curves))
    if args.plot:
        plot(curves, args.plot)


def writer_and_gold(
    folder: Path, data: Sequence[Demonstration], seed: int
) -> tuple[Path, list[Prompt]]:
    """The writer, and its prompts in an order of the seed's; the gold model is in `TRUTH`. What is in the
    folder already is not trained again."""
    base, judge = folder / "writer" / "model", folder / "gold" / "model"
    if not base.exists():
        start = small_model(data, folder / "start")
        train_sft(
            load(start, device="cpu"), data, run_dir=folder / "writer", tune="full", limits=LIMITS, seed=1,
            optimise_with=how(2e-3, epochs=3.0),
        )  # fmt: skip
    prompts = [d.prompt for d in data]
    rng(seed, "prompts").shuffle(prompts)
    shown = prompts[: 500 if judge.exists() else 3000]
    many = two(answers(load(base, device="cpu"), shown, 2, seed))
    if not judge.exists():
        truth = labelled(many, [(gold(a), gold(b)) for a, b in many], 5.0, seed)
        fitted(base, truth, folder / "gold", seed, 3.0)
    model = load_reward_model(judge, device="cpu")
    TRUTH["gold"] = Gold(model, [e for pair in many[:500] for e in pair])
    return base, prompts


def experiment(folder: Path, base: Path, prompts: Sequence[Prompt], seed: int) -> dict[str, Curve]:
    """Every curve by name."""
    fresh = two(answers(load(base, device="cpu"), prompts[3000:4500], 2, seed + 1))
    scores = TRUTH["gold"]([e for pair in fresh for e in pair])
    pairs = labelled(fresh, list(zip(scores[::2], scores[1::2], strict=True)), 1.0, seed)
    samples = answers(load(base, device="cpu"), prompts[4500:4548], NS[-1], seed + 2)
    flat = [e for es in samples for e in es]
    few, many = SIZES
    run, found = partial(ppo, base, prompts[4548:], seed=seed), Told()

    def proxy(size: int, member: int = 0) -> tuple[Path, list[dict[str, Any]], list[float]]:
        """A proxy, as a reward, and its scores of the samples."""
        fold, place = pairs[member * size : (member + 1) * size], folder / f"proxy-{size}-{member}"
        model = fitted(base, fold, place, seed + member, 4.0)
        reward = [{"name": "learned", "model": str(model), "label": "proxy"}]
        return model, reward, load_reward_model(model, device="cpu")(flat, tokens=4096)

    _, reward, by = proxy(many)
    found[f"best-of-n, {many}"] = best_of(samples, by)
    found[f"PPO, {many}"] = run(reward, folder / "ppo-many")
    proxies = [proxy(few, m) for m in range(MEMBERS)]
    best = [best_of(samples, by) for _, _, by in proxies]
    found[f"best-of-n, {few}: mean of {MEMBERS} proxies"] = mean_of(best)
    alone = [run(reward, folder / f"ppo-{m}") for m, (_, reward, _) in enumerate(proxies)]
    for member, curve in enumerate(alone):
        found[f"PPO, {few}: proxy {member + 1}"] = curve
    together = f"PPO, {few}: mean of {MEMBERS} proxies"
    found[together] = mean_of(alone)
    by = np.array([by for _, _, by in proxies])
    by = (by - by.mean(1, keepdims=True)) / by.std(1, keepdims=True)
    found[f"best-of-n, {few}, minimum"] = best_of(samples, by.min(0).tolist())
    lower = by.mean(0) - by.std(0, ddof=1)
    found[f"best-of-n, {few}, mean - std"] = best_of(samples, lower.tolist())
    members = {"models": [str(m) for m, _, _ in proxies], "name": "ensemble", "label": "proxy"}
    worst = min(range(MEMBERS), key=lambda m: smoothed(alone[m])[-1][1])
    plain = proxies[worst][1]
    budget = max(smoothed(found[together]), key=lambda row: row[1])[0] ** 2
    shorter = {"name": "length_penalty", "per_token": 0.1, "budget": 12}
    ways: dict[str, tuple[list[dict[str, Any]], float | None]] = {
        "minimum": ([members | {"combine": "minimum"}], None),
        "mean - std": ([members | {"combine": "lcb"}], None),
        f"KL budget, proxy {worst + 1}": (plain, max(1.0, budget)),
        f"length penalty, proxy {worst + 1}": ([*plain, shorter], None),
    }
    for number, (way, (rewards, limit)) in enumerate(ways.items()):
        found[f"PPO, {few}, {way}"] = run(rewards, folder / f"ppo-way-{number}", budget=limit)
    return found


def mean_of(curves: Sequence[Curve]) -> Curve:
    """The mean of curves, step by step (d is the mean √KL)."""
    return [
        tuple(statistics.fmean(x) for x in zip(*rows, strict=True))  # type: ignore[misc]
        for rows in zip(*curves, strict=True)
    ]


class Told(dict[str, Curve]):
    """Curves by name; each is told in a line as it comes."""

    def __setitem__(self, name: str, curve: Curve) -> None:
        super().__setitem__(name, curve)
        d, g, p = drawn(name, curve)[-1]
        print(f"{name}: ends at √KL {d:.2f}, gold {g:.2f}, proxy {p:.2f}", flush=True)


def report(curves: dict[str, Curve]) -> None:
    """The table: where gold peaks, what is left at the end, and the fits."""
    print("\n| policy | gold at its peak | √KL there | √KL at the end | gold there | α | β | R² |")
    print("|---|---|---|---|---|---|---|---|")
    for name, raw in curves.items():
        form = "bon" if name.startswith("best") else "rl"
        curve = drawn(name, raw)
        top, end = max(curve, key=lambda row: row[1]), curve[-1]
        alpha, beta, r2 = fit(curve, form)
        print(f"| {name} | {top[1]:.2f} | {top[0]:.2f} | {end[0]:.2f} | {end[1]:.2f} "
              f"| {alpha:.2f} | {beta:.2f} | {r2:.2f} |")  # fmt: skip


def plot(curves: dict[str, Curve], path: Path) -> None:
    """Gold of best-of-n and of PPO against √KL, and the proxy of the one that turns: six series."""
    few, many = SIZES
    together = f"{few}: mean of {MEMBERS} proxies"
    chosen = [f"{way}, {what}" for what in (many, together) for way in ("best-of-n", "PPO")]
    chosen.append(f"PPO, {few}, minimum")
    shown = {n: [(d, g) for d, g, _ in drawn(n, curves[n])] for n in chosen}
    turned = f"PPO, {together}"
    proxy = [(d, p / 4) for d, _, p in drawn(turned, curves[turned])]
    shown |= {f"{turned}, the proxy itself / 4": proxy}
    series = [Series(name, sorted(points)) for name, points in shown.items()]
    save_lines(series, "√KL (nats)", "gold, standard deviations", path)


if __name__ == "__main__":
    main()

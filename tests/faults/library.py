"""Faults planted one at a time into small runs on Harbor & Pine: what the doctor says of them is counted.

    python -m tests.faults             # the table of docs/doctor.md
    python -m tests.faults data 1 2    # of data alone, which trains nothing, with these seeds

A fault is a function of its strength (0 weak, 1, 2 strong) and a seed that gives the cases the doctor sees.
Trainings are of the tiny model that the golden curves are of.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from accord.core.errors import RunError
from accord.core.rundir import read_jsonl
from accord.core.types import Demonstration, Edge, Group, Prompt, Response
from accord.feedback.simulated import SimulatedRater, compare
from accord.lm.model.lora import Lora
from accord.pipeline.doctor.base import StageRecord
from accord.store import split_of
from accord.train.loop.data import Limits
from accord.train.offline.preference import train_preference
from accord.train.offline.sft import train_sft
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.policy import train_policy
from accord.train.settings import Optimise
from accord.worlds.base import open_world, truth
from tests.train.small import fresh, save_tiny

WORLD = Path(__file__).resolve().parents[2] / "recipes/support/world.yaml"
Plant = Callable[[int, int], list[StageRecord]]
FAULTS: dict[str, Plant] = {}
HEALTHY: dict[str, Callable[[int], list[StageRecord]]] = {}


def fault(cause: str, of: str) -> Callable[[Plant], Plant]:
    """Register a fault of a kind of run by the check that should name it."""

    def decorate(plant: Plant) -> Plant:
        FAULTS[f"{of}: {cause}"] = plant
        return plant

    return decorate


@cache
def _cases() -> list[tuple[Prompt, list[tuple[str, float]]]]:
    world = open_world(WORLD)
    return [
        (
            Prompt.user(c.prompt.last),
            [(x.text, truth(world, c, Response(text=x.text))) for x in c.candidates],
        )
        for c in world.cases
        if len(c.candidates) > 1
    ]


def groups(
    seed: int, n: int = 160, careless: float = 0.0, raters: int = 3, words: int = 999
) -> list[Group]:
    """Pairs of candidates of unlike quality and at most so many words, each judged by three raters."""
    draw = random.Random(seed)
    people = [
        SimulatedRater(name=f"r{k}", skill=12.0, careless=max(0.05, careless))
        for k in range(raters)
    ]
    made = []
    for prompt, candidates in draw.sample(_cases(), min(n, len(_cases()))):
        short = [c for c in candidates if len(c[0].split()) <= words]
        if len(short) < 2:
            continue
        a, b = draw.sample(short, 2)
        if a[0] == b[0] or abs(a[1] - b[1]) < 0.1:
            continue
        votes = [compare(r, (a[1], b[1]), (a[0], b[0]), draw).better for r in people]
        better = int(sum(votes) * 2 > raters)
        agree = sum(v == better for v in votes) / raters
        edge = Edge(
            better=better,
            worse=1 - better,
            p=agree,
            agreement=agree,
            sources=tuple(f"{seed}-{len(made)}-{k}" for k in range(raters)),
        )
        responses = tuple(Response(text=t, source="person:a", finish="stop") for t, _ in (a, b))
        made.append(Group(prompt=prompt, responses=responses, edges=(edge,)))
    return made


def data(items: Sequence[Group], shown: Sequence[Demonstration] = ()) -> StageRecord:
    """The data case, split by prompt."""
    sides: dict[str, list[Group]] = {"train": [], "test": []}
    for g in items:
        sides[split_of(g.prompt.id, 0.2, 17)].append(g)
    return StageRecord("data", "data", train=sides["train"], held=sides["test"], shown=list(shown))


def changed(g: Group, side: int, text: str | None = None, **update: Any) -> Group:
    """The group with another text on the better (0) or worse (1) side."""
    at = (g.edges[0].better, g.edges[0].worse)[side]
    responses = list(g.responses)
    new = {**update, **({} if text is None else {"text": text})}
    responses[at] = responses[at].model_copy(update=new)
    return g.model_copy(update={"responses": tuple(responses)})


def text_of(g: Group, side: int) -> str:
    return g.responses[(g.edges[0].better, g.edges[0].worse)[side]].text


def some(
    items: Sequence[Group], share: float, seed: int, how: Callable[[Group], Group]
) -> list[Group]:
    draw = random.Random(f"some {seed}")
    return [how(g) if draw.random() < share else g for g in items]


@fault("label_noise", "data")
def _noise(by: int, seed: int) -> list[StageRecord]:
    return [data(groups(seed, careless=(0.4, 0.7, 1.0)[by]))]


@fault("opposite_labels", "data")
def _opposite(by: int, seed: int) -> list[StageRecord]:
    items, draw = groups(seed), random.Random(seed)
    turned = [
        g.model_copy(
            update={
                "edges": tuple(
                    e.model_copy(update={"better": e.worse, "worse": e.better}) for e in g.edges
                )
            }
        )
        for g in items
        if draw.random() < (0.05, 0.15, 0.4)[by]
    ]
    return [data([*items, *turned])]


@fault("length_only", "data")
def _length(by: int, seed: int) -> list[StageRecord]:
    share = (0.75, 0.9, 1.0)[by]

    draw = random.Random(seed)

    def padded(g: Group) -> Group:
        more = " ".join(draw.choice(draw.choice(_cases())[1])[0] for _ in range(2))
        return changed(
            changed(g, 0, f"{text_of(g, 0)} {more}"), 1, text_of(g, 1).split(". ")[0] + "."
        )

    return [data(some(groups(seed), share, seed, padded))]


@fault("giveaway", "data")
def _giveaway(by: int, seed: int) -> list[StageRecord]:
    return [
        data(
            some(
                groups(seed),
                (0.55, 0.75, 1.0)[by],
                seed,
                lambda g: changed(g, 1, f"Certainly! {text_of(g, 1)}"),
            )
        )
    ]


@fault("leak", "data")
def _leak(by: int, seed: int) -> list[StageRecord]:
    case, draw = data(groups(seed)), random.Random(seed)
    again = [
        g.model_copy(update={"prompt": Prompt.user(g.prompt.last.upper() + " ")})
        for g in case.held
        if draw.random() < (0.1, 0.4, 0.9)[by]
    ]
    return [replace(case, train=[*case.train, *again])]


@fault("empty", "data")
def _empty(by: int, seed: int) -> list[StageRecord]:
    return [data(some(groups(seed), (0.02, 0.12, 0.4)[by], seed, lambda g: changed(g, 1, " ")))]


@fault("cut_answers", "data")
def _cut(by: int, seed: int) -> list[StageRecord]:
    def cut(g: Group) -> Group:
        for side in (0, 1):
            words = text_of(g, side).split()
            g = changed(g, side, " ".join(words[: len(words) * 2 // 3]), finish="length")
        return g

    return [data(some(groups(seed), (0.1, 0.35, 0.8)[by], seed, cut))]


def _record(
    folder: str, name: str, of: str, config: dict[str, Any], train: Callable[[], Any]
) -> StageRecord:
    """What a training leaves; of one that breaks off (a gradient that is NaN) what it logged until then."""
    try:
        done = train()
    except RunError as error:
        logged = read_jsonl(Path(folder) / "metrics.jsonl")
        return StageRecord(name, of, config, logged, {"not finite": str(error)})
    facts = {}
    if read := getattr(done, "data", None):
        facts = {"completions cut off": read.truncated, "items": len(read.items)}
    return StageRecord(name, of, config, done.log, facts, getattr(done, "metrics", {}))


@cache
def _model() -> Path:
    return save_tiny(Path(tempfile.mkdtemp()) / "tiny")


def preference(
    seed: int,
    items: Sequence[Group] | None = None,
    *,
    beta: float = 0.1,
    lr: float = 3e-3,
    cut: int = 80,
    steps: int = 20,
) -> list[StageRecord]:
    """A DPO of the tiny model and the data it read."""
    items = groups(seed, 160, words=20) if items is None else items
    loss = {"name": "dpo", "beta": beta}
    case = data(items)
    with tempfile.TemporaryDirectory() as folder:
        run = _record(
            folder,
            "dpo",
            "preference",
            {"loss": loss, "lr": lr, "max_completion": cut},
            lambda: train_preference(
                fresh(_model()),
                case.train,
                loss=loss,
                eval_on=case.held,
                run_dir=folder,
                tune=Lora(r=4, alpha=8),
                limits=Limits(max_prompt=120, max_completion=cut),
                seed=seed,
                optimise_with=Optimise(lr=lr, batch_size=8, max_steps=steps, epochs=9, tokens=4096),
            ),
        )
    return [case, replace(run, train=case.train)]


def sft(seed: int, *, lr: float = 1e-2, cut: int = 80) -> list[StageRecord]:
    """An SFT of the tiny model on what was preferred."""
    shown = [
        Demonstration(prompt=g.prompt, response=g.responses[g.edges[0].better])
        for g in groups(seed, 160, words=20)[:60]
    ]
    with tempfile.TemporaryDirectory() as folder:
        return [
            _record(
                folder,
                "sft",
                "sft",
                {"lr": lr, "max_completion": cut},
                lambda: train_sft(
                    fresh(_model()),
                    shown[10:],
                    eval_on=shown[:10],
                    run_dir=folder,
                    tune=Lora(r=4, alpha=8),
                    seed=seed,
                    limits=Limits(max_prompt=120, max_completion=cut),
                    optimise_with=Optimise(
                        lr=lr, batch_size=8, max_steps=24, epochs=9, tokens=4096
                    ),
                ),
            )
        ]


LETTERS = [
    {"name": "pattern", "regex": f"[{x}]", "label": x, "weight": 2.0**-k}
    for k, x in enumerate(("aeiou", "k-p", "q-t", "b-d", "f-h", "A-Z"))
]


def online(
    seed: int, method: Any = Ppo, rewards: Sequence[dict[str, Any]] = tuple(LETTERS), **keys: Any
) -> list[StageRecord]:
    """A run of the tiny model on its own answers; a random model never ends one, so that costs something."""
    several = {} if method is Ppo else {"n": 4}
    settings = method(
        **{
            "steps": 8,
            "batch_size": 4,
            "minibatch": 4,
            "lr": 1e-3,
            "max_new_tokens": 5,
            "tokens": 1024,
            "kl": {"beta": 0.1},
            "missing_eos": {"treatment": "penalty", "value": 0.1},
            **several,
            **keys,
        }
    )
    prompts = [g.prompt for g in groups(seed, 24)]
    with tempfile.TemporaryDirectory() as folder:
        return [
            _record(
                folder,
                "policy",
                "online",
                settings.model_dump(mode="json"),
                lambda: train_policy(
                    fresh(_model()),
                    prompts,
                    rewards,
                    run_dir=folder,
                    settings=settings,
                    tune=Lora(r=4, alpha=8),
                    seed=seed,
                ),
            )
        ]


@fault("dead", "preference")
def _dead(by: int, seed: int) -> list[StageRecord]:
    """The two answers are one: no gradient. (β = 0 is refused when a recipe is read.)"""
    return preference(
        seed + by, [changed(g, 1, text_of(g, 0)) for g in groups(seed, 60, words=20)], steps=8
    )


@fault("learning_rate_low", "preference")
def _slow(by: int, seed: int) -> list[StageRecord]:
    return preference(seed, lr=(3e-5, 3e-6, 3e-7)[by])


@fault("learning_rate_high", "preference")
def _fast(by: int, seed: int) -> list[StageRecord]:
    return preference(seed, lr=(0.1, 0.5, 2.0)[by])


@fault("beta_low", "preference")
def _loose(by: int, seed: int) -> list[StageRecord]:
    return preference(seed, beta=(3e-2, 1e-2, 1e-3)[by], lr=3e-2, steps=24)


@fault("beta_high", "preference")
def _tight(by: int, seed: int) -> list[StageRecord]:
    return preference(seed, beta=(1.0, 3.0, 10.0)[by])


@fault("truncated", "preference")
def _truncated(by: int, seed: int) -> list[StageRecord]:
    return preference(seed, cut=(24, 12, 6)[by], steps=8)


@fault("learning_rate_low", "sft")
def _slow_sft(by: int, seed: int) -> list[StageRecord]:
    return sft(seed, lr=(3e-5, 3e-6, 3e-7)[by])


@fault("learning_rate_high", "sft")
def _fast_sft(by: int, seed: int) -> list[StageRecord]:
    return sft(seed, lr=(2.0, 10.0, 50.0)[by])


@fault("kl_runaway", "online")
def _runaway(by: int, seed: int) -> list[StageRecord]:
    return online(seed, lr=(1e-2, 2e-2, 4e-2)[by], kl={"beta": 0.0}, steps=12)


@fault("silent_groups", "online")
def _silent(by: int, seed: int) -> list[StageRecord]:
    regex = ("[a-z]", "[a-zA-Z]", "(?s)^")[by]  # what nearly every answer has
    return online(seed, Grpo, [{"name": "pattern", "regex": regex}])


@fault("answers_cut", "online")
def _unended(by: int, seed: int) -> list[StageRecord]:
    return online(seed + by, missing_eos={"treatment": "leave"}, steps=6)


@fault("reward_wide", "online")
def _wide(by: int, seed: int) -> list[StageRecord]:
    weight = (30.0, 300.0, 3000.0)[by]
    return online(seed, rewards=[{**r, "weight": weight * r["weight"]} for r in LETTERS], steps=8)


HEALTHY["data"] = lambda seed: [data(groups(seed))]
HEALTHY["preference"] = preference
HEALTHY["sft"] = sft
HEALTHY["online"] = lambda seed: online(seed, (Ppo, Grpo)[seed % 2])

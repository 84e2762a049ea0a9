"""A reward model with a head for each axis: what it learns, what it weighs, what it must not mix."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, ModelError
from accord.core.types import (
    Edge,
    Exchange,
    Group,
    Judgment,
    Prompt,
    Question,
    Rater,
    Rating,
    Response,
)
from accord.lm.model.lora import Lora
from accord.rewards import learned
from accord.rewards.axes import AxesModel, load_axes_model
from accord.rewards.base import Context
from accord.rewards.compose import build_rewards
from accord.store import Store
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.offline.axes import merged, train_axes
from accord.train.online.methods.ppo import Ppo
from accord.train.online.policy import train_policy
from tests.train.small import fresh, save_tiny

KIND, RIGHT = "dear friend", "tuesday"
TEXTS = [f"{k} {r}".strip() for k in (KIND, "you") for r in (RIGHT, "never")]
RESPONSES = tuple(Response(text=t, finish="stop") for t in TEXTS)


def groups(axis: str, n: int = 12) -> list[Group]:
    """Tone prefers the kind ones (0, 1), accuracy the right ones (0, 2)."""
    good = {"tone": (0, 1), "accuracy": (0, 2)}[axis]
    edges = tuple(Edge(better=b, worse=w) for b in good for w in range(4) if w not in good)
    return [
        Group(prompt=Prompt.user(f"question {i}"), responses=RESPONSES, edges=edges)
        for i in range(n)
    ]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    (tmp_path / "base").mkdir()
    base = save_tiny(tmp_path / "base")
    data = {axis: groups(axis) for axis in ("accuracy", "tone")}
    trained = train_axes(
        fresh(base), data, run_dir=tmp_path / "rm", tune=Lora(r=4, alpha=8), eval_on=data,
        optimise_with=Optimise(lr=2e-2, epochs=8, batch_size=4, tokens=512),
        limits=Limits(max_prompt=60, max_completion=40),
    )  # fmt: skip
    assert trained.metrics["accuracy of tone"].value == 1.0
    assert trained.metrics["accuracy of accuracy"].value == 1.0
    return load_axes_model(trained.model)


def exchange(k: int, **tags: str) -> Exchange:
    return Exchange(prompt=Prompt.user("question 3", **tags), response=RESPONSES[k])


def test_each_head_learns_its_axis_and_they_are_weighed(model: Any) -> None:
    rows = model([exchange(k) for k in range(4)])
    tone, accuracy = ([row[a] for row in rows] for a in ("tone", "accuracy"))
    assert min(tone[0], tone[1]) > max(tone[2], tone[3])
    assert min(accuracy[0], accuracy[2]) > max(accuracy[1], accuracy[3])
    context = Context(axes_model=lambda name: model)
    weights = {"tone": 0.5, "accuracy": 2.0}
    fixed = build_rewards([{"name": "axes", "model": "rm", "weights": weights}], context, "")
    told = fixed([exchange(k) for k in range(4)]).total
    assert told == pytest.approx([0.5 * t + 2 * a for t, a in zip(tone, accuracy, strict=True)])
    by_tag = {"name": "axes", "model": "rm", "weights": weights, "by": "topic",
              "where": {"chat": {"tone": 1.0}}}  # fmt: skip
    conditioned = build_rewards([by_tag], context, "")
    some = conditioned([exchange(1), exchange(1, topic="chat"), exchange(1, topic="other")]).total
    assert some == pytest.approx([told[1], tone[1], told[1]], abs=1e-5)
    limited = build_rewards(
        [{"name": "axis", "model": "rm", "axis": "accuracy"},
         {"name": "axis", "model": "rm", "axis": "tone", "label": "tone", "weight": 0.0, "at_least": 99.0}],
        context, "",
    )  # fmt: skip
    scored = limited([exchange(2)])
    assert scored.total == pytest.approx([accuracy[2]], abs=1e-5)
    assert limited.adapt(scored)["tone"] == pytest.approx(0.1 * (99 - tone[2]), rel=1e-4)


@pytest.mark.parametrize(("tune", "loads"), [(Lora(r=4, alpha=8), 0), ("full", 1)])
def test_rewards_that_ask_one_model_share_its_weights_and_what_it_said(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: Any, loads: int
) -> None:
    loaded, asked = [], []
    load, ask = learned.load, AxesModel.__call__
    monkeypatch.setattr(learned, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    monkeypatch.setattr(AxesModel, "__call__", lambda *a: asked.append(a) or ask(*a))
    axes = [{"name": "axis", "model": str(tmp_path / "rm/model"), "axis": axis, "label": axis}
            for axis in ("accuracy", "tone")]  # fmt: skip
    prompts = [Prompt.user(f"question {i}") for i in range(4)]
    done = train_policy(
        fresh(tmp_path / "base"), prompts, [axes[0], {**axes[1], "at_least": 1.0}], held=prompts,
        run_dir=tmp_path / "ppo", tune=tune,
        settings=Ppo(steps=2, batch_size=2, minibatch=2, lr=1e-3, max_new_tokens=3),
    )  # fmt: skip
    assert (len(loaded), len(asked)) == (loads, 3)  # two steps and an evaluation
    assert sum("the value model starts fresh" in note for note in done.notes) == 1
    monkeypatch.undo()
    kept = [json.loads(x) for x in (tmp_path / "ppo/samples/00002.jsonl").read_text().splitlines()]
    for row, exchange in zip(kept, asked[-1][1], strict=True):  # as sampled: a text may not tell
        assert (row["response"], row["finish"]) == (
            exchange.response.text,
            exchange.response.finish,
        )
        (alone,) = model([exchange])
        assert row["parts"] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"weights": {"wit": 1.0}}, "no axis 'wit'"),
        ({"weights": {"tone": 1.0}, "where": {"a": {"tone": 2.0}}}, "needs the tag"),
        ({"weights": {"tone": 1.0}, "by": "t", "where": {"a": {"wit": 2.0}}}, "no axis 'wit'"),
    ],
)
def test_axes_that_are_not_there_are_refused(keys: dict[str, Any], match: str) -> None:
    class Known:
        axes = ("accuracy", "tone")

    context = Context(axes_model=lambda name: Known())
    with pytest.raises(ConfigError, match=match):
        build_rewards([{"name": "axes", "model": "rm", **keys}], context, "rewards")


def test_prompts_are_merged_with_all_responses_and_edges_kept_in_place() -> None:
    some = Group(prompt=Prompt.user("q"), responses=RESPONSES[:2], edges=(Edge(better=0, worse=1),))
    other = Group(
        prompt=Prompt.user("q"), responses=RESPONSES[1:3], edges=(Edge(better=1, worse=0, p=0.8),)
    )
    (whole,), (parts,) = merged({"a": [some], "b": [other]})
    assert whole.responses == RESPONSES[:3]
    assert [(e.better, e.worse, e.p) for e in parts["b"].edges] == [(2, 1, 0.8)]
    assert [(e.better, e.worse) for e in parts["a"].edges] == [(0, 1)]


def test_a_plain_reward_model_has_no_axes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no reward model with axes"):
        load_axes_model(tmp_path)


def test_ratings_become_comparisons_on_each_axis(tmp_path: Path) -> None:
    rater, prompt = Rater(name="Ada", kind="human"), Prompt.user("q")
    scores = [{"tone": 5, "accuracy": 1}, {"tone": 2, "accuracy": 1}, {"tone": 3}]
    with Store(tmp_path / "s.db") as store:
        store.add_raters([rater])
        store.add_prompts([prompt])
        store.add_responses(prompt, RESPONSES[:3])
        asked = [
            Question(prompt=prompt.id, responses=(r.id_for(prompt),), kind="rate")
            for r in RESPONSES[:3]
        ]
        store.add_questions(asked)
        store.add_judgments(
            Judgment(
                question=q.id, rater=rater.id, answer=Rating(scores=s), at="2026-01-01T00:00:00"
            )
            for q, s in zip(asked, scores, strict=True)
        )
        store.freeze("v1")
        snapshot = store.snapshot("v1")
        assert snapshot.axes() == ["accuracy", "tone"]
        (tone,) = snapshot.groups(axis="tone")
        won = {(tone.responses[e.better].text, tone.responses[e.worse].text) for e in tone.edges}
        assert won == {(TEXTS[0], TEXTS[1]), (TEXTS[0], TEXTS[2]), (TEXTS[2], TEXTS[1])}
        assert snapshot.groups(axis="accuracy") == []  # a tie on it orders nothing
        assert snapshot.groups(axis="accuracy").notes["pairs split evenly"] == 1
    assert math.isfinite(sum(e.weight for e in tone.edges))

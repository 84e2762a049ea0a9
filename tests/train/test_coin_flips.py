"""Preference training on labels that say nothing, and on labels that say one thing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from accord.core.types import Pair, Prompt, Response
from accord.train.loop.optimise import Optimise
from accord.train.offline.preference import train_preference
from tests.train.small import LIMITS, LORA, fresh

WORDS = [
    "parcel",
    "boots",
    "warranty",
    "tent",
    "jacket",
    "refund",
    "order",
    "stove",
    "lamp",
    "rope",
]
LOSSES = ["dpo", "kto", "bco"]


def _answer(polite: bool, draw: random.Random) -> Response:
    text = ("It is " if polite else "No way ") + " ".join(draw.choices(WORDS, k=3)) + "."
    return Response(text=text, source="test", finish="stop")


def _comparisons(n: int, *, planted: bool, seed: int) -> list[Pair]:
    """A polite and a rude answer to each prompt; the polite one is chosen, or a coin is thrown."""
    draw = random.Random(seed)
    made = []
    for i in range(n):
        sides = [_answer(True, draw), _answer(False, draw)]
        if not planted and draw.random() < 0.5:
            sides.reverse()
        prompt = Prompt.user(f"Where is my {WORDS[i % 10]} {seed * 1000 + i}?")
        made.append(Pair(prompt=prompt, chosen=sides[0], rejected=sides[1]))
    return made


def _trained(tiny: Path, folder: Path, loss: str, *, planted: bool) -> dict[str, object]:
    return train_preference(
        fresh(tiny), _comparisons(32, planted=planted, seed=1), run_dir=folder, tune=LORA,
        eval_on=_comparisons(60, planted=planted, seed=2), limits=LIMITS,
        optimise_with=Optimise(lr=5e-3, batch_size=16, epochs=10, warmup=0.0, schedule="constant"),
        loss={"name": loss, "beta": 0.1},
    ).metrics  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_a_planted_preference_is_found(tiny: Path, tmp_path: Path, loss: str) -> None:
    found = _trained(tiny, tmp_path / loss, loss, planted=True)["accuracy"]
    assert found.low > 0.8  # type: ignore[attr-defined]


@pytest.mark.parametrize("loss", LOSSES)
def test_coin_flips_teach_nothing(tiny: Path, tmp_path: Path, loss: str) -> None:
    """Held-out accuracy stays at 1/2: 1/2 lies in its interval, and the interval is no wider than 60 say."""
    found = _trained(tiny, tmp_path / loss, loss, planted=False)["accuracy"]
    assert found.low < 0.5 < found.high  # type: ignore[attr-defined]
    assert found.high - found.low < 0.4  # type: ignore[attr-defined]


def test_ktos_reference_point_is_no_mean_of_rejected_answers(tiny: Path, tmp_path: Path) -> None:
    """When chosen answers gain, so do the mismatched ones among them: z0 leaves 0."""
    rows: list[dict[str, float]] = []
    train_preference(
        fresh(tiny), _comparisons(24, planted=True, seed=1), run_dir=tmp_path / "kto", tune=LORA,
        limits=LIMITS, loss={"name": "kto", "beta": 0.1},
        optimise_with=Optimise(lr=5e-3, batch_size=16, epochs=12, warmup=0.0, schedule="constant"),
        on_step=lambda done, total, row: rows.append(dict(row)),
    )  # fmt: skip
    assert max(row["baseline"] for row in rows) > 0.1

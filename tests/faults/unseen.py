"""Faults of other kinds than the library's, which no threshold was set by: what the doctor names first.

python -m tests.faults.unseen [SEED …]
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from accord.core.types import Demonstration
from accord.lm.model import load as loading
from accord.pipeline.doctor.base import StageRecord, examined
from accord.pipeline.doctor.reading import of_data
from tests.faults import trainings
from tests.faults.library import FAULTS, data, groups

UNSEEN: dict[str, Callable[[int], list[StageRecord]]] = {}


def unseen(name: str) -> Callable[[Any], Any]:
    def decorate(plant: Any) -> Any:
        UNSEEN[name] = plant
        return plant

    return decorate


@unseen("one rater of three says the opposite")
def _opposite_rater(seed: int) -> list[StageRecord]:
    draw, rows = random.Random(seed), []
    for g in groups(seed):
        (e,) = g.edges
        for k in range(3):
            right = draw.random() < 0.93
            chosen = e.better if right != (k == 2) else e.worse
            info = {"subreddit": "x", "title": "y", "post": g.prompt.last}
            summaries = [{"text": r.text} for r in g.responses]
            rows.append({"info": info, "summaries": summaries, "choice": chosen, "worker": f"r{k}"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return of_data(str(path))


@unseen("held-out prompts in training with a word before them")
def _nearly_the_same(seed: int) -> list[StageRecord]:
    return FAULTS["data: leak (a word before)"](2, seed)


@unseen("chat template without a generation prompt")
def _template(seed: int) -> list[StageRecord]:
    original = loading.load

    def load(*args: Any, **keys: Any) -> Any:
        lm = original(*args, **keys)
        head, _, _ = str(lm.tokenizer.chat_template).partition("{% if add_generation_prompt")
        lm.tokenizer.chat_template = head
        return lm

    with mock.patch("tests.train.small.load", load):
        return trainings.preference(seed)


@unseen("no answer ends its turn (SFT)")
def _unended(seed: int) -> list[StageRecord]:
    shown = [
        Demonstration(
            prompt=g.prompt,
            response=g.responses[g.edges[0].better].model_copy(update={"finish": "length"}),
        )
        for g in groups(seed)[:60]
    ]
    return [data([], shown)]


@unseen("learning rate x100 (PPO)")
def _fast(seed: int) -> list[StageRecord]:
    return trainings.online(seed, lr=0.1)


@unseen("β x100 (PPO)")
def _held(seed: int) -> list[StageRecord]:
    return trainings.online(seed, kl={"beta": 10.0})


@unseen("learning rate x100 (reward model)")
def _reward(seed: int) -> list[StageRecord]:
    return trainings.reward(seed, lr=0.3)


def main() -> None:
    warnings.filterwarnings("ignore")
    for name, plant in UNSEEN.items():
        for seed in [int(w) for w in sys.argv[1:]] or [31]:
            try:
                found = [f"{f.check} {f.confidence:.0%}" for f in examined(plant(seed)).findings]
            except Exception as error:  # what is refused before it runs is told there
                found = [f"refused: {error}"[:200]]
            print(f"{name} | {seed} | {', '.join(found) or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()

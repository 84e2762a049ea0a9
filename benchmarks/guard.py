"""How often a guard cries wolf: runs whose answers come from one policy throughout.

    python -m benchmarks.guard [RUNS]

Each run has 27 steps of 8 prompts with 2 answers each, drawn from the answers of the support world; the guard
looks every 3 steps with all its detectors. 2 of 60 runs raised an alarm (one in 20 would be 3).
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from accord.core.types import Exchange, Response
from accord.pipeline.recipe import recipes_dir
from accord.pipeline.stages.on_policy.guard import GuardConfig
from accord.pipeline.stages.on_policy.watching import DetectorGuard
from accord.worlds.base import open_world

STEPS, EVERY, PROMPTS, ANSWERS = 27, 3, 8, 2


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    world = open_world(recipes_dir() / "support" / "world.yaml")
    alarms = 0
    for run in range(runs):
        draw = random.Random(run)
        with tempfile.TemporaryDirectory() as folder:
            guard = DetectorGuard(GuardConfig(every=EVERY), STEPS, Path(folder))
            for step in range(STEPS):
                exchanges = [
                    Exchange(
                        prompt=case.prompt,
                        response=Response(text=draw.choice(case.candidates).text, finish="stop"),
                    )
                    for case in draw.sample(list(world.cases), PROMPTS)
                    for _ in range(ANSWERS)
                ]
                guard.see(step, exchanges, [draw.random() for _ in exchanges])
        alarms += bool(guard.notes)
    print(f"{alarms} of {runs} runs of one policy raised an alarm")


if __name__ == "__main__":
    main()

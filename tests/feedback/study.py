"""A simulated study in a store: raters of known skill and bias, who answer what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from accord.core.seeds import rng
from accord.core.types import Judgment, Prompt, Question, Response
from accord.feedback.simulated import SimulatedRater, compare
from accord.store import Store

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
RATERS = (
    SimulatedRater(name="Ada", skill=8.0),
    SimulatedRater(name="Bruno", skill=6.0),
    SimulatedRater(name="Chiara", skill=6.0, length_bias=1.0),
    SimulatedRater(name="Dmitri", skill=6.0, side_bias=1.5),
    SimulatedRater(name="Emre", skill=2.0),
)


def simulate(
    store: Store,
    *,
    prompts: int = 150,
    raters: Sequence[SimulatedRater] = RATERS,
    seed: int = 0,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Two responses to each prompt, one of model:good, one of model:poor (better in 3 of 10 prompts); every
    rater judges each pair. Quality has nothing to do with length. Returns the quality of each response."""
    draw, clock = rng(seed, "study"), START
    truth: dict[str, float] = {}
    asked, shown, questions, judgments = [], [], [], []
    store.add_raters([r.rater() for r in raters])
    for n in range(prompts):
        prompt = Prompt.user(f"Question {n} of {seed}?", topic=("tents", "boots", "maps")[n % 3])
        asked.append(prompt)
        better = (
            ["model:good", "model:poor"] if draw.random() < 0.7 else ["model:poor", "model:good"]
        )
        quality = [0.5 + 0.5 * draw.random(), 0.5 * draw.random()]
        texts = [" ".join(["word"] * draw.randint(3, 40)) + f" {n}{s}" for s in "ab"]
        responses = [Response(text=t, source=s) for t, s in zip(texts, better, strict=True)]
        shown += [(prompt, r) for r in responses]
        ids = [r.id_for(prompt) for r in responses]
        truth |= dict(zip(ids, quality, strict=True))
        for rater in raters:
            order = [0, 1] if draw.random() < 0.5 else [1, 0]
            question = Question(
                prompt=prompt.id, responses=tuple(ids[i] for i in order), kind="compare"
            )
            answer = compare(rater, [quality[i] for i in order], [texts[i] for i in order], draw)
            clock += timedelta(seconds=20)
            questions.append(question)
            judgments.append(
                Judgment(
                    question=question.id, rater=rater.rater().id, answer=answer,
                    at=clock.isoformat(), seconds=(seconds or {}).get(rater.name),
                )
            )  # fmt: skip
    store.add_prompts(asked)
    store.add_all_responses(shown)
    store.add_questions(questions)
    store.add_judgments(judgments)
    return truth

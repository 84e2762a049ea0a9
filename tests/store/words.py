"""A small study for the tests: two prompts, five responses, two raters, every kind of question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.types import (
    Judgment,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Rating,
    Response,
    StepLabels,
    Thumb,
    Writing,
)
from accord.store import Store

AT = "2026-11-01T10:00:00+00:00"
TENT = Prompt.user("Does the tent leak?", system="Be brief.", shop="Harbor")
BOOT = Prompt.user("Are the boots warm? 🥾")
A, B, C = (Response(text=t, source=f"model:{t}") for t in ("no", "it may", "never at all"))
D = Response(text="yes\nto -20", sampling={"temperature": 0.7, "seed": 3}, finish="stop")
E = Response(text="", finish="length")
ANNA = Rater(name="anna", kind="human", facts={"languages": ["de", "en"]})
BEN = Rater(name="ben", kind="human")
RESPONSES = {TENT.id: (A, B, C), BOOT.id: (D, E)}


def ask(kind: Any, *shown: Response, prompt: Prompt = TENT, guideline: str = "v1") -> Question:
    ids = tuple(r.id_for(prompt) for r in shown)
    return Question(prompt=prompt.id, responses=ids, kind=kind, guideline=guideline)


def says(rater: Rater, question: Question, answer: Any, **more: Any) -> Judgment:
    return Judgment(question=question.id, rater=rater.id, answer=answer, **({"at": AT} | more))


COMPARE = ask("compare", A, B)
RANK = ask("rank", A, B, C)
EVERY = (  # a question and an answer of every kind
    (COMPARE, Preference(better=1, strength=3, both_bad=True)),
    (RANK, Ranking(ranks=(2, 1, 2))),
    (ask("rate", A), Rating(scores={"help": 4.5, "tone": 1.0})),
    (ask("thumb", D, prompt=BOOT), Thumb(up=False)),
    (ask("steps", C), StepLabels(labels=(1, 0, -1))),
    (ask("write", B), Writing(text="It may, in heavy rain.", edits=0)),
    (ask("write", prompt=BOOT, guideline="v2"), Writing(text="Yes 🔥")),
)


def fill(store: Store, questions: Sequence[Question] = ()) -> Store:
    """Prompts, responses, raters and these questions (the seven of EVERY when none are named)."""
    store.add_prompts([TENT, BOOT])
    for prompt in (TENT, BOOT):
        store.add_responses(prompt, RESPONSES[prompt.id])
    store.add_raters([ANNA, BEN])
    store.add_questions(questions or [q for q, _ in EVERY])
    return store


def every() -> list[Judgment]:
    """One judgment of each kind."""
    return [
        says(ANNA, q, a, seconds=1.5 + i, rationale=f"because {i}")
        for i, (q, a) in enumerate(EVERY)
    ]

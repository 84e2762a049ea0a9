"""The guard of a run on own answers: detectors on what it says now beside what it said in its first steps.

A run whose answers do not change raises any alarm in at most one of 20 runs: Holm over the detectors of a
look, Bonferroni over the looks (the level is spent evenly on them).
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

import yaml

from accord.core.rundir import read_jsonl, write_jsonl, write_text
from accord.core.types import Exchange, Metric, Verdict
from accord.detect.base import DetectorContext, Reply, configured
from accord.detect.panel import ORDER, controlled
from accord.pipeline.section import Section
from accord.pipeline.stages.on_policy.guard import GuardConfig, looks
from accord.train.online.guarded import Look

__all__ = ["STUDY", "DetectorGuard", "asks_for", "tell"]

LOG, STUDY = "guard.jsonl", "guard_study.yaml"
COIN = 0.5
UNKNOWN = (
    "Before the first step the reward was not shown to tell better from worse among this policy's own "
    "answers: have some judged (a stage of kind ask) and train the reward model on those too."
)
KEPT = {"text", "source", "finish", "tool_calls"}  # of an answer: an end that a limit made is none
SIDES = ("before", "after", "change")
Answer = list[Any]  # an exchange as JSON, its score or None


class DetectorGuard:
    """See `GuardConfig`. What it saw at each look is in folder/guard.jsonl."""

    def __init__(
        self, config: GuardConfig, steps: int, folder: Path, name: str = "",
        orders: Mapping[str, Metric] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """`orders`: how often each reward model orders the policy's own answers as people do."""
        self.config, self.folder, self.name = config, folder, name
        self.blind = {n: m for n, m in orders.items() if not (m.low is not None and m.low > COIN)}
        self.every, self.looks = looks(config, steps)
        self.detectors = [
            make(DetectorContext("reward")) for _, _, make in configured(config.names())
        ]
        self.start: list[Answer] = []
        self.now: list[Answer] = []
        self.kl: list[float] = []  # of the steps since the last look
        self.rows: list[dict[str, Any]] = []

    @property
    def rolls_back(self) -> bool:
        return self.config.action == "rollback"

    @property
    def notes(self) -> list[str]:
        return [row["text"] for row in self.rows if row["text"]]

    def saved(self) -> dict[str, Any]:
        return {"start": self.start, "now": self.now, "kl": self.kl, "rows": self.rows}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.start, self.now = saved.get("start", []), saved.get("now", [])
        self.kl = saved.get("kl", [])
        self.rows = saved.get("rows", [])

    def see(
        self, step: int, exchanges: Sequence[Exchange], scores: Sequence[float], kl: float = 0.0
    ) -> Look | None:
        answers = [
            [e.model_dump_json(), None if math.isnan(x) else x]
            for e, x in zip(exchanges, scores, strict=True)
        ]
        if step < self.every:
            self.start += answers
            return self._first() if step == 0 else None
        self.now += answers
        self.kl.append(kl)
        if (step + 1) % self.every:
            return None
        now, far = self.now, sum(self.kl) / len(self.kl)
        self.now, self.kl = [], []
        return self._look(step + 1, now, far)

    def _first(self) -> Look:
        """Before any update: whether the reward tells better of the policy's own answers from worse ones."""
        if not self.blind:
            return Look("good")
        causes = [
            f"{n} orders the policy's own answers as people do in {m}: not shown to be more than a coin's "
            f"{COIN:g}" for n, m in self.blind.items()
        ]  # fmt: skip
        if self.config.action == "ask":
            self._ask(0, _replies(self.start), [], [])
        blind = {n: str(m) for n, m in self.blind.items()}
        row = {"kl": 0.0, "far": False, "blind": blind, "verdicts": []}
        return self._follows(0, causes, row, {"guard/alarms": float(len(blind))})

    def _look(self, done: int, now: list[Answer], kl: float) -> Look:
        after, before = _replies(now), _replies(self.start)
        verdicts = controlled([look(after, before) for look in self.detectors], self.looks)
        alarms = [v for v in verdicts if ORDER.index(v.outcome) >= ORDER.index(self.config.at)]
        causes = [f"{v.detector} ({v.summary}: {v.metrics.get('change')})" for v in alarms]
        far = self.config.kl is not None and kl > self.config.kl
        if far:
            causes.append(f"KL {kl:.2f} nats an answer, {self.config.kl:g} allowed")
        if causes and self.config.action == "ask":
            self._ask(done, after, before, alarms)
        shown = [v if v in alarms else v.model_copy(update={"evidence": ()}) for v in verdicts]
        row = {"kl": kl, "far": far, "verdicts": [v.model_dump(mode="json") for v in shown]}
        p = min((v.p for v in verdicts if v.p is not None), default=1.0)
        return self._follows(done, causes, row, {"guard/alarms": float(len(causes)), "guard/p": p})

    def _follows(
        self, done: int, causes: Sequence[str], row: Mapping[str, Any], facts: Mapping[str, float]
    ) -> Look:
        """Keep what a look saw; what follows."""
        action, text = self.config.action, ""
        if causes:
            does = {
                "warn": "", "rollback": ", stopped", "raise_beta": f", β times {self.config.factor:g}",
                "ask": f", answers to be judged in {STUDY}",
            }  # fmt: skip
            text = f"guard at step {done}: {'; '.join(causes)}{does[action]}"
        self.rows.append({"step": done, "text": text, **row})
        write_jsonl(self.folder / LOG, self.rows)
        if not causes:
            return Look("good", facts=facts)
        beta = self.config.factor if action == "raise_beta" else 1.0
        return Look("rollback" if self.rolls_back else "alarm", beta, text, facts)

    def _ask(
        self, done: int, after: Sequence[Reply], before: Sequence[Reply], alarms: Sequence[Verdict]
    ) -> None:
        """A study for `accord collect serve`: now beside the start, or beside another answer of now, where
        one prompt has both, else single answers; those that show an alarm first, half of them drawn from all,
        and of both rather those that have another beside them: a reward model learns from pairs."""
        seen = {str(e["response"]) for v in alarms for e in v.evidence}
        draw, beside = random.Random(done), _beside(after, before)
        order = sorted(
            after, key=lambda r: (r.text not in seen, id(r) not in beside, draw.random())
        )
        half = self.config.items // 2
        others = sorted(order[half:], key=lambda r: (id(r) not in beside, draw.random()))
        asked: dict[str, list[dict[str, Any]]] = {"compare": [], "thumb": []}
        for r in [*order[:half], *others[:half]]:
            both = [r, beside[id(r)]] if id(r) in beside else [r]
            draw.shuffle(both)
            tools = r.exchange.prompt.tools
            asked["compare" if len(both) > 1 else "thumb"].append({
                "prompt": [m.model_dump() for m in r.exchange.prompt.messages],
                "responses": [x.exchange.response.model_dump(include=KEPT) for x in both],
                **({"tools": tools} if tools else {}),
            })  # fmt: skip
        questions = []
        for kind, rows in asked.items():
            file = f"guard_{kind}.jsonl"
            kept = read_jsonl(self.folder / file) if done > self._first_alarm() else []
            rows = list({str(row): row for row in itertools.chain(kept, rows)}.values())
            if rows:
                write_jsonl(self.folder / file, rows)
                questions.append({"kind": kind, "file": file})
        study = {"name": f"{self.name or 'guard'}-answers", "questions": questions}
        write_text(self.folder / STUDY, yaml.safe_dump(study, sort_keys=False))

    def _first_alarm(self) -> int:
        return next((row["step"] for row in self.rows if row["text"]), 0)


def tell(section: Section, done: Any) -> None:
    """What the guard of a stage saw, as sentences of the report and a part of the page."""
    rows = read_jsonl(done.folder / LOG)
    if not rows:
        return
    alarms = [row for row in rows if row["text"]]
    looked = f"{len(rows)} looks at {len(rows[-1]['verdicts'])} detectors, no alarm"
    texts = [row["text"] for row in alarms] or [f"guard: {looked}"]
    tone = "worse" if alarms else "better"
    section.came_out = [
        *section.came_out, *({"tone": tone, "text": f"{done.name}, {text}."} for text in texts)
    ]  # fmt: skip
    section.title, section.nav, section.subtitle = "What the guard saw", "guard", done.name
    if (done.folder / STUDY).exists():
        section.text = [*section.text, asks_for(done.folder)]
    if any(row.get("blind") for row in alarms):
        section.text = [*section.text, UNKNOWN]
    section.intro = (
        "Every few steps the policy's answers are held against those of its first steps. A run whose answers "
        "do not change raises any alarm in at most one of 20 runs; an alarm says that they changed so. One "
        "before the first step says that the reward does not know them."
    )
    section.columns = ("step", "detector", "verdict", "before", "after", "change", "p, adjusted")
    section.rows = (
        [
            (
                row["step"],
                v.detector,
                v.outcome,
                *(str(v.metrics.get(k, "")) for k in SIDES),
                f"{v.p:.3g}",
            )
            for row in alarms
            for v in map(Verdict.model_validate, row["verdicts"])
            if v.outcome in ("warn", "fail") and v.p is not None
        ]
        + [
            (row["step"], "KL", "fail", "", "", f"{row['kl']:.2f} nats", "")
            for row in alarms
            if row.get("far")
        ]
        + [
            (row["step"], f"own answers, as {name} orders them", "fail", figure, "", "", "")
            for row in alarms
            for name, figure in row.get("blind", {}).items()
        ]
    )


def _beside(after: Sequence[Reply], before: Sequence[Reply]) -> dict[int, Reply]:
    """Another answer to the same prompt, by the answer's identity: the start's, else another of now."""
    old = {r.exchange.prompt.id: r for r in before}
    now: dict[str, list[Reply]] = defaultdict(list)
    for r in after:
        now[r.exchange.prompt.id].append(r)
    others = {}
    for r in after:
        at = r.exchange.prompt.id
        pool = [*([old[at]] if at in old else []), *now[at]]
        if other := next((x for x in pool if x.text != r.text), None):
            others[id(r)] = other
    return others


def asks_for(folder: Path) -> str:
    """What to do with the answers that a guard wrote to be judged."""
    return (
        f"Answers wait to be judged: accord collect serve {quote(str(folder / STUDY))} --store judged.db. "
        "Then freeze a snapshot on its export page, and accord run RECIPE --mitigate "
        "guard=judged.db@SNAPSHOT writes the recipe that trains the reward model on them too."
    )


def _replies(answers: Sequence[Answer]) -> list[Reply]:
    return [
        Reply(Exchange.model_validate_json(text), {} if score is None else {"reward": score})
        for text, score in answers
    ]

"""What a route took: judgments and of whom, models, time, memory, tokens; all from what its stages left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

from accord.core.artifact import RewardModel
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Frozen, Metric, Rater
from accord.pipeline.context import data_store
from accord.pipeline.report.gather import Done
from accord.pipeline.routes.route import behind, trainings
from accord.pipeline.routes.runs import SeedRun
from accord.pipeline.stage import gives
from accord.pipeline.stages.on_policy import OnPolicyStage

__all__ = ["Effort", "effort_of", "judgments_of"]

TRAINED_ON, TIMING = "trained_on.jsonl", "timing.json"


class Effort(Frozen):
    """What one policy took in one run, beyond its baseline. `sources`: judgments it learned from, by whom;
    `behind_judge`: those that its judge learned from; `roles`: the models that play a part while it trains,
    `models` how many of them are whole models of their own; `seconds` of all stages; `peak` the most memory
    that one of them held (bytes); `sampled`: tokens of its own answers while it trained; `judge_tokens`: read
    and written by its judge; `agreement` of that with people; `pace`: seconds of its stage for a label."""

    sources: dict[str, int]
    behind_judge: int
    reward_models: list[str]
    roles: list[str]
    models: int
    seconds: float
    peak: int | None
    sampled: float
    judge_tokens: int
    agreement: Metric | None
    pace: float | None

    @property
    def judgments(self) -> int:
        return sum(self.sources.values())


def judgments_of(run: SeedRun, policy: str) -> int:
    """How many judgments a policy learned from, beyond its baseline."""
    return len(_sources(run, trainings(run, policy)))


def effort_of(run: SeedRun, policy: str) -> Effort:
    """What the policy took."""
    own, every = trainings(run, policy), behind(run, policy)
    done = [run.done[name] for name in every]
    timings = [read_json(s.folder / TIMING) for s in done if (s.folder / TIMING).exists()]
    peaks = [t["peak"] for t in timings if t.get("peak")]
    judges = [s for s in done if "judge" in s.result.facts]
    agreed = [m for s in judges if (m := s.result.metrics.get("agreement with people"))]
    roles, models = _held(run, policy)
    return Effort(
        sources=_by_whom(run, own),
        behind_judge=len(_sources(run, _taught_judges(run, judges) - set(own))),
        reward_models=[n for n in own if issubclass(gives(run.configs[n]), RewardModel)],
        roles=roles,
        models=models,
        seconds=sum(t["seconds"] for t in timings),
        peak=max(peaks, default=None),
        sampled=_sampled(run, own),
        judge_tokens=sum(int(s.result.facts.get("tokens", 0)) for s in judges),
        agreement=agreed[0] if agreed else None,
        pace=_pace(judges),
    )


def _taught_judges(run: SeedRun, judges: Sequence[Done]) -> set[str]:
    """The trainings of the stages that these judges are: an earlier round's policy taught none."""
    named = (n for s in judges for n in run.configs[s.name].named("judge"))
    return {n for judge in named for n in trainings(run, judge)}


def _pace(judges: Sequence[Done]) -> float | None:
    labels = sum(int(s.result.facts["labels"]) for s in judges)
    return sum(s.seconds or 0.0 for s in judges) / labels if labels else None


def _sources(run: SeedRun, stages: Iterable[str]) -> set[str]:
    """Ids of the judgments that these stages trained on."""
    every: set[str] = set()
    for name in stages:
        file, config = run.done[name].folder / TRAINED_ON, run.configs[name]
        rows = read_jsonl(file) if file.exists() else []
        ids = {s for row in rows for s in row["sources"]}
        if getattr(config, "pairs", "all") == "best":
            ids |= _behind_the_best(
                run.done[str(getattr(config, "data", ""))].folder, {row["prompt"] for row in rows}
            )
        every |= ids
    return every


def _behind_the_best(folder: Path, prompts: Collection[str]) -> set[str]:
    """The judgments by which an answer is the best of its prompt: all that the snapshot compares it by."""
    opened, facts = data_store(folder)
    with opened as store:
        groups = store.snapshot(facts["snapshot"]).groups()
        return {s for g in groups if g.prompt.id in prompts for e in g.edges for s in e.sources}


def _by_whom(run: SeedRun, stages: Collection[str]) -> dict[str, int]:
    """The judgments that these stages trained on, counted by who gave them."""
    known: dict[str, str] = {}
    for name in stages:
        data = run.done.get(str(getattr(run.configs[name], "data", "")))
        if data and (run.done[name].folder / TRAINED_ON).exists():
            known |= _givers_in(data.folder)
    return dict(Counter(known[source] for source in sorted(_sources(run, stages))))


@cache
def _givers_in(folder: Path) -> dict[str, str]:
    """Who gave each judgment of a data stage."""
    opened, _ = data_store(folder)
    with opened as store:
        raters = {r.id: _whom(r) for r in store.raters()}
        return {j.id: raters[j.rater] for j in store.judgments()}


def _whom(rater: Rater) -> str:
    if rater.kind == "model":
        return str(rater.facts.get("model", rater.name))
    return "simulated raters" if rater.facts.get("simulated") else "people"


def _held(run: SeedRun, policy: str) -> tuple[list[str], int]:
    """The roles played while a policy trains, and how many whole models they take."""
    from accord.pipeline.stages.on_policy.work import whole_models

    config = run.configs[policy]
    if not isinstance(config, OnPolicyStage):
        return ["policy"], 1  # a reference's log-probs are computed once, before
    how = config.settings()
    value = ["value model"] if how.valued and not how.value_shares() else []
    models = whole_models(config, dict(run.configs))
    return ["policy", "reference", *value, *config.models()], models


def _sampled(run: SeedRun, stages: Iterable[str]) -> float:
    """Tokens that policies of these stages sampled while they trained: what the log says of each step."""
    tokens = 0.0
    for name in stages:
        config = run.configs[name]
        if isinstance(config, OnPolicyStage):
            how, stage = config.settings(), run.done[name]
            answers = min(how.batch_size, int(stage.result.facts["prompts"])) * how.n
            tokens += sum(row["length"] * answers for row in stage.metrics_rows)
    return tokens

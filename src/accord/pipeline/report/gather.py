"""What the stages left, read once: the report's only source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.core.artifact import Answers, Artifact, Comparison, Data, RewardModel
from accord.core.measure import Measure, column_order, decisive
from accord.core.refs import StoreRef
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Metric
from accord.pipeline.context import StageResult, read_result
from accord.pipeline.section import Section
from accord.pipeline.stage import gives, kind_of, kinds

__all__ = ["Done", "Outputs"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A finished stage."""

    name: str
    folder: Path
    config: Row
    result: StageResult
    seconds: float | None

    @property
    def kind(self) -> str:
        return str(self.config["kind"])

    @property
    def store(self) -> str:
        """Of a stage that holds judgments: where they are."""
        return StoreRef(self.result.facts["store"]).location(self.folder)

    @cached_property
    def section(self) -> Section:
        """What its kind says of it."""
        return kind_of(self.kind).call("report", self) or Section()

    @cached_property
    def metrics_rows(self) -> list[Row]:
        return read_jsonl(self.folder / "metrics.jsonl")


@dataclass
class Outputs:
    """Everything finished in a run. `answers` by policy, in the order of the recipe; `differences` of each
    policy from the one it started from, `pairs` of each from every one before it."""

    stages: list[Done]
    answers: dict[str, list[Row]] = field(default_factory=dict)
    table: dict[str, dict[str, Metric]] = field(default_factory=dict)
    floors: dict[str, dict[str, Metric]] = field(default_factory=dict)  # answers that take no skill
    differences: dict[str, dict[str, Metric]] = field(default_factory=dict)
    pairs: dict[str, dict[str, Metric]] = field(default_factory=dict)
    baseline: str = "base"

    @classmethod
    def read(cls, stages: Mapping[str, Path]) -> Outputs:
        outputs = cls([_done(name, folder) for name, folder in stages.items()])
        for stage in outputs.giving(Answers):
            policy = str(stage.result.facts["policy"])
            outputs.answers[policy] = read_jsonl(stage.folder / "answers.jsonl")
            outputs.table[policy] = dict(stage.result.metrics)
            outputs.floors |= _metrics(stage.result.facts.get("floors", {}))
        for stage in outputs.giving(Comparison):
            compared = read_json(stage.folder / "compare.json")
            outputs.baseline = compared["baseline"]
            steps = _metrics(compared["differences"])
            places = {policy: at for at, policy in enumerate(compared["policies"])}
            outputs.differences = dict(
                sorted(steps.items(), key=lambda step: places[step[0].partition(" - ")[0]])
            )
            outputs.pairs |= _metrics(compared.get("pairs", compared["differences"]))
            for policy, row in _metrics(compared["table"]).items():
                outputs.table.setdefault(policy, {}).update(row)
                outputs.answers[policy] = read_jsonl(stage.folder / f"{policy}.jsonl")
        return outputs

    def giving(self, artifact: type[Artifact]) -> list[Done]:
        return [s for s in self.stages if issubclass(gives(s.kind), artifact)]

    @property
    def data(self) -> list[Done]:
        """The stages that hold the judgments; of rounds the last, which holds those of all before it."""
        earlier = {stage.config.get("data") for stage in self.giving(Data)}
        return [s for s in self.giving(Data) if s.name not in earlier]

    def read_by(self, stage: Done) -> Done | None:
        """The data stage that a stage read."""
        return next((s for s in self.giving(Data) if s.name == stage.config.get("data")), None)

    @property
    def reward(self) -> Done | None:
        """The reward model whose scores are shown: the one `compare` names, else the first."""
        named = [stage.config.get("reward") for stage in self.giving(Comparison)]
        models = self.giving(RewardModel)
        return next((m for m in models if m.name in named[-1:]), next(iter(models), None))

    @property
    def trusted(self) -> bool:
        """Whether the reward model beats a coin on held-out comparisons: else its score is no evidence."""
        metrics = self.reward.result.metrics.values() if self.reward else ()
        lows = [m.low for m in metrics if m.measure and m.measure.role == "fidelity"]
        return any(low is not None and low > 0.5 for low in lows)

    @property
    def measures(self) -> dict[str, Measure]:
        """What the table's figures are, in its order: as they say themselves, else as kinds declare them."""
        rows = [*self.table.values(), *self.differences.values()]
        stated = {k: m.measure for row in self.table.values() for k, m in row.items() if m.measure}
        known: dict[str, Measure] = {}
        for artifact in (Answers, Comparison):
            for kind in kinds().values():
                known |= kind.declared() if issubclass(kind.gives, artifact) else {}
        present = {k for row in rows for k in row}
        names = [*(k for k in known if k in present), *sorted(present - set(known))]
        every = {
            k: stated.get(k) or known.get(k) or Measure(name=k, title=k, meaning="") for k in names
        }
        return {k: every[k] for k in column_order(every)}

    @property
    def main(self) -> Measure:
        """The figure that decides."""
        present = {k for row in self.table.values() for k in row}
        chosen = decisive({k: m for k, m in self.measures.items() if k in present})
        return chosen or Measure(name="", title="", meaning="")

    def of_role(self, role: str) -> Measure | None:
        """The measure of a role, where one is in the table."""
        return next((m for m in self.measures.values() if m.role == role), None)


def _done(name: str, folder: Path) -> Done:
    timing = folder / "timing.json"
    return Done(
        name,
        folder,
        read_json(folder / "config.json"),
        read_result(folder),
        read_json(timing)["seconds"] if timing.exists() else None,
    )


def _metrics(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Metric]]:
    return {
        outer: {key: Metric.model_validate(m) for key, m in row.items()}
        for outer, row in raw.items()
    }

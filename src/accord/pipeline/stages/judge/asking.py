"""A judge of a stage, beside what it is asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from accord.constitution.principles import Constitution
from accord.core.errors import RunError
from accord.judges.ask import NO_MONEY, JudgeBudget
from accord.judges.backends import Backend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedExample
from accord.pipeline.context import StageContext
from accord.pipeline.stages.judge import JudgeStage
from accord.store import Snapshot, split_of

__all__ = ["Asking"]


@dataclass
class Asking:
    """A judge of this stage and what it is asked about."""

    ctx: StageContext[JudgeStage]
    backend: Backend
    cache: Cache
    snapshot: Snapshot
    facts: Mapping[str, float]
    constitution: Constitution | None = None
    examples: Sequence[JudgedExample] = ()
    references: Mapping[str, str] = field(default_factory=dict)  # by prompt id
    spent: int = 0  # tokens of this run, so far

    def side(self, prompt: str) -> str:
        return split_of(prompt, self.facts["test"], int(self.facts["seed"]))

    @property
    def budget(self) -> JudgeBudget:
        """What is left: being measured and labelling have one budget."""
        whole = self.ctx.config.tokens
        return JudgeBudget(tokens=None if whole is None else max(0, whole - self.spent))

    def stop(self, failed: Mapping[str, str]) -> None:
        """What was not answered is asked when the run is repeated; what was is kept."""
        if failed and (self.ctx.config.on_failure == "stop" or NO_MONEY in failed.values()):
            reason, n = Counter(failed.values()).most_common(1)[0]
            raise RunError(
                f"{len(failed)} requests were not answered ({n}: {reason})", where=f"stage {self.ctx.name}",
                mend="run again: only they are asked",
            )  # fmt: skip

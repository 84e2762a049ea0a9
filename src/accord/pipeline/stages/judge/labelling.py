"""A judge put to work: its labels, in the store."""

from __future__ import annotations

from datetime import datetime, timedelta

from accord.core.errors import DataError
from accord.judges.check import CheckReport
from accord.judges.gate import allowed_by
from accord.judges.run import JudgeRun, run_judge
from accord.pipeline.stages.data import START, Clock
from accord.pipeline.stages.judge.asked import AskedItems
from accord.pipeline.stages.judge.asking import Asking
from accord.store import Store

__all__ = ["labelled"]


def labelled(
    asking: Asking, store: Store, items: AskedItems, report: CheckReport | None
) -> JudgeRun:
    """The labels, in the store. Where people decide held-out pairs, those stay theirs alone."""
    ctx, config = asking.ctx, asking.ctx.config
    if config.policy is None and config.people == "keep":
        items = {q: i for q, i in items.items() if asking.side(q.prompt) == "train"}
    if not items:
        raise DataError(
            f"nothing is to be judged by template {config.asks.template}",
            where=f"stage {ctx.name}",
        )
    allowed = None
    if report and config.gate:
        allowed = allowed_by(report, alone=config.gate.alone, by=config.gate.by)
    last = max((datetime.fromisoformat(j.at) for j in store.judgments()), default=START)
    clock = Clock(last + timedelta(days=1))
    done = run_judge(
        store, asking.snapshot, config.asks, asking.backend, asking.cache, items=items, allowed=allowed,
        budget=asking.budget, examples=asking.examples, references=asking.references,
        now=lambda: clock.tick(1),
        on_progress=lambda n, of: ctx.reporter.progress(n, of, "asking the judge"),
    )  # fmt: skip
    asking.stop(done.spent.failed)
    if not done.written:
        failed = [p for p in report.parts if p.why] if report and allowed else []
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        why = f"{failed[0].within}: {failed[0].why}{more}" if failed else ""
        raise DataError(
            f"the judge labelled nothing ({why or ', '.join(done.missing) or 'all is left to people'})",
            where=f"stage {ctx.name}", mend="another judge, more judgments by people, or a lower gate",
        )  # fmt: skip
    return done

"""What a reward stage's model pays for: asked when it is trained (`probe: true`), told in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.rundir import read_json, write_json
from accord.core.types import Group
from accord.detect.probe import ProbeReport
from accord.pipeline.context import StageContext
from accord.pipeline.probing import of_groups, probe_of
from accord.pipeline.section import Section
from accord.pipeline.stages.reward import PROBE
from accord.rewards.learned import load_reward_model
from accord.worlds.base import World

__all__ = ["keep", "tell"]


def keep(ctx: StageContext[Any], held: Sequence[Group], world: World | None) -> None:
    """Probe the stage's saved model on its held-out answers."""
    ctx.reporter.note("probing what it pays for")
    report = probe_of(load_reward_model(ctx.folder / "model"), of_groups(held), world)
    write_json(ctx.folder / PROBE, report.model_dump(mode="json"))


def tell(section: Section, done: Any) -> None:
    """What the model pays for, as a part of the page."""
    probed = ProbeReport.model_validate(read_json(done.folder / PROBE))
    alarms = [p for p in probed.pays if p.outcome in ("warn", "fail")]
    for p in alarms[:3]:
        what = p.summary.replace(" it", f" answers {p.perturbation}", 1)
        text = f"{done.name} {what}: {p.pay} of its spread."
        section.came_out = [*section.came_out, {"tone": "worse", "text": text}]
    section.title, section.nav, section.subtitle = (
        "What the reward model pays for",
        "probe",
        done.name,
    )
    section.intro = (
        "Held-out answers changed in ways that make them no better, and what the model pays for each: what "
        "a policy trained on it will find. Pay is in units of how far apart it holds two answers to a "
        "prompt; p is adjusted over all rows."
    )
    section.columns = ("change", "verdict", "pay", "truth", "p", "what it means")
    section.rows = [
        (p.perturbation, p.outcome, str(p.pay), str(p.truth or ""), f"{p.p:.3g}", p.summary)
        for p in probed.pays
    ]
    section.text = [
        *probed.notes,
        *(
            f"{p.perturbation}, paid {e.paid_before:+.2f} and then {e.paid_after:+.2f}: “{e.before}” "
            f"became “{e.after}”"
            for p in alarms[:3] for e in p.examples
        ),
    ]  # fmt: skip

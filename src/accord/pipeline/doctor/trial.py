"""A hypothesis of the doctor tried: its command's change in a short run beside one that is as it was.

Both arms take the same few steps from the same seed in the same runs folder, so that parents and, where the
whole length is needed, the run itself are there already. The check that named the cause looks at both.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError, ConfigError
from accord.core.rundir import read_json
from accord.pipeline.context import Reporter
from accord.pipeline.doctor.base import Examination, Finding, StageRecord, Unseen, checks, examined
from accord.pipeline.doctor.reading import of_run

__all__ = ["Trial", "chosen", "ordered_run", "tried", "verdict"]

SHORTEST = 8  # steps below which a log says little
LENGTH = ("max_steps", "steps", "epochs")
SAME = 0.1  # of strength


@dataclass(frozen=True)
class Trial:
    """What came of a test. `before` and `after` are the figures of the check, `run` what was run."""

    verdict: str  # supported, not supported, can't tell
    why: str
    before: str = ""
    after: str = ""
    command: str = ""
    run: Path | None = None


def chosen(examination: Examination, number: int) -> Finding:
    """Finding number N, counted from 1 as they are listed."""
    findings = examination.findings
    if not 1 <= number <= len(findings):
        allowed = f"1 to {len(findings)}" if findings else "none: nothing was named"
        raise ConfigError(f"there is no cause {number}", where="--test", allowed=allowed)
    return findings[number - 1]


def ordered_run(command: str) -> tuple[list[str], list[str]] | None:
    """--only and --set of `accord run …`; None of another command."""
    words = shlex.split(command)
    if words[:2] != ["accord", "run"]:
        return None
    after = {w: [b for a, b in itertools.pairwise(words) if a == w] for w in ("--only", "--set")}
    return after["--only"], after["--set"]


def short(record: StageRecord, check: str) -> int | None:
    """The fewest steps, a quarter or half of the run's, at which its log shows the finding already."""
    whole = len(record.log)
    for steps in (whole // 4, whole // 2):
        part = _of(replace(record, log=record.log[:steps]), check)
        if steps >= SHORTEST and part and part.serious:
            return steps
    return None


def _of(record: StageRecord, check: str) -> Finding | None:
    try:
        return checks[check][1](record)
    except Unseen:
        return None


def tried(run: Path, finding: Finding, reporter: Reporter) -> Trial:
    """Run the finding's test in the run's own runs folder and hold its figure against the run's."""
    order = ordered_run(finding.test)
    if order is None or not order[0]:
        why = "its command shows more, and measures no change: read what it prints"
        return Trial("can't tell", why if finding.test else "no command tests it here")
    (stage, *_), sets = order
    before = next(r for r in of_run(run) if r.name == finding.stage and finding.check in _checks(r))
    steps, control = None, before
    if not any(_key(s) in LENGTH for s in sets):
        steps = short(before, finding.check)
    key = "steps" if before.of == "online" else "max_steps"
    length = [f"{stage}.{key}={steps}"] if steps else []
    if steps:
        control, _ = _arm(run, f"as-it-was-{finding.check}", stage, length, reporter, before)
    elif before.facts.get("not finite"):
        length = [f"{stage}.{key}={len(before.log) + 2}"]
    changed = any(_key(s) not in ("max_steps", "steps") for s in sets)
    name = f"test-{finding.check}"
    for rung in (sets, _further(sets, before.config)):
        after, path = _arm(run, name, stage, [*rung, *length], reporter, before)
        trial = verdict(finding.check, control, after, changed)
        if trial.verdict == "supported" or rung == _further(sets, before.config):
            break
    more = " ".join(f"--set {shlex.quote(s)}" for s in [*rung, *length] if s not in sets)
    return replace(trial, command=f"{finding.test} {more}".strip(), run=path)


def _key(setting: str) -> str:
    return setting.partition("=")[0].rpartition(".")[2]


def _further(sets: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The same change once more, where it multiplies a learning rate or β: a tenth may be too little."""
    further = []
    for setting in sets:
        path, _, value = setting.partition("=")
        was: Any = config
        for key in path.split(".")[1:]:
            was = was.get(key) if isinstance(was, Mapping) else None
        if _key(setting) in ("lr", "beta") and was:
            setting = f"{path}={float(value) ** 2 / float(was):.2g}"
        further.append(setting)
    return further


def _checks(record: StageRecord) -> list[str]:
    return [name for name, (of, _) in checks.items() if record.of in of]


def _arm(
    run: Path, name: str, stage: str, sets: list[str], reporter: Reporter, like: StageRecord
) -> tuple[StageRecord, Path]:
    """The stage run with these settings under another name, and its record; of one that breaks off too."""
    from accord.pipeline.folder import plan
    from accord.pipeline.recipe import read_recipe
    from accord.pipeline.runner import run as run_recipe

    name = f"name={read_json(run / 'recipe.json')['name']}-{name.replace('_', '-')}"
    recipe = read_recipe(run, [name, *sets])
    runs = run.parent
    folder = plan(recipe, runs).path
    try:
        run_recipe(recipe, runs, reporter, only=[stage])
    except AccordError:
        if not (folder / "manifest.json").exists():
            raise
    records = [r for r in of_run(folder) if (r.name, r.of) == (like.name, like.of)]
    return (records[0] if records else replace(like, log=(), metrics={}, answers=())), folder


def verdict(check: str, control: StageRecord, after: StageRecord, changed: bool) -> Trial:
    """What the check says of both arms. Where only the length was changed, whether it is seen again."""
    try:
        second = checks[check][1](after)
    except Unseen:
        return Trial("can't tell", "the short run left too little to look at")
    first = _of(control, check)
    answer, why = _answer(first, second, changed)
    if changed and answer == "supported" and not _beyond_noise(check, control, after, first):
        answer, why = (
            "can't tell",
            "with the change it is gone, but that may be the noise of few steps",
        )
    if changed and answer == "supported":
        others = [f.check for f in examined([after]).findings if f.serious]
        why += f"; but now: {', '.join(others)}" if others else ""
    none = "no sign of it"
    before, now = (f.number if f else none for f in (first, second))
    return Trial(answer, why, before=before, after=now)


def _beyond_noise(
    check: str, control: StageRecord, after: StageRecord, first: Finding | None
) -> bool:
    """Whether the run as it was shows it plainly, so does each half of its steps (every other one), and no
    half of the changed run's does: of two runs that differ by their seed alone one in four had it gone."""
    if first is None or not first.serious:
        return False
    return all(_halves(check, control)) and not any(_halves(check, after))


def _halves(check: str, record: StageRecord) -> list[Finding | None]:
    """What the check says of every other step, of either half that is enough for it."""
    halves: list[Finding | None] = []
    if len(record.log) >= SHORTEST and not record.facts.get("not finite"):
        for k in (0, 1):
            with suppress(Unseen):
                rows = [record.log[0], *record.log[1 + k :: 2]]  # all know where it began
                halves.append(checks[check][1](replace(record, log=rows)))
    return halves


def _answer(first: Finding | None, second: Finding | None, changed: bool) -> tuple[str, str]:
    if not changed and second:
        return "supported", "it is seen again in a fresh run"
    if not changed:
        return "not supported", "a fresh run has no sign of it"
    if first is None:
        return "can't tell", "the short run as it was has no sign of it: too few steps"
    if second is None:
        return "supported", "with the change it is gone"
    if second.strength >= first.strength - SAME:
        return "not supported", "with the change it is as it was"
    return "can't tell", "with the change it is less, and still there"

"""`accord run RECIPE --mitigate FINDING`: the recipe with what a finding advises, written beside the old one.

FINDING is a cause of the doctor, by its number in the list or by its check (check:stage where several
stages have it), a detector's alarm in `accord audit`, by its name, or guard=STORE@SNAPSHOT: what people said
of the answers that a guard asked about.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.config import parse_yaml
from accord.core.errors import ConfigError, RunError
from accord.core.refs import is_url
from accord.core.rewriting import APPENDED, merged, rewritten
from accord.core.rundir import read_json, user_path, write_text
from accord.pipeline.doctor.base import Finding, checks, examined
from accord.pipeline.doctor.reading import of_run
from accord.pipeline.recipe import Recipe, build_recipe
from accord.store import opened_snapshot

__all__ = [
    "Change",
    "Mitigated",
    "alarm_changes",
    "changed_text",
    "mitigate",
    "of_guard",
    "per_token",
]

FACTOR = 3.0  # by which a detector's alarm raises β
LEARNED = {"divergence", "far", "overpaid"}  # alarms about the reward model itself


@dataclass(frozen=True)
class Change:
    """A value at a path of keys in the recipe, and why."""

    path: tuple[str, ...]
    value: Any
    why: str


@dataclass(frozen=True)
class Mitigated:
    """The recipe that was written, what differs from the old one, and why."""

    path: Path
    diff: str
    why: list[str]


def mitigate(source: Path, recipe: Recipe, run: Path, name: str) -> Mitigated:
    """Write the changed recipe beside `source`, under a name that is free."""
    if not source.is_file():
        raise ConfigError(
            "is no recipe's file", where=str(source), mend="name the YAML file of the run"
        )
    if not (run / "manifest.json").is_file():
        mend = f"accord run {source}"
        raise RunError(
            "this recipe has not been run: nothing is known of it", where=str(run), mend=mend
        )
    text = source.read_text(encoding="utf-8")
    kind, _, judgments = name.partition("=")
    changes = (
        of_guard(recipe, run, judgments, source.resolve().parent)
        if kind == "guard"
        else _changes(recipe, run, name)
    )
    new = changed_text(text, changes, str(source))
    data, lines = parse_yaml(new, str(source))
    build_recipe(
        data, lines, f"{source} as changed", source.resolve().parent
    )  # as --check reads it
    path = _free(source, kind.replace(":", "-"))
    write_text(path, new)
    diff = difflib.unified_diff(
        text.splitlines(), new.splitlines(), str(source), str(path), "", "", 1, ""
    )
    return Mitigated(path, "\n".join(diff), list(dict.fromkeys(c.why for c in changes)))


def changed_text(text: str, changes: Sequence[Change], source: str) -> str:
    """The recipe's text with all changes; a stage that was made for a policy is the one that was written."""
    for change in changes:
        stage, *keys = change.path
        stage = stage.partition("/")[0]
        data, _ = parse_yaml(text, source)
        if keys and stage not in data["stages"]:
            raise ConfigError(f"stage {stage!r} is not written in it", where=source)
        text = rewritten(text, ("stages", stage, *keys), change.value)
    return text


def _free(source: Path, name: str) -> Path:
    for number in range(1, 1000):
        more = "" if number == 1 else f"-{number}"
        path = source.with_name(f"{source.stem}-{name}{more}{source.suffix}")
        if not path.exists():
            return path
    raise RunError("a thousand of them are there already", where=str(source.parent))


def _changes(recipe: Recipe, run: Path, name: str) -> list[Change]:
    from accord.detect.base import configured

    check, _, stage = name.partition(":")
    findings = examined(of_run(run)).findings
    if name.isdigit():
        matching = findings[int(name) - 1 : int(name)] if int(name) else []
    else:
        matching = [f for f in findings if f.check == check and stage in ("", f.stage)]
    if matching:
        return _of_finding(recipe, matching[0])
    if check not in checks and check in {known for known, *_ in configured("all")}:
        return _of_alarm(recipe, run, check, stage)
    allowed = (
        ", ".join(f"{f.check}:{f.stage}" for f in findings)
        or "a detector's alarm; the doctor names none"
    )
    raise ConfigError(f"no finding {name!r} in {run.name}", where="--mitigate", allowed=allowed)


def _of_finding(recipe: Recipe, finding: Finding) -> list[Change]:
    keys = parse_yaml(finding.line, finding.check)[0] if finding.line else {}
    stages = [
        n.name
        for n in recipe.nodes
        if _is_for(n.name, n.config, finding) and set(keys) <= set(type(n.config).model_fields)
    ]
    if not keys or not stages:
        what = f"no key of the recipe mends {finding.check} of {finding.stage}"
        raise ConfigError(what, where="--mitigate", mend=finding.change)
    configs = {n.name: n.config.model_dump(mode="json") for n in recipe.nodes}
    return [
        Change((stage, *path), value, finding.change)
        for stage in stages
        for path, value in merged(configs[stage], keys)
    ]


def _is_for(name: str, config: Any, finding: Finding) -> bool:
    """The stage that a finding's line is of; of a finding about data those that train on it."""
    if name == (finding.at or finding.stage):
        return True
    trains = hasattr(config, "init") and getattr(config, "data", None) == finding.stage
    return trains and (config.kind == "preference" or "loss:" not in finding.line)


def _of_alarm(recipe: Recipe, run: Path, detector: str, stage: str) -> list[Change]:
    from accord.pipeline import auditing

    rewards = [r for n in recipe.nodes for r in getattr(n.config, "rewards", ())]
    answers, context, rows = auditing.verdicts_of(run, detector, rewards)
    alarms = [
        row["policy"]
        for row in rows
        if row["verdict"]["detector"] == detector
        and row["verdict"]["outcome"] in ("warn", "fail")
        and stage in ("", row["policy"])
    ]
    if not alarms:
        raise ConfigError(
            f"{detector} raises no alarm in {run.name}", where="--mitigate", mend="accord audit RUN"
        )
    policy = alarms[-1]
    node = next((n for n in recipe.nodes if n.name == policy), None)
    if node is None:
        raise ConfigError(f"{policy} is no stage of it", where="--mitigate")
    proxy = [r.scores.get(context.proxy or "") for r in answers[policy]]
    texts = [r.exchange.response.text for r in answers[policy]]
    paid = per_token(texts, proxy)
    return alarm_changes(detector, policy, node.config.model_dump(mode="json"), recipe, paid)


def of_guard(recipe: Recipe, run: Path, judgments: str, folder: Path) -> list[Change]:
    """The reward model that pays a guarded policy trained on the judgments the guard asked for too, on top of
    those it was trained on. A store that is a file is named from the recipe's `folder`."""
    study, policy = _asked(recipe, run)
    if not judgments:
        raise ConfigError(
            "whose judgments?", where="--mitigate guard", allowed="guard=STORE@SNAPSHOT",
            mend=f"have {study} judged: accord collect serve {study} --store judged.db",
        )  # fmt: skip
    with opened_snapshot(judgments) as snapshot:
        n = len(snapshot.judgments)
    where, at, name = judgments.rpartition("@")
    if not is_url(where):
        judgments = f"{os.path.relpath(user_path(where).resolve(), folder)}{at}{name}"
    configs = {node.name: node.config for node in recipe.nodes}
    models = {
        str(m) for r in policy.rewards for m in (r.get("model"), *(r.get("models") or ())) if m
    }
    paid = sorted(m for m in models if getattr(configs.get(m), "data", None))
    if not paid:
        what = "no learned reward of the guarded stage is a stage of the recipe"
        raise ConfigError(what, where="--mitigate guard")
    why = f"the reward model learns from the {n} judgments that the guard asked for too"
    added: dict[str, str] = {}
    changes = []
    for model in paid:
        data = configs[model].data  # type: ignore[attr-defined]
        if data not in added:
            added[data] = next(
                x
                for k in range(1, 99)
                if (x := f"{data}_judged{k if k > 1 else ''}") not in configs
            )
            stage = {"kind": "add", "data": data, "judgments": judgments}
            changes.append(Change((added[data],), stage, why))
        changes.append(Change((model, "data"), added[data], why))
    return changes


def _asked(recipe: Recipe, run: Path) -> tuple[Path, Any]:
    """The study that the last guard of the run wrote, and the config of its stage."""
    from accord.pipeline.stages.on_policy.watching import STUDY

    stages = read_json(run / "manifest.json")["stages"]
    for node in reversed(recipe.nodes):
        study = run.parent / "stages" / stages[node.name] / STUDY
        if study.is_file():
            return study, node.config
    raise ConfigError(
        f"no guard of {run.name} asked for judgments", where="--mitigate guard",
        mend="guard: {action: ask} in the stage that trains on its own answers",
    )  # fmt: skip


def per_token(texts: Sequence[str], scores: Sequence[float | None]) -> float | None:
    """What the reward pays for a token: its slope on length (a token is about three quarters of a word);
    None where it pays nothing for it."""
    known = [
        (len(t.split()) * 4 / 3, s) for t, s in zip(texts, scores, strict=True) if s is not None
    ]
    if len(known) < 10:
        return None
    mean = sum(n for n, _ in known) / len(known)
    spread = sum((n - mean) ** 2 for n, _ in known)
    slope = sum((n - mean) * s for n, s in known) / spread if spread else 0.0
    return slope if slope > 0 else None


def alarm_changes(
    detector: str, policy: str, config: Mapping[str, Any], recipe: Recipe, paid: float | None
) -> list[Change]:
    """What a detector's alarm about a policy advises: a length penalty as large as what length was paid, an
    ensemble where the reward model is at fault, else a higher β."""
    rewards = config.get("rewards")
    if detector == "length" and rewards:
        price = float(f"{paid or 0.01:.2g}")
        why = (
            f"take off what the reward pays for a token ({price:g})" if paid else "a length penalty"
        )
        item = {"name": "length_penalty", "per_token": price}
        return [Change((policy, "rewards", APPENDED), item, why)]
    if detector in LEARNED and rewards:
        return _ensemble(policy, rewards, recipe)
    if rewards is not None:
        beta = max(0.1, FACTOR * config["kl"]["beta"])
        return [Change((policy, "kl", "beta"), round(beta, 6), f"raise β {FACTOR:g}-fold")]
    loss = config.get("loss")
    if isinstance(loss, Mapping) and loss.get("name", "dpo") == "dpo":
        beta = FACTOR * float(loss.get("beta", 0.1))
        new = {"name": "dpo", "beta": round(beta, 6)}
        return [
            Change((policy, *path), value, f"raise β {FACTOR:g}-fold")
            for path, value in merged(config, {"loss": new})
        ]
    what = f"no key of stage {policy} ({config['kind']}) answers {detector}"
    raise ConfigError(
        what, where="--mitigate", mend="look at its data: accord audit shows examples"
    )


def _ensemble(policy: str, rewards: Sequence[Mapping[str, Any]], recipe: Recipe) -> list[Change]:
    """A second reward model from another start, and the lower bound of both as the reward."""
    at, entry = next(((k, e) for k, e in enumerate(rewards) if e.get("model")), (0, {}))
    member = next((n for n in recipe.nodes if n.name == entry.get("model")), None)
    if member is None or member.config.kind != "reward":
        what = f"no learned reward of stage {policy} is a stage of the recipe"
        raise ConfigError(what, where="--mitigate", mend="raise β: " + f"--set {policy}.kl.beta=…")
    name = f"{member.name}_2"
    why = "two reward models, and the lower bound of what they say"
    set_keys = member.config.model_dump(mode="json", exclude_unset=True)
    both = {
        **{k: v for k, v in entry.items() if k != "model"},
        "name": "ensemble",
        "models": [member.name, name],
    }
    items = [both if k == at else dict(e) for k, e in enumerate(rewards)]
    return [Change((name,), {**set_keys, "seed": 2}, why), Change((policy, "rewards"), items, why)]

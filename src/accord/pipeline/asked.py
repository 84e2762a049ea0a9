"""What is asked: prompts by the names that a user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import user_path
from accord.core.types import Message, Prompt
from accord.evals.prompts import read_prompts
from accord.worlds.base import World, open_world

__all__ = ["AskedPrompts", "cluster_tag", "prompts_of", "under"]

CLUSTERS = ("cluster", "behavior", "behaviour", "BehaviorID")  # tags that say what hangs together


@dataclass(frozen=True)
class AskedPrompts:
    """Prompts, the world behind them where there is one, and the tag whose values hang together ("": each
    prompt for itself)."""

    prompts: list[Prompt]
    world: World | None = None
    cluster: str = ""

    def cluster_of(self, prompt: Prompt) -> str:
        case = self.world.by_prompt.get(prompt.id) if self.world else None
        own = next((prompt.tags[t] for t in CLUSTERS if prompt.tags.get(t)), "")
        return prompt.tags.get(self.cluster) or (case.group if case else "") or own or prompt.id


def prompts_of(
    names: Sequence[str | Path], *, cluster: str = "", limit: int | None = None
) -> AskedPrompts:
    """Prompts of files, STORE@SNAPSHOT, a world's .yaml (its held-out ones, where it has some) or a run
    (those that its data stage held out); the first `limit` of all."""
    if not names:
        raise ConfigError(
            "names none", where="--prompts", mend="FILE, STORE@SNAPSHOT, WORLD.yaml or RUN"
        )
    files, parts, worlds = [], [], []
    for name in names:
        path = user_path(name)
        if path.is_dir() and (path / "manifest.json").is_file():
            prompts, world = _of_run(path)
        elif path.suffix in (".yaml", ".yml"):
            world = open_world(path)
            held = [c.prompt for c in world.cases if c.held_out]
            prompts = held or [c.prompt for c in world.cases]
        elif "@" in str(name) and not path.exists():
            prompts, world = _of_store(str(name)), None
        else:
            files.append(path)
            continue
        parts += prompts
        worlds += [world] if world else []
    parts += read_prompts(files) if files else []
    if len({str(w.path) for w in worlds}) > 1:
        raise ConfigError(
            "two worlds at once", where="--prompts", mend="evaluate one after the other"
        )
    return AskedPrompts(parts[:limit], worlds[0] if worlds else None, cluster_tag(parts, cluster))


def cluster_tag(prompts: Sequence[Prompt], cluster: str) -> str:
    """The tag that says what hangs together: the one named, which all of them must have (a prompt without it
    would count as independent of all others), or the first of the usual ones that is there."""
    known = {tag for p in prompts for tag in p.tags}
    if not cluster:
        return next((t for t in CLUSTERS if t in known), "")
    without = [p for p in prompts if not p.tags.get(cluster)]
    if without:
        some = f"{len(without)} of {len(prompts)} prompts have no tag {cluster!r}: {without[0].last[:40]!r}"
        what = some if cluster in known else f"no prompt has the tag {cluster!r}"
        raise ConfigError(what, where="--cluster", allowed=", ".join(sorted(known)))
    return cluster


def _of_store(name: str) -> list[Prompt]:
    from accord.store import opened_snapshot

    with opened_snapshot(name) as snapshot:
        return sorted(snapshot.tables.prompts.values(), key=lambda p: p.id)


def _of_run(path: Path) -> tuple[list[Prompt], World | None]:
    from accord.pipeline.manifest import finished
    from accord.pipeline.probing import world_at
    from accord.pipeline.stages.data import CARD, held_out_of

    _, _, stages = finished(path)
    folder = next((p for p in stages.values() if (p / CARD).is_file()), None)
    if folder is None:
        raise DataError("no data stage of this run is done", where=str(path), mend="name a file")
    return held_out_of(folder), world_at(folder)


def under(system: str, asked: AskedPrompts) -> AskedPrompts:
    """The prompts with this system message, where they have none; a world knows them as it did before."""
    if not system:
        return asked
    head = Message(role="system", content=system)
    headed = [
        p if p.messages[0].role == "system"
        else p.model_copy(update={"messages": (head, *p.messages)})
        for p in asked.prompts
    ]  # fmt: skip
    if asked.world:
        cases = asked.world.by_prompt
        for before, after in zip(asked.prompts, headed, strict=True):
            if case := cases.get(before.id):
                cases[after.id] = case
    return replace(asked, prompts=headed)

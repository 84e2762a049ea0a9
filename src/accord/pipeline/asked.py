"""What is asked: prompts by the names that a user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import user_path
from accord.core.types import Message, Prompt
from accord.evals.prompts import read_prompts
from accord.worlds.base import World, open_world

__all__ = ["AskedPrompts", "prompts_of", "under"]

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
        return prompt.tags.get(self.cluster) or (case.group if case else "") or prompt.id


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
    known = {tag for p in parts for tag in p.tags}
    if cluster and cluster not in known:
        raise ConfigError(
            f"no prompt has the tag {cluster!r}",
            where="--cluster",
            allowed=", ".join(sorted(known)),
        )
    own = cluster or next((t for t in CLUSTERS if t in known), "")
    return AskedPrompts(parts[:limit], worlds[0] if worlds else None, own)


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


def under(system: str, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with this system message, where they have none."""
    head = Message(role="system", content=system)
    return [
        p if not system or p.messages[0].role == "system"
        else p.model_copy(update={"messages": (head, *p.messages)})
        for p in prompts
    ]  # fmt: skip

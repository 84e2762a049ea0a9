"""The policies a run left: RUN[:stage], a model's folder or a hub id."""

from __future__ import annotations

from pathlib import Path

from accord.core.errors import ConfigError
from accord.core.rundir import read_json, read_jsonl

__all__ = ["base_of_run", "policy_path"]


def policy_path(name: str) -> tuple[str, str, str | None]:
    """(label, what `load` takes, system message) of RUN[:stage], a model folder or a hub id."""
    folder, colon, stage = name.rpartition(":") if ":" in name else (name, "", "")
    run = Path(folder)
    if not (run / "manifest.json").is_file():
        if colon and run.is_dir():
            raise ConfigError("this directory is no run", where=name, mend="name a run's directory")
        return name, name, None
    manifest = read_json(run / "manifest.json")
    if not isinstance(manifest, dict) or not {"stages", "model"} <= manifest.keys():
        raise ConfigError(
            "manifest.json is not what was written", where=str(run), mend="run the recipe again"
        )
    names = manifest["order"] if "order" in manifest else manifest["stages"]
    trained = [n for n in names if (run / n / "model").is_dir()]
    policies = [n for n in trained if not (run / n / "model" / "scalar_head.safetensors").exists()]
    if stage == "base" or (not stage and not policies):
        return "base", manifest["model"], _system(run)
    stage = stage or policies[-1]
    if stage not in policies:
        raise ConfigError(
            f"no policy {stage!r} in this run", where=name, allowed=", ".join(["base", *policies])
        )
    return stage, str(run / stage / "model"), _system(run)


def base_of_run(name: str) -> str | None:
    """The model that the run of RUN[:stage] was last told of: its stages may name where that was before."""
    folder = Path(name.rpartition(":")[0] if ":" in name else name)
    file = folder / "manifest.json"
    return str(read_json(file)["model"]) if file.is_file() else None


def _system(run: Path) -> str | None:
    """The system message the run's evaluation prompts had, so that a chat meets the same policy."""
    for file in sorted(run.glob("*/answers.jsonl")):
        for row in read_jsonl(file)[:1]:
            first = row["prompt"]["messages"][0]
            return str(first["content"]) if first["role"] == "system" else None
    return None

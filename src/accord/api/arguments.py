"""Arguments that several functions of the door take, checked as a recipe's keys are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from accord.core.config import validate
from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.core.keys import LoraKeys
from accord.core.rundir import hold, make_dir
from accord.lm.model.lora import Lora
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise, Progress
from accord.train.offline.edges import Average

__all__ = ["Average", "Progress", "TuneLike", "one_of", "shared", "tuning"]

TuneLike = Lora | LoraKeys | Literal["full"] | None


@contextlib.contextmanager
def shared(
    run_dir: str | Path, tune: TuneLike, keys: dict[str, Any], data: Sequence[Any]
) -> Iterator[dict[str, Any]]:
    """The arguments the training functions share, checked; the folder is held meanwhile."""
    if not len(data):
        raise ConfigError("there is nothing to train on", mend="check the filters of the snapshot")
    limits = {k: keys.pop(k) for k in Limits.model_fields if k in keys}
    known = [*Optimise.model_fields, *Limits.model_fields]
    faults: list[AccordError] = [
        ConfigError(f"unknown argument {name!r}", allowed=", ".join(known))
        for name in sorted(set(keys) - set(known))
    ]
    arguments: dict[str, Any] = {}
    with gather(faults):
        arguments["tune"] = tuning(tune)
    with gather(faults):
        arguments["optimise_with"] = validate(
            Optimise, {k: v for k, v in keys.items() if k in known}
        )
    with gather(faults):
        arguments["limits"] = validate(Limits, limits)
    raise_all(faults)
    with hold(folder := make_dir(Path(run_dir))):
        yield {**arguments, "run_dir": folder}


def tuning(tune: TuneLike) -> Lora | Literal["full"]:
    """How to tune, checked: LoRA's keys, or all weights."""
    if isinstance(tune, Mapping) or tune is None:
        return validate(Lora, dict(tune or {}), where="tune")
    if not isinstance(tune, Lora) and tune != "full":
        raise ConfigError(
            f"{tune!r} is no way to tune", where="tune", allowed="full, or LoRA's keys"
        )
    return tune


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """ConfigError where the value is none of those."""
    if value not in allowed:
        raise ConfigError(f"unknown {key} {value!r}", where=key, allowed=", ".join(allowed))

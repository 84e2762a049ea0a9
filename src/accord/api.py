"""Training on data from Python: five functions, one way to say how (`accord.api_policy` has the sixth).

policy = accord.load("HuggingFaceTB/SmolLM2-135M-Instruct")
result = accord.train_preference(policy, pairs, loss={"name": "dpo", "beta": 0.1}, lr=5e-5,
                                 eval_on=held_out, run_dir="runs/dpo")
print(result.metrics["accuracy"], result.policy.answer(["Where is my parcel?"])[0].text)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from accord.core.config import validate
from accord.core.errors import AccordError, ConfigError, door, gather, raise_all
from accord.core.keys import LoraKeys, OptimiseKeys
from accord.core.rundir import hold, make_dir
from accord.core.types import Demonstration, Group, LabelledResponse, LabelledSteps, Pair
from accord.lm.load import LanguageModel
from accord.lm.lora import Lora
from accord.train import axes, preference, process, reward, sft
from accord.train.data import Limits
from accord.train.edges import Average
from accord.train.optimise import Optimise, Progress
from accord.train.saved import Trained

__all__ = ["train_axes", "train_preference", "train_process", "train_reward", "train_sft"]

TuneLike = Lora | LoraKeys | Literal["full"] | None


def _settings(
    run_dir: str | Path, tune: TuneLike, keys: dict[str, Any], data: Sequence[Any]
) -> dict[str, Any]:
    """The arguments the training functions share, checked."""
    if not len(data):
        raise ConfigError("there is nothing to train on", mend="check the filters of the snapshot")
    limits = {k: keys.pop(k) for k in Limits.model_fields if k in keys}
    known = [*Optimise.model_fields, *Limits.model_fields]
    faults: list[AccordError] = [
        ConfigError(f"unknown argument {name!r}", allowed=", ".join(known))
        for name in sorted(set(keys) - set(known))
    ]
    found: dict[str, Any] = {}
    with gather(faults):
        found["tune"] = tuning(tune)
    with gather(faults):
        found["optimise_with"] = validate(Optimise, {k: v for k, v in keys.items() if k in known})
    with gather(faults):
        found["limits"] = validate(Limits, limits)
    raise_all(faults)
    return {**found, "run_dir": make_dir(Path(run_dir))}


def tuning(tune: TuneLike) -> Lora | Literal["full"]:
    if isinstance(tune, Mapping) or tune is None:
        return validate(Lora, dict(tune or {}), where="tune")
    if not isinstance(tune, Lora) and tune != "full":
        raise ConfigError(
            f"{tune!r} is no way to tune", where="tune", allowed="full, or LoRA's keys"
        )
    return tune


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"unknown {key} {value!r}", where=key, allowed=", ".join(allowed))


@door
def train_sft(
    policy: LanguageModel,
    demonstrations: Sequence[Demonstration],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    all_turns: bool = True,
    eval_on: Sequence[Demonstration] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OptimiseKeys],
) -> Trained:
    """Supervised fine-tuning on the assistant's tokens.

    Args:
        policy: a model as `load` gives it; it is changed in place, so load it again for another training.
        demonstrations: at least one, each with a weight above 0.
        run_dir: where checkpoints, metrics.jsonl and the model go; called again with the same one, a killed
            training goes on from its last checkpoint.
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        all_turns: train on every assistant turn of a conversation, not only the last.
        eval_on: held-out demonstrations, measured every `eval_every` steps and at the end.
        seed: of adapters, order and dropout.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: keys of `Optimise` (lr, epochs, batch_size, …) and `Limits` (max_prompt, max_completion, …).

    Returns:
        `metrics["nll"]`: nats a held-out token, when `eval_on` is given.

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        DataError: no demonstration fits the limits.
        ModelError: a model that can't be trained so.
        RunError: a run_dir of another training, or a loss that is not finite.
    """
    settings = _settings(run_dir, tune, {**how}, demonstrations)
    with hold(settings["run_dir"]):
        return sft.train_sft(
            policy,
            demonstrations,
            all_turns=all_turns,
            eval_on=eval_on,
            seed=seed,
            trackers=trackers,
            on_step=on_step,
            **settings,
        )


@door
def train_reward(
    policy: LanguageModel,
    comparisons: Sequence[Pair | Group],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    loss: Mapping[str, Any] | None = None,
    average: Average = "prompt",
    centre_on: Sequence[Demonstration] = (),
    eval_on: Sequence[Pair | Group] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OptimiseKeys],
) -> Trained:
    """A reward model on comparisons (Bradley-Terry); `load_reward_model(result.model)` gives it back.

    Args:
        policy: a model as `load` gives it; it is changed in place, so load it again for another training.
        comparisons: pairs, or groups of K answers with the comparisons among them.
        run_dir: where checkpoints, metrics.jsonl and the model go; called again with the same one, a killed
            training goes on from its last checkpoint.
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        loss: a reward loss, {"name": "bradley_terry"} by default (`reward_losses.names()`).
        average: what the loss is a mean over, "prompt" or "pair".
        centre_on: demonstrations whose mean score is set to 0.
        eval_on: held-out comparisons, measured every `eval_every` steps and at the end.
        seed: of adapters, order and dropout.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: keys of `Optimise` (lr, epochs, batch_size, …) and `Limits` (max_prompt, max_completion, …).

    Returns:
        `metrics["accuracy"]` in [0, 1]: the share of held-out comparisons in the raters' order.

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        DataError: no comparison fits the limits.
        ModelError: a model that can't be trained so.
        RunError: a run_dir of another training, or a loss that is not finite.
    """
    one_of("average", average, get_args(Average))
    settings = _settings(run_dir, tune, {**how}, comparisons)
    with hold(settings["run_dir"]):
        return reward.train_reward(
            policy,
            comparisons,
            loss=dict(loss) if loss else None,
            average=average,
            centre_on=centre_on,
            eval_on=eval_on,
            seed=seed,
            trackers=trackers,
            on_step=on_step,
            **settings,
        )


@door
def train_preference(
    policy: LanguageModel,
    comparisons: Sequence[Pair | Group | LabelledResponse],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    loss: Mapping[str, Any] | None = None,
    average: Average = "pair",
    share: Literal["prompt", "pair"] = "prompt",
    eval_on: Sequence[Pair | Group | LabelledResponse] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OptimiseKeys],
) -> Trained:
    """DPO or any registered loss on what was judged; the policy's weights at the start are the reference.

    Args:
        policy: a model as `load` gives it; it is changed in place, so load it again for another training.
        comparisons: pairs or groups for losses of pairs and rankings, labelled responses (thumbs) for "kto"
            and "bco".
        run_dir: where checkpoints, metrics.jsonl and the model go; called again with the same one, a killed
            training goes on from its last checkpoint.
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        loss: {"name": …, hyperparameters}, {"name": "dpo", "beta": 0.1} by default (docs/losses.md).
        average: what the loss is a mean over, "pair" or "prompt".
        share: what a batch counts, "prompt" (a prompt's answers are read together) or "pair".
        eval_on: held-out comparisons, measured every `eval_every` steps and at the end.
        seed: of adapters, order and dropout.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: keys of `Optimise` (lr, epochs, batch_size, …) and `Limits` (max_prompt, max_completion, …).

    Returns:
        `metrics["accuracy"]` in [0, 1] of held-out comparisons, and what else the loss is watched by.

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        DataError: nothing fits the limits, or nothing that the loss reads.
        ModelError: a model that can't be trained so.
        RunError: a run_dir of another training, or a loss that is not finite.
    """
    one_of("average", average, get_args(Average))
    one_of("share", share, ("prompt", "pair"))
    settings = _settings(run_dir, tune, {**how}, comparisons)
    with hold(settings["run_dir"]):
        return preference.train_preference(
            policy,
            comparisons,
            loss=dict(loss) if loss else None,
            average=average,
            share=share,
            eval_on=eval_on,
            seed=seed,
            trackers=trackers,
            on_step=on_step,
            **settings,
        )


@door
def train_process(
    policy: LanguageModel,
    steps: Sequence[LabelledSteps],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    eval_on: Sequence[LabelledSteps] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OptimiseKeys],
) -> Trained:
    """A process reward model on answers with labelled steps; `load_process_model(result.model)`.

    Args:
        policy: a model as `load` gives it; it is changed in place, so load it again for another training.
        steps: answers, each step labelled in [-1, 1] (1 right, 0 neutral, -1 wrong).
        run_dir: where checkpoints, metrics.jsonl and the model go; called again with the same one, a killed
            training goes on from its last checkpoint.
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        eval_on: held-out answers, measured every `eval_every` steps and at the end.
        seed: of adapters, order and dropout.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: keys of `Optimise` (lr, epochs, batch_size, …) and `Limits` (max_prompt, max_completion, …).

    Returns:
        `metrics["accuracy"]` in [0, 1]: held-out steps told right from wrong.

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        DataError: no answer fits the limits.
        ModelError: a model that can't be trained so.
        RunError: a run_dir of another training, or a loss that is not finite.
    """
    settings = _settings(run_dir, tune, {**how}, steps)
    more: dict[str, Any] = {"eval_on": eval_on, "seed": seed, "trackers": trackers}
    with hold(settings["run_dir"]):
        return process.train_process(policy, steps, on_step=on_step, **more, **settings)


@door
def train_axes(
    policy: LanguageModel,
    comparisons: Mapping[str, Sequence[Group]],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    average: Average = "prompt",
    eval_on: Mapping[str, Sequence[Group]] = {},
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OptimiseKeys],
) -> Trained:
    """A reward model with a head for each axis; `load_axes_model(result.model)` gives it back.

    Args:
        policy: a model as `load` gives it; it is changed in place, so load it again for another training.
        comparisons: groups by the name of their axis (`snapshot.groups(axis=…)`).
        run_dir: where checkpoints, metrics.jsonl and the model go; called again with the same one, a killed
            training goes on from its last checkpoint.
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        average: what the loss is a mean over, "prompt" or "pair".
        eval_on: held-out groups by axis, measured every `eval_every` steps and at the end.
        seed: of adapters, order and dropout.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: keys of `Optimise` (lr, epochs, batch_size, …) and `Limits` (max_prompt, max_completion, …).

    Returns:
        `metrics["accuracy of AXIS"]` in [0, 1] of held-out comparisons.

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        DataError: no comparison fits the limits.
        ModelError: a model that can't be trained so.
        RunError: a run_dir of another training, or a loss that is not finite.
    """
    settings = _settings(run_dir, tune, {**how}, [g for gs in comparisons.values() for g in gs])
    more: dict[str, Any] = {"eval_on": eval_on, "seed": seed, "trackers": trackers}
    with hold(settings["run_dir"]):
        return axes.train_axes(
            policy, comparisons, average=average, on_step=on_step, **more, **settings
        )

"""Training on data from Python: five functions, one way to say how (`accord.api.policy` has the sixth).

policy = accord.load("HuggingFaceTB/SmolLM2-135M-Instruct")
result = accord.train_preference(policy, pairs, loss={"name": "dpo", "beta": 0.1}, lr=5e-5,
                                 eval_on=held_out, run_dir="runs/dpo")
print(result.metrics["accuracy"], result.policy.answer(["Where is my parcel?"])[0].text)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from accord.api.arguments import Average, Progress, TuneLike, one_of, shared
from accord.core.errors import door
from accord.core.keys import OptimiseKeys
from accord.core.types import Demonstration, Group, LabelledResponse, LabelledSteps, Pair
from accord.lm.model.load import LanguageModel
from accord.train.loop.saved import Trained
from accord.train.offline import axes, preference, process, reward, sft

__all__ = ["train_axes", "train_preference", "train_process", "train_reward", "train_sft"]


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
    with shared(run_dir, tune, {**how}, demonstrations) as settings:
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
    with shared(run_dir, tune, {**how}, comparisons) as settings:
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
    with shared(run_dir, tune, {**how}, comparisons) as settings:
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
    more: dict[str, Any] = {"eval_on": eval_on, "seed": seed, "trackers": trackers}
    with shared(run_dir, tune, {**how}, steps) as settings:
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
    more: dict[str, Any] = {"eval_on": eval_on, "seed": seed, "trackers": trackers}
    with shared(run_dir, tune, {**how}, [g for gs in comparisons.values() for g in gs]) as settings:
        return axes.train_axes(
            policy, comparisons, average=average, on_step=on_step, **more, **settings
        )

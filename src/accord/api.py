"""Training from Python: four functions, one way to say how.

    policy = accord.load("HuggingFaceTB/SmolLM2-135M-Instruct")
    result = accord.train_preference(policy, pairs, loss={"name": "dpo", "beta": 0.1}, lr=5e-5,
                                     eval_on=held_out, run_dir="runs/dpo")
    print(result.metrics["accuracy"])

Keyword arguments not named here are those of `accord.train.optimise.Optimise` (lr, epochs,
batch_size, tokens, …) and of `accord.train.data.Limits` (max_prompt, max_completion). Calling again
with the same run_dir goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from accord.core.config import validate
from accord.core.errors import AccordError, ConfigError, door, gather, raise_all
from accord.core.rundir import hold, make_dir
from accord.core.types import Demonstration, Group, LabelledSteps, Pair, Prompt
from accord.lm.load import LanguageModel
from accord.lm.lora import Lora
from accord.lm.sample import Sampler
from accord.train import axes, preference, process, reward, sft
from accord.train import policy as own_answers
from accord.train.data import Limits
from accord.train.edges import Average
from accord.train.optimise import Optimise, Progress
from accord.train.trainee import Trained

__all__ = [
    "train_axes",
    "train_policy",
    "train_preference",
    "train_process",
    "train_reward",
    "train_sft",
]

TuneLike = Lora | Mapping[str, Any] | Literal["full"] | None


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
        found["tune"] = _tune(tune)
    with gather(faults):
        found["optimise_with"] = validate(Optimise, {k: v for k, v in keys.items() if k in known})
    with gather(faults):
        found["limits"] = validate(Limits, limits)
    raise_all(faults)
    return {**found, "run_dir": make_dir(Path(run_dir))}


def _tune(tune: TuneLike) -> Lora | Literal["full"]:
    if isinstance(tune, Mapping) or tune is None:
        return validate(Lora, dict(tune or {}), where="tune")
    if not isinstance(tune, Lora) and tune != "full":
        raise ConfigError(
            f"{tune!r} is no way to tune", where="tune", allowed="full, or LoRA's keys"
        )
    return tune


def _one_of(key: str, value: str, allowed: Sequence[str]) -> None:
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
    **how: Any,
) -> Trained:
    """Supervised fine-tuning on assistant tokens; `result.metrics["nll"]` when `eval_on` is given."""
    settings = _settings(run_dir, tune, how, demonstrations)
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
    loss: dict[str, Any] | None = None,
    average: Average = "prompt",
    centre_on: Sequence[Demonstration] = (),
    eval_on: Sequence[Pair | Group] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Any,
) -> Trained:
    """A Bradley-Terry reward model; load it with `accord.load_reward_model(result.model)`."""
    _one_of("average", average, get_args(Average))
    settings = _settings(run_dir, tune, how, comparisons)
    with hold(settings["run_dir"]):
        return reward.train_reward(
            policy,
            comparisons,
            loss=loss,
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
    comparisons: Sequence[Pair | Group],
    *,
    run_dir: str | Path,
    tune: TuneLike = None,
    loss: dict[str, Any] | None = None,
    average: Average = "pair",
    share: Literal["prompt", "pair"] = "prompt",
    eval_on: Sequence[Pair | Group] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Any,
) -> Trained:
    """DPO or any registered preference loss; the policy's own weights are the reference."""
    _one_of("average", average, get_args(Average))
    _one_of("share", share, ("prompt", "pair"))
    settings = _settings(run_dir, tune, how, comparisons)
    with hold(settings["run_dir"]):
        return preference.train_preference(
            policy,
            comparisons,
            loss=loss,
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
    **how: Any,
) -> Trained:
    """Train a process reward model on answers with labelled steps. The metric is the accuracy of held-out
    steps."""
    settings = _settings(run_dir, tune, how, steps)
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
    **how: Any,
) -> Trained:
    """Train a reward model with a head for each axis on comparisons by axis
    (`snapshot.groups(axis=...)`)."""
    settings = _settings(run_dir, tune, how, [g for gs in comparisons.values() for g in gs])
    more: dict[str, Any] = {"eval_on": eval_on, "seed": seed, "trackers": trackers}
    with hold(settings["run_dir"]):
        return axes.train_axes(
            policy, comparisons, average=average, on_step=on_step, **more, **settings
        )


@door
def train_policy(
    policy: LanguageModel,
    prompts: Sequence[Prompt],
    rewards: Sequence[Mapping[str, Any]],
    *,
    run_dir: str | Path,
    method: str = "ppo",
    tune: TuneLike = None,
    eval_on: Sequence[Prompt] = (),
    sampler: Sampler | str | None = None,
    reload: str = "",
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Any,
) -> own_answers.PolicyTrained:
    """PPO, RLOO, GRPO, online DPO or best-of-n on rewards of the policy's own answers:

        rewards = [{"name": "learned", "model": "runs/rm/model"}]
        accord.train_policy(policy, prompts, rewards, method="ppo", run_dir="runs/ppo", steps=50)

    `rewards` are as in a recipe, models named by folder; `how` are the method's keys
    (`accord.train.settings`).

    `sampler` answers instead of the policy's own model: an OpenAI-compatible server ("http://host:8000/v1#name").
    It must serve the weights that are trained: before each step `reload` (with vLLM
    "http://host:8000/v1/load_lora_adapter") is told where they lie. The log's `sampler_gap`, and a note where
    it is too large, tell when it serves others.
    """
    methods = own_answers.NAMES
    _one_of("method", method, list(methods))
    if not len(prompts):
        raise ConfigError("there is no prompt to answer", mend="check the filters of the snapshot")
    if reload and not isinstance(sampler, str):
        raise ConfigError("no server to reload", where="reload", mend="give sampler, its address")
    settings, folder = validate(methods[method], how), make_dir(Path(run_dir))
    with hold(folder):
        return own_answers.train_policy(
            policy,
            prompts,
            rewards,
            run_dir=folder,
            tune=_tune(tune),
            settings=settings,
            held=eval_on,
            sampler=sampler,
            reload=reload,
            seed=seed,
            trackers=trackers,
            on_step=on_step,
        )

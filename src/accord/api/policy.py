"""A policy trained on rewards of its own answers, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from accord.api.arguments import Progress, TuneLike, one_of, tuning
from accord.core.config import validate
from accord.core.errors import ConfigError, door
from accord.core.keys import OnPolicyKeys
from accord.core.rundir import hold, make_dir
from accord.core.types import Prompt
from accord.lm.model.load import LanguageModel
from accord.lm.sampler import Sampler
from accord.train.online import policy as own_answers
from accord.train.online.method import methods

__all__ = ["train_policy"]


@door
def train_policy(
    policy: LanguageModel,
    prompts: Sequence[Prompt],
    rewards: Sequence[Mapping[str, Any]],
    *,
    run_dir: str | Path,
    method: Literal["ppo", "rloo", "grpo", "online_dpo", "best_of_n"] = "ppo",
    tune: TuneLike = None,
    eval_on: Sequence[Prompt] = (),
    sampler: Sampler | str | None = None,
    reload: str = "",
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    **how: Unpack[OnPolicyKeys],
) -> own_answers.PolicyTrained:
    """PPO, RLOO, GRPO, online DPO or best-of-n on rewards of the policy's own answers.

        rewards = [{"name": "learned", "model": "runs/rm/model"}]
        accord.train_policy(policy, prompts, rewards, method="ppo", run_dir="runs/ppo", steps=50)

    Args:
        policy: a model as `load` gives it, changed in place; its weights at the start are the reference.
        prompts: at least one; those too long for a model that reads them are left out and counted.
        rewards: as in a recipe, each {"name": …, its keys}; models named by folder.
        run_dir: where checkpoints, samples, metrics.jsonl and the model go; called again with the same one, a
            killed training goes on from its last checkpoint.
        method: "ppo", "rloo", "grpo", "online_dpo" or "best_of_n".
        tune: None for LoRA's defaults, its keys ({"r": 16, "alpha": 32, …}), or "full".
        eval_on: held-out prompts, answered and scored every `eval_every` steps and at the end.
        sampler: answers instead of the policy's own model: an OpenAI-compatible server
            ("http://host:8000/v1#name"). It must serve the weights that are trained; `sampler_gap` in the log
            tells how far it is from them.
        reload: an address told, before each step, where they lie (vLLM: "http://host:8000/v1/load_lora_adapter").
        seed: of adapters, order, answers.
        trackers: "tensorboard", "wandb", "mlflow".
        on_step: called with (step, steps, what the step logged).
        how: the method's keys (`Ppo`, `Rloo`, `Grpo`, `OnlineDpo`, `BestOfN`).

    Returns:
        `metrics`: each reward's mean over the last held-out answers, and `reward`, the composed one;
        `ended`: why it ended early, or "".

    Raises:
        ConfigError: every wrong key or value, before anything runs.
        ModelError: a model that can't be found or trained so.
        RunError: an answer without a score (`on_failure: drop` leaves it out instead), a run_dir of another
            training.
    """
    known = methods()
    one_of("method", method, list(known))
    if not len(prompts):
        raise ConfigError("there is no prompt to answer", mend="check the filters of the snapshot")
    if reload and not isinstance(sampler, str):
        raise ConfigError("no server to reload", where="reload", mend="give sampler, its address")
    settings, folder = validate(known[method], {**how}), make_dir(Path(run_dir))
    settings.check_names(str)
    with hold(folder):
        return own_answers.train_policy(
            policy,
            prompts,
            rewards,
            run_dir=folder,
            tune=tuning(tune),
            settings=settings,
            held=eval_on,
            sampler=sampler,
            reload=reload,
            seed=seed,
            trackers=trackers,
            on_step=on_step,
        )

"""A policy and its own answers from Python: trained on rewards of them, scored, evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from accord.api import TuneLike, one_of, tuning
from accord.core.config import validate
from accord.core.errors import ConfigError, door
from accord.core.keys import OnPolicyKeys, SamplingKeys
from accord.core.messages import as_prompts
from accord.core.rundir import hold, make_dir
from accord.core.types import Exchange, Metric, Prompt
from accord.lm.load import LanguageModel
from accord.lm.sample import Sampler
from accord.rewards.axes import load_axes_model
from accord.rewards.base import Context
from accord.rewards.compose import ScoredExchanges, build_rewards
from accord.rewards.learned import load_reward_model
from accord.rewards.process_model import load_process_model
from accord.stats.intervals import cluster_mean
from accord.train import policy as own_answers
from accord.train.loop import Progress
from accord.train.method import methods
from accord.train.scorers import sampler_of, token_counter

__all__ = ["Evaluation", "evaluate", "score", "train_policy"]


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


@door
def score(
    exchanges: Sequence[Exchange],
    rewards: Sequence[Mapping[str, Any]],
    *,
    policy: LanguageModel | None = None,
) -> ScoredExchanges:
    """What rewards say of answers, composed as in training.

    Args:
        exchanges: prompts with one answer each (`Exchange(prompt=…, response=…)`).
        rewards: as in a recipe, each {"name": …, its keys}; models named by folder.
        policy: whose tokens lengths are counted in, and whose device models go to; words and the default
            device without it.

    Returns:
        `total` (one for each exchange, NaN where a reward that may drop has no score), `parts` (raw scores
        by label), `dropped`, and `cut`: the share of answers a model did not read to their end.

    Raises:
        ConfigError: an unknown reward, key or value.
        ModelError: no such model.
        RunError: an answer without a score.
    """
    device = str(policy.device) if policy else None
    kept: dict[tuple[str, str], Any] = {}

    def loaded(kind: str, load: Callable[..., Any]) -> Callable[[str], Any]:
        def find(name: str) -> Any:
            if (kind, name) not in kept:
                kept[kind, name] = load(name, device=device)
            return kept[kind, name]

        return find

    context = Context(
        **({"count_tokens": token_counter(policy)} if policy else {}),
        model=loaded("score", load_reward_model), process_model=loaded("steps", load_process_model),
        axes_model=loaded("axes", load_axes_model), sampler=sampler_of,
    )  # fmt: skip
    return build_rewards(rewards, context, "rewards")(exchanges)


@dataclass(frozen=True)
class Evaluation:
    """What was answered, and what rewards say of it: `metrics` holds the composed `reward`, every reward by
    its label, `words`, and `cut off`, the share of answers that reached the limit; intervals allow for
    several answers to a prompt."""

    policy: LanguageModel
    exchanges: list[Exchange]
    scored: ScoredExchanges | None
    metrics: dict[str, Metric]


@door
def evaluate(
    policy: LanguageModel,
    prompts: Sequence[Prompt | str],
    rewards: Sequence[Mapping[str, Any]] = (),
    *,
    n: int = 1,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    **sampling: Unpack[SamplingKeys],
) -> Evaluation:
    """Let a policy answer prompts and measure its answers.

    Args:
        policy: a model as `load` gives it.
        prompts: texts, each one user message, or `Prompt`s.
        rewards: as in `score`; without any, lengths alone are measured.
        n: answers to each prompt, at least 1.
        batch_size: answers sampled at a time, at least 1.
        on_progress: called with (answers done, answers in all).
        sampling: as of `policy.answer`.

    Raises:
        ConfigError, DataError, ModelError, RunError: as `policy.answer` and `score`.
    """
    asked = as_prompts(prompts)
    made = policy.answers(asked, n, batch_size=batch_size, on_progress=on_progress, **sampling)
    exchanges = [
        Exchange(prompt=p, response=r) for p, rows in zip(asked, made, strict=True) for r in rows
    ]
    scored = score(exchanges, rewards, policy=policy) if rewards else None
    columns: dict[str, Sequence[float]] = {
        **(scored.parts if scored else {}),
        **({"reward": scored.total} if scored else {}),
        "words": [float(len(e.response.text.split())) for e in exchanges],
        "cut off": [float(e.response.finish == "length") for e in exchanges],
    }
    return Evaluation(
        policy, exchanges, scored, {k: _mean(x, exchanges) for k, x in columns.items()}
    )


def _mean(values: Sequence[float], exchanges: Sequence[Exchange]) -> Metric:
    """Over the answers that have one, by prompt."""
    known = [(x, e.prompt.id) for x, e in zip(values, exchanges, strict=True) if x == x]
    return cluster_mean([x for x, _ in known], [prompt for _, prompt in known])

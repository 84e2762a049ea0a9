"""Several rewards become one number, and none of them fails in silence.

    rewards:
      - {name: learned, model: rm}
      - {name: length_penalty, per_token: 0.01, budget: 40}

Legend: E exchanges.

A score that is missing (NaN, an error, a call that takes too long) is never read as 0: as the recipe says,
the run stops and shows the exchange, or the exchange is left out and counted. What fails for all exchanges
(a server that is down) ends the run either way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any, Literal

from accord.core.config import Strict, validate
from accord.core.errors import AccordError, ConfigError, RunError
from accord.core.registry import Positive
from accord.core.types import Exchange, Prompt
from accord.rewards import axes, judged, models, process, rules
from accord.rewards.base import Context, Reward, Together, rewards, runs_here

__all__ = ["Rewards", "ScoredExchanges", "build_rewards", "check_reward", "reward_registry"]

PATIENCE = 600.0  # seconds: a reward that hangs ends the run instead of holding it
OnFailure = Literal["stop", "drop"]
UNREAD = (
    "reward {label}: its model reads the first {n} tokens of an answer, and max_new_tokens is {most}: "
    "what stands beyond is not scored. Lower max_new_tokens to {n}, or train the model with "
    "max_completion {most}; cut/{label} in the log is the share of answers that were cut"
)
BUILT_IN = (axes, judged, models, process, rules)  # importing them registers theirs
reward_registry = rewards


class Common(Strict):
    """Keys that every entry of `rewards` may have beside the reward's own."""

    name: str
    label: str | None = None
    """What it is called in logs; its name by default."""
    weight: float = 1.0
    """What it is multiplied by; of a constraint, the multiplier it starts with."""
    at_least: float | None = None
    """A constraint: the others are maximised subject to a mean of at least this. Its weight then moves."""
    dual_step: Positive = 0.1
    """How fast a constraint's weight moves (per step, per unit of what is missing)."""
    on_failure: OnFailure = "stop"
    """stop: the run ends with the exchange that had no score. drop: it is left out and counted."""
    timeout: Positive | None = None
    """Seconds a call may take. By default models of this process have no limit, anything else 600."""


@dataclass
class _Part:
    common: Common
    label: str
    function: Reward
    timeout: float | None
    finish: Callable[[Sequence[Exchange], Sequence[float]], list[float]] | None = None
    models: list[Any] = field(default_factory=list)
    """The reward models it asks: each has `cut` and `fits`."""


@dataclass
class ScoredExchanges:
    """Total [E] (NaN: left out), each part's raw scores by label, how many were left out by part; `cut`: the
    share of answers of which a model of the part read the beginning only, by part with a model; `sizes`: the
    sum of what was added up, each without its sign, of which a small total has the rounding."""

    total: list[float]
    parts: dict[str, list[float]]
    dropped: dict[str, int]
    cut: dict[str, float] = field(default_factory=dict)
    sizes: list[float] = field(default_factory=list)


@dataclass
class Rewards:
    """The weighted sum of parts, each kept apart for the log. `weights` by label; those of constraints move
    with `adapt` and belong into checkpoints."""

    parts: list[_Part]
    weights: dict[str, float]

    @property
    def labels(self) -> list[str]:
        return [part.label for part in self.parts]

    def __call__(self, exchanges: Sequence[Exchange]) -> ScoredExchanges:
        """Score all exchanges with every part.

        RunError naming part and exchange when one has no finite score (or raises, or is late) and its
        `on_failure` is stop; where all fail with an error of accord's, that error.
        """
        parts = {part.label: _scores(part, exchanges) for part in self.parts}
        dropped = {label: sum(map(math.isnan, x)) for label, x in parts.items()}
        terms = [[self.weights[k] * x for x in scores] for k, scores in parts.items()]
        total = [sum(row) for row in zip(*terms, strict=True)]
        sizes = [sum(map(abs, row)) for row in zip(*terms, strict=True)]
        cut = {part.label: _cut(part, exchanges) for part in self.parts if part.models}
        return ScoredExchanges(total, parts, {k: n for k, n in dropped.items() if n}, cut, sizes)

    def fits(self, prompt: Prompt) -> bool:
        """Whether every reward model has room for a prompt and an answer."""
        return all(model.fits(prompt) for part in self.parts for model in part.models)

    def unread(self, max_new_tokens: int) -> list[str]:
        """What is to be known before a run whose answers are longer than a reward model reads."""
        least = {
            part.label: min(m.max_completion for m in part.models)
            for part in self.parts
            if part.models
        }
        return [UNREAD.format(label=k, n=n, most=max_new_tokens)
                for k, n in least.items() if n < max_new_tokens]  # fmt: skip

    def adapt(self, scored: ScoredExchanges) -> dict[str, float]:
        """After a step, move each constraint's weight λ by dual ascent on max r + λ(b - c):
        λ ← max(0, λ + step·(c - mean b)). The weights of the constraints, by label."""
        moved = {}
        for part in self.parts:
            least, values = part.common.at_least, scored.parts[part.label]
            known = [x for x in values if not math.isnan(x)]
            if least is not None and known:
                missing = least - sum(known) / len(known)
                weight = self.weights[part.label] + part.common.dual_step * missing
                self.weights[part.label] = moved[part.label] = max(0.0, weight)
        return moved


def build_rewards(configs: Sequence[Mapping[str, Any]], context: Context, where: str) -> Rewards:
    """The parts a recipe lists; ConfigError for an unknown reward, key or value, or a label used twice."""
    parts: list[_Part] = []
    for number, config in enumerate(configs):
        place = f"{where}[{number}]"
        common, function = check_reward(config, place)
        label = common.label or common.name
        if label in [part.label for part in parts]:
            raise ConfigError(f"two rewards are called {label!r}", where=place, mend="give a label")
        timeout = common.timeout or (None if runs_here(config) else PATIENCE)
        models: list[Any] = []
        scorer = function(_noting(replace(context, seconds=timeout), models))
        first, finish = (
            (scorer.score, scorer.finish) if isinstance(scorer, Together) else (scorer, None)
        )
        parts.append(_Part(common, label, first, timeout, finish, models))
    if not parts:
        raise ConfigError("no reward is given", where=where, allowed=", ".join(rewards.names()))
    return Rewards(parts, {part.label: part.common.weight for part in parts})


def _noting(context: Context, models: list[Any]) -> Context:
    """The context, with the reward models that are asked of it noted."""

    def through(find: Callable[[str], Any]) -> Callable[[str], Any]:
        def noted(name: str) -> Any:
            model = find(name)
            models.extend([model] if hasattr(model, "cut") else [])
            return model

        return noted

    return replace(
        context,
        model=through(context.model),
        process_model=through(context.process_model),
        axes_model=through(context.axes_model),
    )


def _cut(part: _Part, exchanges: Sequence[Exchange]) -> float:
    """The share of answers that one of the part's models does not read to their end."""
    by_model = [model.cut(exchanges) for model in part.models]
    return sum(map(any, zip(*by_model, strict=True))) / max(1, len(exchanges))


def check_reward(config: Mapping[str, Any], where: str) -> tuple[Common, Callable[..., Reward]]:
    """An entry's common keys and its factory with the reward's own keys bound, checked."""
    keys = set(Common.model_fields) - {"name"}
    own = {k: v for k, v in config.items() if k not in keys}
    entry, function = rewards.configured(own, where)
    given = {k: v for k, v in config.items() if k in keys}
    common = validate(Common, {"name": entry.name, **given}, where=where)
    if common.timeout and runs_here(
        config
    ):  # a call given up would go on with the model in training
        raise ConfigError(
            "a model of this process can't be stopped in the middle",
            where=f"{where}.timeout",
            mend="leave it out",
        )
    return common, function


class _NoScore(Exception):
    """A call came back late, or with another number of scores."""


def _scores(part: _Part, exchanges: Sequence[Exchange]) -> list[float]:
    """The part's scores, NaN for what is dropped."""
    outcome = _called(part, exchanges, part.timeout)
    scores = _one_by_one(part, exchanges) if isinstance(outcome, Exception) else outcome
    for exchange, score in zip(exchanges, scores, strict=True):
        if not math.isfinite(score) and part.common.on_failure == "stop":
            raise _stopped(part, exchange, f"its score is {score}")
    scores = [x if math.isfinite(x) else math.nan for x in scores]
    return part.finish(exchanges, scores) if part.finish else scores


def _one_by_one(part: _Part, exchanges: Sequence[Exchange]) -> list[float]:
    """After the call for all failed: the exchanges it failed for are found, NaN for each. What fails for
    every one of several is no matter of an exchange and ends the run. All together they may take no longer
    than two calls, or a dead service would be waited for once an exchange."""
    stop = part.common.on_failure == "stop"
    end = time.monotonic() + 2 * (part.timeout or math.inf)
    outcomes: list[list[float] | Exception] = []
    wrong: list[tuple[Exchange, Exception]] = []
    for exchange in exchanges:
        left = part.timeout and min(part.timeout, end - time.monotonic())
        late = left is not None and left <= 0
        one = _NoScore("the others took too long") if late else _called(part, [exchange], left)
        outcomes.append(one)
        wrong += [(exchange, one)] if isinstance(one, Exception) else []
        if stop and wrong and len(outcomes) > 1:
            break
    everyone = len(wrong) == len(outcomes) > 1
    if everyone and isinstance(wrong[0][1], AccordError):
        raise wrong[0][1]
    if stop and wrong:
        raise _stopped(part, wrong[0][0], _why(wrong[0][1]))
    if everyone:
        why = f"no answer has a score ({_why(wrong[0][1])})"
        raise RunError(why, where=f"reward {part.label}", mend="mend the reward")
    return [math.nan if isinstance(one, Exception) else one[0] for one in outcomes]


def _called(
    part: _Part, exchanges: Sequence[Exchange], seconds: float | None
) -> list[float] | Exception:
    """The scores, or what went wrong; a wrong set-up (ConfigError) is not caught."""
    try:
        if seconds is None:
            scores = [float(x) for x in part.function(exchanges)]
        else:
            scores = _within(seconds, part.function, exchanges)
    except ConfigError:
        raise
    except Exception as error:
        return error
    if len(scores) != len(exchanges):
        return _NoScore(f"{len(scores)} scores for {len(exchanges)} exchanges")
    return scores


def _within(seconds: float, function: Reward, exchanges: Sequence[Exchange]) -> list[float]:
    """The call in a thread of its own. A thread can't be stopped: a late one is left behind, as a daemon,
    so that the process can end without it (an executor's would be waited for)."""
    answer: Future[list[float]] = Future()

    def call() -> None:
        try:
            answer.set_result([float(x) for x in function(exchanges)])
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=call, daemon=True).start()
    if not wait([answer], seconds).done:
        raise _NoScore(f"no score within {seconds:g} s")
    return answer.result()


def _why(error: Exception) -> str:
    ours = isinstance(error, AccordError | _NoScore)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _stopped(part: _Part, exchange: Exchange, why: str) -> RunError:
    return RunError(
        f"no score ({why}) for the answer {exchange.response.text[:80]!r} to "
        f"{exchange.prompt.last[:80]!r}",
        where=f"reward {part.label}",
        mend="mend the reward, or set on_failure: drop to leave such answers out and count them",
    )

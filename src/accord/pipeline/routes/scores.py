"""By prompt, of one run: a figure of a policy, its distance from the baseline, and how far the learned reward
is from the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.artifact import Comparison
from accord.core.rundir import read_jsonl
from accord.evals.base import scores_of
from accord.pipeline.report.gather import Done
from accord.pipeline.routes.route import trainings
from accord.pipeline.routes.runs import SeedRun

__all__ = ["ByPrompt", "distances_of", "gaps_of", "scores_by_prompt"]

Row = dict[str, Any]
ByPrompt = Mapping[str, tuple[float, str]]  # prompt -> value, cluster


def scores_by_prompt(rows: Sequence[Row], name: str) -> ByPrompt:
    """A score of rows of answers, where they have it."""
    each = [(r, scores_of(r)) for r in rows]
    return {
        str(r["prompt_id"]): (scores[name], str(r.get("cluster", r["prompt_id"])))
        for r, scores in each
        if name in scores
    }


def distances_of(run: SeedRun, policy: str) -> ByPrompt | None:
    """Nats of a policy's answers from the baseline; None where no comparison measured them."""
    compared, measure = _compared(run, policy), run.outputs.of_role("distance")
    if measure is None or compared is None:
        return None
    return scores_by_prompt(_rows(compared, policy), measure.name)


def gaps_of(run: SeedRun, policy: str) -> ByPrompt | None:
    """1 where the policy's answer has more than the baseline's, 1/2 where as much; of the learned reward less
    of the truth. Above 0 the reward claims more wins than there are. None where none scored it."""
    compared, proxy = _compared(run, policy), run.outputs.of_role("proxy")
    truth = run.outputs.main.name
    if compared is None or proxy is None or proxy.name == truth:
        return None
    after, before = (_rows(compared, p) for p in (policy, run.outputs.baseline))
    claims, is_so = (_wins(after, before, k) for k in (proxy.name, truth))
    return {i: (v - is_so[i][0], c) for i, (v, c) in claims.items() if i in is_so}


def _wins(after: Sequence[Row], before: Sequence[Row], name: str) -> ByPrompt:
    new, old = scores_by_prompt(after, name), scores_by_prompt(before, name)
    signs = {i: (v > old[i][0]) - (v < old[i][0]) for i, (v, _) in new.items() if i in old}
    return {i: ((1 + sign) / 2, new[i][1]) for i, sign in signs.items()}


def _rows(compared: Done, policy: str) -> list[Row]:
    return read_jsonl(compared.folder / f"{policy}.jsonl")


def _compared(run: SeedRun, policy: str) -> Done | None:
    """The comparison that scored a policy's answers: by the reward model that it was trained on, else by one
    that learned from its data, else any."""
    stages = [s for s in run.outputs.giving(Comparison) if (s.folder / f"{policy}.jsonl").exists()]
    own = trainings(run, policy)
    data = {getattr(run.configs[n], "data", None) for n in own}

    def rank(stage: Done) -> int:
        reward = stage.config.get("reward")
        config = run.configs.get(str(reward))
        return 0 if reward in own else 1 if config and getattr(config, "data", "") in data else 2

    return min(stages, key=rank, default=None)

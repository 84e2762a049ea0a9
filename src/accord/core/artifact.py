"""What a stage gives to others, as types: a key of a stage names a stage that gives what it reads.

A kind of artifact says which files its folder holds, so whatever gives a `Policy` can be started from,
answered with, evaluated and exported, whoever wrote its stage.
"""

from __future__ import annotations

__all__ = [
    "Answers", "Artifact", "CanJudge", "Checked", "Comparison", "Data", "Figures", "Policy", "RewardModel",
    "Round", "Scorer",
]  # fmt: skip


class Artifact:
    """Whatever a stage leaves."""


class Data(Artifact):
    """A store and a frozen snapshot of it (facts `store`, `snapshot`, `test`, `seed`) and card.json."""


class Round(Data):
    """Also judgments of a policy's fresh answers: fresh.json says which."""


class CanJudge(Artifact):
    """A model in model/ that can say which of two answers is better."""


class Policy(CanJudge):
    """A causal language model in model/. The recipe's own model, `base`, is one."""


class Scorer(Artifact):
    """A model in model/ that an entry of `rewards` can name: of whole answers, of steps, by axis."""


class RewardModel(Scorer, CanJudge):
    """One score for a whole answer; held_out.jsonl has its held-out pairs."""


class Figures(Artifact):
    """Figures for the report."""


class Checked(Figures):
    """A metric by the name of each reward model: how often it orders a policy's answers as people do."""


class Answers(Figures):
    """answers.jsonl: a policy's answers (fact `policy`) to held-out prompts, with what was measured."""


class Comparison(Figures):
    """compare.json: policies beside each other, paired by prompt."""

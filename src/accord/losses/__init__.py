"""Objectives as pure functions of log-probs and scores; torch, no I/O."""

from accord.losses.advantage import (
    NOISE,
    alike,
    gae,
    group_normalised,
    leave_one_out,
    rounding,
    whiten,
)
from accord.losses.families import ChosenLoss, choose_loss, loss_names
from accord.losses.kl import AdaptiveKL, FixedKL, KLEstimator, kl_estimate
from accord.losses.logps import LabelledLogps, PairLogps, RankedLogps
from accord.losses.policy import clipped, ppo_clip, sequence_ratio, value_clip
from accord.losses.preference import get_preference_loss, preference_loss, preference_losses
from accord.losses.ranking import (
    get_ranking_loss,
    plackett_luce_nll,
    ranking_loss,
    ranking_losses,
)
from accord.losses.reward import PairScores, get_reward_loss, reward_loss, reward_losses
from accord.losses.soft import soft
from accord.losses.unpaired import (
    get_unpaired_loss,
    reference_point,
    unpaired_loss,
    unpaired_losses,
)

__all__ = [
    "NOISE",
    "AdaptiveKL",
    "ChosenLoss",
    "FixedKL",
    "KLEstimator",
    "LabelledLogps",
    "PairLogps",
    "PairScores",
    "RankedLogps",
    "alike",
    "choose_loss",
    "clipped",
    "gae",
    "get_preference_loss",
    "get_ranking_loss",
    "get_reward_loss",
    "get_unpaired_loss",
    "group_normalised",
    "kl_estimate",
    "leave_one_out",
    "loss_names",
    "plackett_luce_nll",
    "ppo_clip",
    "preference_loss",
    "preference_losses",
    "ranking_loss",
    "ranking_losses",
    "reference_point",
    "reward_loss",
    "reward_losses",
    "rounding",
    "sequence_ratio",
    "soft",
    "unpaired_loss",
    "unpaired_losses",
    "value_clip",
    "whiten",
]

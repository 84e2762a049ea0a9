"""Objectives as pure functions of log-probs and scores; torch, no I/O."""

from accord.losses.preference import (
    PairLogps,
    get_preference_loss,
    preference_loss,
    preference_losses,
)
from accord.losses.reward import PairScores, get_reward_loss, reward_loss, reward_losses
from accord.losses.soft import soft

__all__ = [
    "PairLogps",
    "PairScores",
    "get_preference_loss",
    "get_reward_loss",
    "preference_loss",
    "preference_losses",
    "reward_loss",
    "reward_losses",
    "soft",
]

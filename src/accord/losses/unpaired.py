"""Losses of answers judged one by one (a thumb, a label): one value per answer, nothing averaged.

Legend: B answers. r = log π/π_ref.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.core.errors import ConfigError
from accord.core.registry import Positive, Registry
from accord.losses.logps import LabelledLogps

__all__ = ["get_unpaired_loss", "reference_point", "unpaired_loss", "unpaired_losses"]

unpaired_losses = Registry("unpaired loss")

Statistic = Literal["mismatched", "batch"]


def unpaired_loss(name: str, *, reads: Statistic) -> Callable[..., Callable[..., Tensor]]:
    """Register a loss `(lp: LabelledLogps, *, hyper…) -> loss_B`.

    reads: what its baseline is a mean of: "mismatched" (kl_policy, kl_ref) or the "batch" itself.
    """
    return unpaired_losses.register(name, reads=reads, needs_reference=True)


def get_unpaired_loss(name: str, **hyper: Any) -> Callable[[LabelledLogps], Tensor]:
    """The loss called `name` with checked hyperparameters; ConfigError names a wrong key."""
    return unpaired_losses.make(name, **hyper)


def reference_point(lp: LabelledLogps, reads: Statistic) -> Tensor:
    """The log-ratio (nats) that the answers are compared with: z0 of KTO, δ/β of BCO; detached. ConfigError
    where one answer is all there is: what it is compared with would be itself."""
    whole = lp.whole()
    ratio = whole.kl_policy - whole.kl_ref if reads == "mismatched" else whole.ratio_B()
    if len(ratio) < 2:
        raise ConfigError(
            f"a batch of {len(ratio)} has no mean to compare with",
            where="batch_size",
            allowed=">= 2, and no last batch of 1",
            mend="or use a loss on pairs",
        )
    if reads == "mismatched":
        return ratio.mean().clamp(min=0.0).detach()
    good_B = whole.label.bool()
    means = [ratio[side].mean() for side in (good_B, ~good_B) if bool(side.any())]
    return torch.stack(means).mean().detach()


@unpaired_loss("kto", reads="mismatched")
def kto(
    lp: LabelledLogps,
    *,
    beta: Positive = 0.1,
    desirable_weight: Positive = 1.0,
    undesirable_weight: Positive = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, eq. 7): λ_D(1 - σ(β(r - z0))) for a desirable
    answer, λ_U(1 - σ(β(z0 - r))) for an undesirable one.

    z0 = max(0, mean of r over mismatched answers), detached: the reference point KL(π ‖ π_ref).
    ConfigError when a single answer has to be its own baseline.
    """
    value_B = beta * (lp.ratio_B() - reference_point(lp, "mismatched"))
    good_B = lp.label.bool()
    return torch.where(
        good_B,
        desirable_weight * torch.sigmoid(-value_B),
        undesirable_weight * torch.sigmoid(value_B),
    )


@unpaired_loss("bco", reads="batch")
def bco(lp: LabelledLogps, *, beta: Positive = 0.1) -> Tensor:
    """Binary classifier optimisation (Jung et al. 2024, their L_BCO and δ): -log σ(βr - δ) for a desirable
    answer, -log σ(-(βr - δ)) for an undesirable one.

    δ, detached, is halfway between the mean rewards of the two classes. Deviation: the paper keeps a
    running mean of δ; here it is the batch's own, so that a step depends on nothing but its batch.
    With one class only, δ is that class's mean.
    """
    value_B = beta * (lp.ratio_B() - reference_point(lp, "batch"))
    return -F.logsigmoid(torch.where(lp.label.bool(), value_B, -value_B))

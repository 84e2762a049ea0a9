"""Log-probs at scored positions without keeping full-vocabulary logits alive.

Legend: S scored positions, H hidden size, V vocabulary.

The head runs in chunks of positions. With a frozen head the gradient of a log-prob with respect to
its hidden state is known in the forward pass, d log p(y)/dh = (onehot(y) - softmax) @ W, so forward
keeps [S, H] and backward is one product per position: two matrix products in all, no recomputation
and no dense head gradient. With a trainable head each chunk is recomputed in backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["VocabHead", "find_head"]

CHUNK_BYTES = 64 << 20  # fp32 logits alive at a time


@dataclass(frozen=True)
class VocabHead:
    """The output layer and what its model does to the logits: scale, then tanh soft-capping."""

    linear: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Logits [S, V] in fp32 (fp64 for an fp64 model)."""
        logits_SV = self.linear(hidden_SH)
        logits_SV = logits_SV if logits_SV.dtype == torch.float64 else logits_SV.float()
        if self.scale != 1.0:
            logits_SV = logits_SV * self.scale
        if self.softcap:
            logits_SV = self.softcap * torch.tanh(logits_SV / self.softcap)
        return logits_SV

    def logps(self, hidden_SH: Tensor, target_S: Tensor) -> Tensor:
        """Log-probs [S] of the target tokens, fp32, differentiable."""
        vocabulary = self._vocabulary()
        chunk = max(1, CHUNK_BYTES // (4 * vocabulary))
        frozen = not any(p.requires_grad for p in self.linear.parameters())
        if not (torch.is_grad_enabled() and hidden_SH.requires_grad) and frozen:
            return _cat(self._chunk(h, t) for h, t in _chunks(hidden_SH, target_S, chunk))
        if frozen and type(self.linear) is nn.Linear:
            result: Tensor = _FrozenHead.apply(hidden_SH, target_S, self, chunk)
            return result
        return _cat(
            checkpoint(self._chunk, h, t, use_reentrant=False)
            for h, t in _chunks(hidden_SH, target_S, chunk)
        )

    def _chunk(self, hidden_CH: Tensor, target_C: Tensor) -> Tensor:
        logits_CV = self.logits(hidden_CH)
        return logits_CV.gather(1, target_C[:, None])[:, 0] - logits_CV.logsumexp(1)

    def _vocabulary(self) -> int:
        weight = getattr(self.linear, "weight", None)
        return int(weight.shape[0]) if weight is not None else 1 << 17


def _chunks(hidden_SH: Tensor, target_S: Tensor, size: int) -> Any:
    return zip(hidden_SH.split(size), target_S.split(size), strict=True)


def _cat(parts: Any) -> Tensor:
    return torch.cat(list(parts))


class _FrozenHead(torch.autograd.Function):
    """Log-probs through a frozen linear head; the gradient is computed with the value."""

    @staticmethod
    def forward(ctx: Any, hidden_SH: Tensor, target_S: Tensor, head: VocabHead, chunk: int) -> Any:
        weight_VH = head.linear.weight
        logps, slopes = [], []
        for h_CH, t_C in _chunks(hidden_SH, target_S, chunk):
            logits_CV = head.logits(h_CH)
            lse_C1 = logits_CV.logsumexp(1, keepdim=True)
            logps.append((logits_CV.gather(1, t_C[:, None]) - lse_C1)[:, 0])
            slope_CV = logits_CV.sub(lse_C1).exp_().neg_()  # onehot - softmax
            slope_CV.scatter_add_(1, t_C[:, None], torch.ones_like(lse_C1))
            if head.softcap:  # d/dx cap·tanh(x/cap) = 1 - tanh²
                slope_CV *= 1 - (logits_CV / head.softcap) ** 2
            if head.scale != 1.0:
                slope_CV *= head.scale
            slopes.append(slope_CV.to(weight_VH.dtype) @ weight_VH)
        ctx.save_for_backward(_cat(slopes))
        return _cat(logps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slope_SH,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_SH).to(slope_SH.dtype), None, None, None


def find_head(model: nn.Module) -> VocabHead:
    """The output layer of a transformers causal LM with its logit scale and soft-capping."""
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale = 1.0 / config.logits_scaling
    softcap = getattr(config, "final_logit_softcapping", None)
    return VocabHead(model.get_output_embeddings(), float(scale), softcap)

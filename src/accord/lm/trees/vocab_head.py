"""Log-probs at scored positions without keeping full-vocabulary logits alive.

Legend: S scored positions, H hidden size, V vocabulary.

The head runs in chunks of positions. The gradient of a log-prob with respect to its hidden state is
known in the forward pass, d log p(y)/dh = (onehot(y) - softmax) W, so with a frozen head forward keeps
[S, H] and backward is one product per position: two matrix products in all, no recomputation and no
dense head gradient. A trainable head's own gradient needs the gradient of the loss, so each chunk's
logits are computed again in backward: four products, and still no [S, V]. Under `half_backward` the
products that make gradients run in bf16; logits and softmax never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from accord.core.errors import ModelError
from accord.lm.kernels.half import backward_dtype
from accord.lm.kernels.linear import widen
from accord.lm.kernels.products import times_weight

__all__ = ["VocabHead", "chunk_bytes", "find_head"]

SHARE = 512  # of the device's memory a chunk of fp32 logits may take
MOST = {"cpu": 28 << 20, "cuda": 512 << 20}  # on a CPU larger ones leave the caches and are slower


@dataclass(frozen=True)
class VocabHead:
    """The output layer and what its model does to the logits: scale, then tanh soft-capping; then what
    sampling does, a temperature."""

    linear: Any
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        widen(self.linear)

    @property
    def width(self) -> int:
        """Size of the hidden states it reads: what the trunk gives, not always its own hidden size."""
        return int(self.linear.weight.shape[1])

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Logits [S, V] in fp32 (fp64 for an fp64 model), whatever the weights are in."""
        # autocast may leave states narrower than the weights
        dtype = torch.promote_types(hidden_SH.dtype, self.linear.weight.dtype)
        logits_SV: Tensor = self.linear(hidden_SH.to(dtype))
        logits_SV = logits_SV if logits_SV.dtype == torch.float64 else logits_SV.float()
        if self.scale != 1.0:
            logits_SV = logits_SV * self.scale
        if self.softcap:
            logits_SV = self.softcap * torch.tanh(logits_SV / self.softcap)
        return logits_SV if self.temperature == 1.0 else logits_SV / self.temperature

    def logps(self, hidden_SH: Tensor, target_S: Tensor) -> Tensor:
        """Log-probs [S] of the target tokens, fp32, differentiable."""
        chunk = self._chunk(hidden_SH)
        trained = any(p.requires_grad for p in self.linear.parameters())
        if not torch.is_grad_enabled() or not (hidden_SH.requires_grad or trained):
            return _values(self, hidden_SH, target_S, chunk)
        if type(self.linear) is nn.Linear:
            weight, bias = self.linear.weight, self.linear.bias
            function: Any = _TrainedHead if trained else _FrozenHead
            result: Tensor = function.apply(hidden_SH, weight, bias, target_S, self, chunk)
            return result
        return _cat(  # LoRA on the head, quantised heads: their own forward, computed again in backward
            checkpoint(lambda h, t: _logps(self.logits(h), t), h, t, use_reentrant=False)
            for h, t in _chunks(hidden_SH, target_S, chunk)
        )

    def collision(self, hidden_SH: Tensor) -> Tensor:
        """log Σ_v p(v)² [S]: the log-prob that two draws at a position agree; without gradient."""
        chunk = self._chunk(hidden_SH)
        with torch.no_grad():
            logits = map(_Room(self, hidden_SH, chunk), hidden_SH.split(chunk))
            return _cat((2 * x).logsumexp(1) - 2 * x.logsumexp(1) for x in logits)

    def entropy(self, hidden_SH: Tensor) -> Tensor:
        """Entropy [S] of the distribution at each position (nats), differentiable: its logits are
        computed again in backward."""
        chunk = self._chunk(hidden_SH)
        parts = hidden_SH.split(chunk)
        if not (torch.is_grad_enabled() and hidden_SH.requires_grad):
            return _cat(map(_entropy, map(_Room(self, hidden_SH, chunk), parts)))
        return _cat(
            checkpoint(lambda h: _entropy(self.logits(h)), h, use_reentrant=False) for h in parts
        )

    def kl(self, hidden_SH: Tensor, other: VocabHead, other_SH: Tensor) -> Tensor:
        """KL [S] of the distribution at each position from another head's there (nats, at least 0); without
        gradient."""
        chunk = self._chunk(hidden_SH)
        with torch.no_grad():
            return _cat(
                _kl(self.logits(own_CH), other.logits(its_CH))
                for own_CH, its_CH in _chunks(hidden_SH, other_SH, chunk)
            )

    def _chunk(self, hidden_SH: Tensor) -> int:
        """Positions whose logits are alive together."""
        vocabulary = int(self.linear.weight.shape[0])
        return max(1, chunk_bytes(hidden_SH.device) // (4 * vocabulary))


@cache
def chunk_bytes(device: torch.device) -> int:
    """fp32 logits alive at a time: a share of the memory the device has, not of what is free now. Sums
    over chunks depend on where they are cut, and a resumed run must cut where the first did."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:
        total = psutil.virtual_memory().total
    return int(min(total // SHARE, MOST.get(device.type, MOST["cpu"])))


def _chunks(hidden_SH: Tensor, target_S: Tensor, size: int) -> Any:
    return zip(hidden_SH.split(size), target_S.split(size), strict=True)


def _cat(parts: Any) -> Tensor:
    return torch.cat(list(parts))


def _entropy(logits_CV: Tensor) -> Tensor:
    logps_CV = logits_CV.log_softmax(1)
    return -(logps_CV.exp() * logps_CV).sum(1)


def _kl(logits_CV: Tensor, other_CV: Tensor) -> Tensor:
    logps_CV, other_CV = logits_CV.log_softmax(1), other_CV.log_softmax(1)
    return (logps_CV.exp() * (logps_CV - other_CV)).sum(1).clamp(min=0.0)


class _Room:
    """Logits of one chunk after another in the same memory, without autograd. A chunk's logits are blocks
    of tens of MB: allocated anew each, they leave holes that the next ones do not fit."""

    def __init__(self, head: VocabHead, hidden_SH: Tensor, chunk: int) -> None:
        self.head, self.kept = head, None
        linear, dtype = head.linear, hidden_SH.dtype
        plain = type(linear) is nn.Linear and linear.weight.dtype == dtype
        if plain and dtype in (torch.float32, torch.float64):
            rows = min(chunk, len(hidden_SH))
            self.kept = hidden_SH.new_empty(rows, linear.weight.shape[0])

    def __call__(self, hidden_CH: Tensor) -> Tensor:
        """`VocabHead.logits`, valid until the next call."""
        if self.kept is None:
            return self.head.logits(hidden_CH)
        head, linear = self.head, self.head.linear
        with torch.no_grad():
            out_CV = torch.mm(hidden_CH, linear.weight.T, out=self.kept[: len(hidden_CH)])
            if linear.bias is not None:
                out_CV += linear.bias
            if head.scale != 1.0:
                out_CV *= head.scale
            if head.softcap:
                out_CV.div_(head.softcap).tanh_().mul_(head.softcap)
            if head.temperature != 1.0:
                out_CV /= head.temperature
        return out_CV


def _empty_logps(hidden_SH: Tensor) -> Tensor:
    """Room for log-probs [S]: fp32, or fp64 of an fp64 model."""
    wide = torch.float64 if hidden_SH.dtype == torch.float64 else torch.float32
    return hidden_SH.new_empty(len(hidden_SH), dtype=wide)


def _values(head: VocabHead, hidden_SH: Tensor, target_S: Tensor, chunk: int) -> Tensor:
    """Log-probs [S] without autograd."""
    room, logps_S = _Room(head, hidden_SH, chunk), _empty_logps(hidden_SH)
    rows = [x.split(chunk) for x in (hidden_SH, target_S, logps_S)]
    with torch.no_grad():
        for h_CH, t_C, out_C in zip(*rows, strict=True):
            _softmax_(room(h_CH), t_C, out_C)
    return logps_S


def _logps(logits_CV: Tensor, target_C: Tensor) -> Tensor:
    return logits_CV.gather(1, target_C[:, None])[:, 0] - logits_CV.logsumexp(1)


def _softmax_(logits_CV: Tensor, target_C: Tensor, logps_C: Tensor) -> Tensor:
    """exp(logits - max) in the logits' own memory and what each row sums to [C, 1]; the targets'
    log-probs go to `logps_C`."""
    at_C1 = logits_CV.gather(1, target_C[:, None])
    top_C1 = logits_CV.amax(1, keepdim=True)
    total_C1 = logits_CV.sub_(top_C1).exp_().sum(1, keepdim=True)
    logps_C.copy_((at_C1 - top_C1 - total_C1.log())[:, 0])
    return total_C1


def _slopes(head: VocabHead, logits_CV: Tensor, target_C: Tensor, logps_C: Tensor) -> Tensor:
    """The gradient of log-probs with respect to the linear layer's output [C, V], where the logits were;
    the log-probs go to `logps_C`."""
    capped = None
    if head.softcap:  # d/dx cap·tanh(x/cap) = 1 - tanh²
        capped = 1 - (logits_CV * head.temperature / head.softcap) ** 2
    total_C1 = _softmax_(logits_CV, target_C, logps_C)
    slope_CV = logits_CV.mul_(-1.0 / total_C1)
    slope_CV.scatter_add_(1, target_C[:, None], torch.ones_like(total_C1))  # onehot - softmax
    if capped is not None:
        slope_CV *= capped
    if head.scale != head.temperature:
        slope_CV *= head.scale / head.temperature
    return slope_CV


class _FrozenHead(torch.autograd.Function):
    """Log-probs through a frozen linear head; the gradient is computed with the value."""

    @staticmethod
    def forward(
        ctx: Any, hidden_SH: Tensor, weight_VH: Tensor, bias: Any, target_S: Tensor, *how: Any
    ) -> Tensor:
        head, chunk = how
        weight = weight_VH.to(backward_dtype(weight_VH))
        room, logps_S = _Room(head, hidden_SH, chunk), _empty_logps(hidden_SH)
        grad_SH = torch.empty_like(hidden_SH)
        rows = [x.split(chunk) for x in (hidden_SH, target_S, logps_S, grad_SH)]
        for h_CH, t_C, logps_C, out_CH in zip(*rows, strict=True):
            slope_CV = _slopes(head, room(h_CH), t_C, logps_C)
            out_CH.copy_(times_weight(slope_CV.to(weight.dtype), weight))
        ctx.save_for_backward(grad_SH)
        return logps_S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (slope_SH,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_SH).to(slope_SH.dtype), None, None, None, None, None


class _TrainedHead(torch.autograd.Function):
    """Log-probs through a trainable linear head; backward computes each chunk's logits again."""

    @staticmethod
    def forward(
        ctx: Any, hidden_SH: Tensor, weight_VH: Tensor, bias: Any, target_S: Tensor, *how: Any
    ) -> Tensor:
        ctx.save_for_backward(hidden_SH, weight_VH, target_S)
        ctx.head, ctx.chunk = how
        ctx.compute = backward_dtype(weight_VH)
        return _values(ctx.head, hidden_SH, target_S, ctx.chunk)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        hidden_SH, weight_VH, target_S = ctx.saved_tensors
        compute = ctx.compute
        weight, bias = weight_VH.to(compute), ctx.head.linear.bias
        own = weight_VH.dtype
        wide = (
            torch.float64 if own == torch.float64 else torch.float32
        )  # what chunks are added up in
        grad_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=wide)
        grad_hidden = torch.empty_like(hidden_SH)
        room = _Room(ctx.head, hidden_SH, ctx.chunk)
        unused_S = _empty_logps(hidden_SH)
        rows = [x.split(ctx.chunk) for x in (hidden_SH, target_S, grads[0], grad_hidden, unused_S)]
        for h_CH, t_C, g_C, out_CH, logps_C in zip(*rows, strict=True):
            slope_CV = _slopes(ctx.head, room(h_CH), t_C, logps_C)
            slope_CV *= g_C[:, None]
            if grad_bias is not None:
                grad_bias += slope_CV.sum(0)
            out_CH.copy_(times_weight(slope_CV.to(compute), weight))
            if wide == own:
                grad_weight.addmm_(slope_CV.T, h_CH.to(own))
            else:
                grad_weight += slope_CV.T.to(own) @ h_CH.to(own)
        grad_bias = None if grad_bias is None else grad_bias.to(own)
        return grad_hidden, grad_weight.to(own), grad_bias, None, None, None


def find_head(model: PreTrainedModel) -> VocabHead:
    """The output layer of a transformers causal LM with its logit scale and soft-capping."""
    linear = model.get_output_embeddings()
    if linear is None or not hasattr(linear, "weight"):
        raise ModelError(
            f"{type(model).__name__} has no output layer that accord knows",
            mend="use a model that transformers loads for causal language modelling",
        )
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):  # Granite divides
        scale = 1.0 / config.logits_scaling
    softcap = getattr(config, "final_logit_softcapping", None)
    return VocabHead(linear, float(scale), softcap)

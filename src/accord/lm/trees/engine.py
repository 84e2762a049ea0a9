"""The log-prob engine: token trees in, log-probs or last hidden states out.

Legend: T tokens in a row, S scored tokens, C continuations, H hidden size.

On first use the engine runs one small random tree as plain sequences and packed, with attention tree
by tree, and takes the packing if they agree. Where they differ (attention with a rule of its own) it
tries a mask over the whole row, and then falls back to plain sequences, and says so in `notes`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from accord.core.errors import DataError, ModelError
from accord.lm.kernels.allocator import keep_freed_memory
from accord.lm.kernels.fused import fuse
from accord.lm.kernels.half import half_backward, has_bf16_products, settled
from accord.lm.kernels.linear import fuse_linear
from accord.lm.model.check import check_token, embedded, room, steady
from accord.lm.trees import flex, tree_attention
from accord.lm.trees.forward import Forward, causal_lm
from accord.lm.trees.tree import PackedTrees, Tree, pack, probe_tree
from accord.lm.trees.vocab_head import VocabHead, find_head

__all__ = [
    "ContinuationLogps",
    "Engine",
    "Precision",
    "evaluating",
    "windows_by_column",
]

Precision = Literal["fp32", "bf16", "auto"]

# of the spread of the probe's log-probs. Rounding of bf16 weights moves them by up to 0.08 of it, a
# continuation that sees its sibling by 0.5 and more (six architectures, SmolLM2)
PROBE_TOLERANCE = {
    torch.float32: 1e-3,
    torch.float64: 1e-3,
    torch.bfloat16: 0.2,
    torch.float16: 0.2,
}
# not cuDNN: under a mask its backward pass gives NaN at lengths of 64 mod 128 (pytorch #196678). Rows are
# filled up to a multiple of 128 on a GPU besides, and `check_gradients` looks
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
MULTIPLE = {"cuda": 128}
UNEVEN = 59  # tokens of a prompt; with a continuation of five 64
MASK_KINDS = {"full_attention", "sliding_attention"}


Attention = Literal["by_tree", "flex", "mask"]  # how a packed row attends


@dataclass(frozen=True)
class ContinuationLogps:
    """Token log-probs [S] (fp32) of C continuations, contiguous, `lengths` tokens each; collision_S,
    where asked for, is log Σ_v π(v)² at the same positions, without gradient; entropy_S their entropies
    (nats), with gradient where they are trained."""

    tokens_S: Tensor
    lengths: tuple[int, ...]
    collision_S: Tensor | None = None
    entropy_S: Tensor | None = None

    def sums_C(self) -> Tensor:
        """Summed log-prob of each continuation (nats)."""
        return sums(self.tokens_S, self.lengths)


def sums(values_S: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sum [C] of each continuation's values."""
    return torch.stack([x.sum() for x in values_S.split(list(lengths))])


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; afterwards every module is in the mode it was in."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes:
            m.training = training


def windows_by_column(config: Any) -> bool:
    """Whether an architecture limits sight by row index in a mask of its own (GPT-Neo): nothing may
    then lie between a token and what it sees."""
    return getattr(config, "window_size", None) is not None


class Engine:
    """Runs a transformers causal LM on token trees. `mode` is "tree" or "plain"; a tree row attends
    as `attention` says.

    `precision` bf16 means, on a CPU, the products of the backward pass (`kernels.half`); on a GPU the
    network runs under autocast, for policy, reference and evaluation alike. Log-softmax, scores and
    losses are fp32 throughout. auto is bf16 where the device multiplies it faster, else fp32.
    """

    def __init__(
        self, model: nn.Module, *, mode: str | None = None, precision: Precision = "fp32"
    ) -> None:
        self.model = model
        causal = causal_lm(model)
        self.forward = Forward(model, causal)
        self.config = causal.config.get_text_config()
        self.head: VocabHead = find_head(causal)
        self.name = type(causal).__name__
        self.rows, self.room = embedded(causal), steady(self.config)
        self.notes: tuple[str, ...] = ()
        self.attention: Attention = "mask"
        self.multiple = MULTIPLE.get(self.device.type, 1)  # of tokens in a row
        keep_freed_memory()
        with evaluating(model):
            fuse(model)
            fuse_linear(model)
        self.precision: Literal["fp32", "bf16"] = (
            "fp32"  # the probe asks about structure, not rounding
        )
        self.mode = mode or self._probe(causal)
        self.precision = settled(precision, self.device)
        if precision == "bf16" and self.device.type == "cpu" and not has_bf16_products():
            self.notes += ("this CPU has no bf16 products: precision fp32 is faster on it",)

    @property
    def forward_precision(self) -> Literal["fp32", "bf16"]:
        """What log-probs are computed in."""
        return self.precision if self.device.type != "cpu" else "fp32"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def logps(
        self,
        trees: Sequence[Tree],
        *,
        collision: bool = False,
        entropy: Literal["", "watched", "trained"] = "",
    ) -> ContinuationLogps:
        """Log-probs at the scored tokens of every continuation, trees and continuations in order."""
        hidden_SH, target_S, lengths = self.scored(trees)
        # outside autocast: logits rounded to bf16 are off by more than a DPO margin
        with half_backward(self.precision == "bf16"):
            tokens_S = self.head.logps(hidden_SH, target_S)
            extra_S = self.head.collision(hidden_SH) if collision else None
            watched_SH = hidden_SH if entropy == "trained" else hidden_SH.detach()
            entropy_S = self.head.entropy(watched_SH) if entropy else None
        return ContinuationLogps(tokens_S, lengths, extra_S, entropy_S)

    def scored(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Hidden states [S, H] from which each scored token is predicted, these tokens [S], and how many each
        continuation has."""
        with self._lower():
            if self.mode == "plain":
                at_SH, target_S, _, lengths = self._plain(trees)
                return at_SH, target_S, lengths
            packed = pack(trees)
            at_S, target_S = packed.at_S.to(self.device), packed.target_S.to(self.device)
            # not hidden_TH[at_S]: a prompt's last token stands in it once a continuation, and on a
            # CPU its gradient adds those up in whatever order threads come (index_select's does
            # not; on CUDA it does, and bits are not promised there)
            return self._row(packed).index_select(0, at_S), target_S, packed.lengths

    def at_temperature(self, temperature: float) -> None:
        """Log-probs are from now on those of sampling at this temperature."""
        self.head = replace(self.head, temperature=temperature)

    def states(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Hidden states [S, H] from which each scored token is predicted, [C, H] at each
        continuation's last token, and scored tokens per continuation: what a value model reads."""
        with self._lower():
            if self.mode == "plain":
                hidden_SH, _, last_CH, lengths = self._plain(trees)
                return hidden_SH, last_CH, lengths
            packed = pack(trees, keep_last=True)
            row_TH = self._row(packed)
            at_S, last_C = packed.at_S.to(self.device), packed.last_C.to(self.device)
            return row_TH.index_select(0, at_S), row_TH.index_select(0, last_C), packed.lengths

    def last_hidden(self, trees: Sequence[Tree]) -> Tensor:
        """Hidden state [C, H] at the last token of every continuation."""
        if self.mode == "tree":
            packed = pack(trees, keep_last=True)
            with self._lower():
                return self._row(packed)[packed.last_C.to(self.device)]
        rows = [(tree.prompt + c) for tree in trees for c in tree.completions]
        with self._lower():
            hidden_CTH = self._padded(rows)
        last_C = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        return hidden_CTH[torch.arange(len(rows), device=self.device), last_C]

    @contextlib.contextmanager
    def _lower(self) -> Iterator[None]:
        """The network in the engine's precision inside."""
        autocast = self.forward_precision == "bf16"
        with (
            sdpa_kernel(KERNELS),
            half_backward(self.precision == "bf16" and not autocast),
            torch.autocast(self.device.type, torch.bfloat16, enabled=autocast),
        ):
            yield

    def _row(self, packed: PackedTrees) -> Tensor:
        """Hidden states [T, H] of a packed row, and of its padding."""
        ids_T, positions_T = packed.ids_T, packed.positions_T
        self._check(int(ids_T.max()), int(positions_T.max()) + 1)
        ids_T, positions_T = (flex.padded(x, self._fill) for x in (ids_T, positions_T))
        with self._attending():
            hidden_1TH = self.forward(
                input_ids=ids_T[None].to(self.device),
                position_ids=positions_T[None].to(self.device),
                attention_mask=self._masks(packed),
                use_cache=False,
            )
        return hidden_1TH[0]

    def _check(self, top: int, longest: int) -> None:
        """Refuses what would end in an index error on a GPU, and rows whose rotary frequencies would be
        others than those of shorter ones."""
        check_token(top, self.rows, self.name)
        if self.room is not None and longest > self.room:
            raise DataError(
                f"a sequence of {longest} tokens is longer than the {self.room} within which the model's "
                "rotary frequencies stay the same",
                where=self.name,
                mend="lower max_prompt or max_completion",
            )

    @property
    def _fill(self) -> int:
        """What rows are filled up to a multiple of."""
        return flex.BUCKET if self.attention == "flex" else self.multiple

    @contextlib.contextmanager
    def _attending(self) -> Iterator[None]:
        """The model's attention layers as `attention` says inside, and as they were afterwards."""
        names = {"by_tree": tree_attention.NAME, "flex": "flex_attention"}
        before = self.config._attn_implementation
        self.config._attn_implementation = names.get(self.attention, before)
        try:
            yield
        finally:
            self.config._attn_implementation = before

    def _masks(self, packed: PackedTrees) -> Any:
        """The mask in the form this architecture takes: one, or one for each kind of layer."""
        kinds = set(getattr(self.config, "layer_types", None) or ())
        window = getattr(self.config, "sliding_window", None)
        if not kinds:
            return self._mask(packed, window)
        return {
            kind: self._mask(packed, window if kind.startswith("sliding") else None)
            for kind in kinds
        }

    def _mask(self, packed: PackedTrees, window: int | None) -> Any:
        if self.attention == "by_tree":
            return tree_attention.tree_mask(packed, window)
        if self.attention == "flex":
            return flex.block_mask(packed, window, self.device)
        allowed_TT = packed.allowed_TT(window=window)
        more = -len(allowed_TT) % self._fill
        allowed_TT = F.pad(allowed_TT, (0, more, 0, more))
        allowed_TT.diagonal()[len(allowed_TT) - more :] = True  # a row that sees nothing is NaN
        dtype = next(self.model.parameters()).dtype
        mask_TT = torch.zeros(allowed_TT.shape, dtype=dtype)
        mask_TT.masked_fill_(~allowed_TT, torch.finfo(dtype).min)
        return mask_TT[None, None].to(self.device)

    def _plain(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        """The naive computation: one right-padded sequence per continuation. Hidden states [S, H] at
        the scored positions, their target tokens [S], hidden states [C, H] at the last tokens, scored
        tokens per continuation."""
        rows = [(tree.prompt + c) for tree in trees for c in tree.completions]
        hidden_CTH = self._padded(rows)
        row, at, target, lengths = [], [], [], []
        flat = [(tree, k) for tree in trees for k in range(len(tree.completions))]
        for number, (tree, k) in enumerate(flat):
            mask = tree.mask(k)
            start = len(tree.prompt)
            for j, (token, scored) in enumerate(zip(tree.completions[k], mask, strict=True)):
                if scored:
                    row.append(number)
                    at.append(start + j - 1)
                    target.append(token)
            lengths.append(sum(mask))
        picked_SH = hidden_CTH[torch.tensor(row), torch.tensor(at)]
        last_C = torch.tensor([len(tokens) - 1 for tokens in rows])
        last_CH = hidden_CTH[torch.arange(len(rows)), last_C]
        return picked_SH, torch.tensor(target, device=self.device), last_CH, tuple(lengths)

    def _padded(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Hidden states [C, T, H] of right-padded rows, masked by length, never by token id."""
        longest = max(map(len, rows))
        self._check(max(map(max, rows)), longest)
        filled = longest + -longest % self.multiple
        longest = min(filled, max(longest, room(self.config)[0] or filled))
        ids_CT = torch.zeros(len(rows), longest, dtype=torch.long)
        mask_CT = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            ids_CT[number, : len(row)] = torch.tensor(row)
            mask_CT[number, : len(row)] = 1
        return self.forward(
            input_ids=ids_CT.to(self.device),
            attention_mask=mask_CT.to(self.device),
            use_cache=False,
        )

    def _probe(self, causal: nn.Module) -> str:
        """ "tree" if a random tree gives the log-probs of the model's own forward, else "plain"."""
        with evaluating(self.model):
            return self._probed(causal)

    def _probed(self, causal: nn.Module) -> str:
        tree = probe_tree(self.rows)
        self.mode = "plain"
        own_S = self._own_logps(causal, tree)
        allowed = PROBE_TOLERANCE[next(self.model.parameters()).dtype] * (float(own_S.std()) + 1e-6)
        if self._reached([tree], own_S, allowed):
            raise ModelError(
                f"{type(causal).__name__} computes its logits in a way accord does not know",
                mend="use another model, or open an issue with its config.json",
            )
        plain_S, reason = self.logps([tree]).tokens_S, self._no_tree_at_all()
        if not reason:
            self.mode = "tree"
            first: Attention = "flex" if self.device.type == "cuda" else "by_tree"
            for way in (first, "mask"):
                self.attention = way
                reason = self._reached([tree, tree], torch.cat([plain_S, plain_S]), allowed)
                if not reason:
                    return "tree"
        name = type(causal).__name__
        self.notes = (f"{name}: token trees are off, one sequence per continuation: {reason}",)
        return "plain"

    def _no_tree_at_all(self) -> str:
        """Why no packing can serve this architecture, from its config."""
        if set(getattr(self.config, "layer_types", None) or ()) - MASK_KINDS:
            return "it has layers that no attention mask reaches"
        if windows_by_column(self.config):
            return "its attention windows are counted along the row"
        return ""

    def _reached(self, trees: Sequence[Tree], plain_S: Tensor, allowed: float) -> str:
        """`_apart` through the whole model; where only past it they agree, `forward.past` says so."""
        past, reason = self.forward.past, self._apart(trees, plain_S, allowed)
        if reason and not past:
            self.forward.past = reason
            reason = self._apart(trees, plain_S, allowed)
            self.forward.past = past if reason else self.forward.past
        return reason

    def _apart(self, trees: Sequence[Tree], plain_S: Tensor, allowed: float) -> str:
        """Why the packed row can't be taken for the plain sequences; empty when it can."""
        try:
            gap = float((self.logps(trees).tokens_S - plain_S).abs().max())
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
            return f"the tree mask is refused ({error})"
        return "" if gap <= allowed else f"log-probs differ by {gap:.2g} nats under the tree mask"

    def check_gradients(self) -> None:
        """ModelError, naming the first weight, where a backward pass gives NaN or infinity."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        prompt = min(UNEVEN, (room(self.config)[0] or 64) - 5)
        logps_S = self.logps([probe_tree(self.rows, prompt)]).tokens_S
        grads = torch.autograd.grad(logps_S.sum(), [p for _, p in named], allow_unused=True)
        for (name, _), grad in zip(named, grads, strict=True):
            if grad is not None and not bool(grad.isfinite().all()):
                raise ModelError(
                    f"the backward pass gives NaN or infinity, first in {name} "
                    f"({self.attention} attention in {self.precision})",
                    where=self.name,
                    mend="use another version of torch, or train on a CPU; pytorch #196678 is one such fault",
                )

    def _own_logps(self, causal: nn.Module, tree: Tree) -> Tensor:
        """The same log-probs from the model's own logits, one sequence at a time."""
        parts = []
        for completion in tree.completions:
            ids_1T = torch.tensor([tree.prompt + completion], device=self.device)
            logps_TV = causal(input_ids=ids_1T).logits[0].float().log_softmax(-1)
            start = len(tree.prompt) - 1
            at = torch.arange(start, start + len(completion), device=self.device)
            parts.append(logps_TV[at, ids_1T[0, at + 1]])
        return torch.cat(parts)

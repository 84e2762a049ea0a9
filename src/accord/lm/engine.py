"""The log-prob engine: token trees in, log-probs or last hidden states out.

Legend: T tokens in a row, S scored tokens, C continuations, H hidden size.

On first use the engine runs one small random tree both ways, packed under the tree mask and as one
plain sequence per continuation. Where they differ (recurrent layers, attention that ignores the
mask, a head with a rule of its own) it falls back to plain sequences, and says so in `notes`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from accord.core.errors import ModelError
from accord.lm.tree import PackedTrees, Tree, pack
from accord.lm.vocab_head import VocabHead, find_head

__all__ = ["ContinuationLogps", "Engine", "Precision", "evaluating", "windows_by_column"]

Precision = Literal["fp32", "bf16"]

# of the spread of the probe's log-probs. Rounding of bf16 weights moves them by up to 0.08 of it, a
# continuation that sees its sibling by 0.5 and more (six architectures, SmolLM2)
PROBE_TOLERANCE = {
    torch.float32: 1e-3,
    torch.float64: 1e-3,
    torch.bfloat16: 0.2,
    torch.float16: 0.2,
}
MASK_KINDS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class ContinuationLogps:
    """Token log-probs [S] (fp32) of C continuations, contiguous, `lengths` tokens each."""

    tokens_S: Tensor
    lengths: tuple[int, ...]

    def sums_C(self) -> Tensor:
        """Summed log-prob of each continuation (nats)."""
        return torch.stack([x.sum() for x in self.tokens_S.split(list(self.lengths))])


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
    """Runs a transformers causal LM on token trees. `mode` is "tree" or "plain".

    `precision` bf16 runs the network under autocast, for policy, reference and evaluation alike;
    log-softmax, scores and losses stay fp32.
    """

    def __init__(
        self, model: nn.Module, *, mode: str | None = None, precision: Precision = "fp32"
    ) -> None:
        self.model = model
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.trunk: nn.Module = causal.base_model
        self.config = causal.config.get_text_config()
        self.head: VocabHead = find_head(causal)
        self.notes: tuple[str, ...] = ()
        self.precision: Precision = "fp32"  # the probe asks about structure, not rounding
        self.mode = mode or self._probe(causal)
        self.precision = precision

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def logps(self, trees: Sequence[Tree]) -> ContinuationLogps:
        """Log-probs at the scored tokens of every continuation, trees and continuations in order."""
        with self._autocast():
            if self.mode == "plain":
                return self._plain_logps(trees)
            packed = pack(trees)
            at_S, target_S = packed.at_S.to(self.device), packed.target_S.to(self.device)
            # not hidden_TH[at_S]: a prompt's last token stands in it once a continuation, and the
            # gradient of indexing adds those up in whatever order threads come (index_add does not)
            hidden_SH = self._row(packed).index_select(0, at_S)
            return ContinuationLogps(self.head.logps(hidden_SH, target_S), packed.lengths)

    def last_hidden(self, trees: Sequence[Tree]) -> Tensor:
        """Hidden state [C, H] at the last token of every continuation."""
        if self.mode == "tree":
            packed = pack(trees, keep_last=True)
            with self._autocast():
                return self._row(packed)[packed.last_C.to(self.device)]
        rows = [(tree.prompt + c) for tree in trees for c in tree.completions]
        with self._autocast():
            hidden_CTH = self._padded(rows)
        last_C = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        return hidden_CTH[torch.arange(len(rows), device=self.device), last_C]

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _row(self, packed: PackedTrees) -> Tensor:
        """Hidden states [T, H] of a packed row under the tree mask."""
        output = self.trunk(
            input_ids=packed.ids_T[None].to(self.device),
            position_ids=packed.positions_T[None].to(self.device),
            attention_mask=self._masks(packed),
            use_cache=False,
        )
        hidden_TH: Tensor = output.last_hidden_state[0]
        return hidden_TH

    def _masks(self, packed: PackedTrees) -> Tensor | dict[str, Tensor]:
        """The additive mask in the form this architecture takes."""
        kinds = set(getattr(self.config, "layer_types", None) or ())
        window = getattr(self.config, "sliding_window", None)
        if not kinds:
            return self._additive(packed.allowed_TT(window))
        return {
            kind: self._additive(packed.allowed_TT(window if kind.startswith("sliding") else None))
            for kind in kinds
        }

    def _additive(self, allowed_TT: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        mask_TT = torch.zeros(allowed_TT.shape, dtype=dtype)
        mask_TT.masked_fill_(~allowed_TT, torch.finfo(dtype).min)
        return mask_TT[None, None].to(self.device)

    def _plain_logps(self, trees: Sequence[Tree]) -> ContinuationLogps:
        """The naive computation: one right-padded sequence per continuation."""
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
        target_S = torch.tensor(target, device=self.device)
        return ContinuationLogps(self.head.logps(picked_SH, target_S), tuple(lengths))

    def _padded(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Hidden states [C, T, H] of right-padded rows, masked by length, never by token id."""
        longest = max(map(len, rows))
        ids_CT = torch.zeros(len(rows), longest, dtype=torch.long)
        mask_CT = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            ids_CT[number, : len(row)] = torch.tensor(row)
            mask_CT[number, : len(row)] = 1
        output = self.trunk(
            input_ids=ids_CT.to(self.device),
            attention_mask=mask_CT.to(self.device),
            use_cache=False,
        )
        hidden_CTH: Tensor = output.last_hidden_state
        return hidden_CTH

    def _probe(self, causal: nn.Module) -> str:
        """ "tree" if a random tree gives the log-probs of the model's own forward, else "plain"."""
        with evaluating(self.model):
            return self._probed(causal)

    def _probed(self, causal: nn.Module) -> str:
        tree = _probe_tree(self.config.vocab_size)
        self.mode = "plain"
        own_S = self._own_logps(causal, tree)
        plain_S = self.logps([tree]).tokens_S
        allowed = PROBE_TOLERANCE[next(self.model.parameters()).dtype] * (float(own_S.std()) + 1e-6)
        if not float((plain_S - own_S).abs().max()) <= allowed:
            raise ModelError(
                f"{type(causal).__name__} computes its logits in a way accord does not know",
                mend="use another model, or open an issue with its config.json",
            )
        self.mode = "tree"
        try:
            tree_S = self.logps([tree, tree]).tokens_S
            gap = float((tree_S - torch.cat([plain_S, plain_S])).abs().max())
            reason = f"log-probs differ by {gap:.2g} nats under the tree mask"
            if set(getattr(self.config, "layer_types", None) or ()) - MASK_KINDS:
                gap, reason = float("inf"), "it has layers that no attention mask reaches"
            if windows_by_column(self.config):
                gap, reason = float("inf"), "its attention windows are counted along the row"
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            gap, reason = float("inf"), f"the tree mask is refused ({error})"
        if gap <= allowed:
            return "tree"
        name = type(causal).__name__
        self.notes = (f"{name}: token trees are off, one sequence per continuation: {reason}",)
        return "plain"

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


def _probe_tree(vocabulary: int) -> Tree:
    """A fixed tree of pseudo-random ids: a prompt of 7 and continuations of 5 and 3 tokens."""
    ids = [(i * 7919 + 31) % max(2, vocabulary - 1) for i in range(15)]
    return Tree(tuple(ids[:7]), (tuple(ids[7:12]), tuple(ids[12:])))

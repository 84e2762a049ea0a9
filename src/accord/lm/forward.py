"""A model's last hidden states through its own forward: hooks on the whole model (of wrappers that shard it,
count it, watch it) fire as in any other use, and no logits but the last position's are made.

Legend: B rows, T tokens, H hidden size.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

__all__ = ["Forward"]


class Forward:
    """Calls the whole model and keeps what its trunk gives. `past` says why it calls the trunk instead, past
    the root; it is empty where it does not."""

    def __init__(self, model: nn.Module, causal: nn.Module) -> None:
        self.model = model
        self.trunk: Any = causal.base_model
        takes = inspect.signature(causal.forward).parameters
        self.past = (
            "" if "logits_to_keep" in takes else "its forward makes the logits of every token"
        )

    def __call__(self, **inputs: Any) -> Tensor:
        """Last hidden states [B, T, H]."""
        if self.past:
            states: Tensor = self.trunk(**inputs).last_hidden_state
            return states
        kept: list[Tensor] = []
        hook = self.trunk.register_forward_hook(
            lambda module, given, output: kept.append(output.last_hidden_state)
        )
        try:
            self.model(**inputs, logits_to_keep=1)
        finally:
            hook.remove()
        if len(kept) != 1:
            self.past = f"its forward calls the trunk {len(kept)} times"
            return self(**inputs)
        return kept[0]

"""A scalar head on the last token's hidden state: reward and value models; or one scalar for each axis.

Legend: C continuations, H hidden size, A axes.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from accord.core.errors import ModelError
from accord.core.seeds import derive_seed
from accord.lm.model.check import check_weights

__all__ = ["ScalarHead"]

FILE = "scalar_head.safetensors"


class ScalarHead(nn.Module):
    """score = w·h - centre. w starts at N(0, 1/(H+1)) (Stiennon et al. 2020); `centre` is set after
    training so that reference answers score 0 on average. At least fp32. With `axes` there is a w and a
    centre for each."""

    centre: Tensor

    def __init__(self, hidden: int, seed: int, axes: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(derive_seed(seed, "scalar_head"))
        shape = (hidden,) if axes is None else (axes, hidden)
        weight = torch.randn(shape, generator=generator) / math.sqrt(hidden + 1)
        self.weight = nn.Parameter(weight)
        self.register_buffer("centre", torch.zeros(shape[:-1]))

    def forward(self, hidden_CH: Tensor) -> Tensor:
        """Scores [C], or [C, A], fp32 (fp64 of a model in fp64)."""
        weight = self.weight if self.weight.dim() == 1 else self.weight.mT
        hidden_CH = hidden_CH.to(torch.promote_types(hidden_CH.dtype, torch.float32))
        return hidden_CH @ weight.to(hidden_CH.dtype) - self.centre

    def save(self, folder: Path) -> None:
        """Write weight and centre to the folder."""
        state = {
            name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()
        }
        save_file(state, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> ScalarHead:
        """The head saved in the folder; ModelError when there is none."""
        try:
            state = load_file(folder / FILE)
        except (OSError, SafetensorError):
            raise ModelError(
                f"has no readable {FILE}", where=str(folder), mend="name a reward model's folder"
            ) from None
        *axes, hidden = state["weight"].shape
        head = cls(hidden, 0, *axes)
        head.load_state_dict(state)
        check_weights(head, str(folder / FILE))
        return head

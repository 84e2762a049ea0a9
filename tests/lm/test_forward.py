"""Log-probs come through the model's own forward: hooks on the whole of it fire, and it makes no logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from accord.lm.adapters import add_lora
from accord.lm.engine import Engine
from accord.lm.lora import Lora
from tests.lm.test_engine import random_trees
from tests.lm.test_families import bloom, gemma3, mamba, opt
from tests.lm.tiny import ARCHITECTURES, tiny_model


def watched(root: nn.Module) -> tuple[list[str], list[int]]:
    """What hooks on the root see, as a wrapper's would, and how many positions have logits."""
    told: list[str] = []
    positions: list[int] = []
    root.register_forward_pre_hook(lambda *_: told.append("before"))

    def after(module: nn.Module, given: Any, out: Any) -> None:
        told.append("after")
        positions.append(out.logits.shape[1])

    root.register_forward_hook(after)
    return told, positions


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("mode", ["tree", "plain"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_hooks_on_the_whole_model_fire_and_no_logits_are_made(
    arch: str, mode: str, lora: bool
) -> None:
    model: Any = tiny_model(arch)
    module = add_lora(model, Lora(r=4, alpha=8), 1) if lora else model
    engine = Engine(module, mode=mode)
    engine.attention = "mask"
    told, positions = watched(module)
    trees = random_trees(2)
    for run in (engine.logps, engine.last_hidden, engine.states):
        told.clear()
        run(trees)
        assert told[:2] == ["before", "after"]
    assert set(positions) == {1}  # the last of a row alone
    assert engine.forward.past == ""


def test_a_hook_s_change_reaches_the_gradient() -> None:
    """Not only called: what a wrapper does to the inputs is what is computed."""
    model = tiny_model("llama")
    engine, trees = Engine(model), random_trees(2)
    before = engine.logps(trees).tokens_S
    other = {"position_ids": lambda x: x + 1}  # rotary: a shift changes nothing but rounding
    model.register_forward_pre_hook(
        lambda module, args, given: (
            args,
            {k: other.get(k, lambda v: v)(v) for k, v in given.items()},
        ),
        with_kwargs=True,
    )
    after = engine.logps(trees).tokens_S
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)
    (grad,) = torch.autograd.grad(after.sum(), [model.model.embed_tokens.weight])
    assert bool(grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(opt, "calls the trunk 0 times"), (gemma3, ""), (mamba, ""), (bloom, "")],
)
def test_where_it_can_t_be_the_trunk_is_called_and_the_reason_kept(
    make: Callable[[], Any], reason: str
) -> None:
    engine = Engine(make())
    assert reason in engine.forward.past
    assert bool(engine.forward.past) == bool(reason)


def test_a_forward_that_makes_all_logits_is_left_alone() -> None:
    model = tiny_model("llama")
    own = model.forward

    def forward(input_ids: Any = None, attention_mask: Any = None, **more: Any) -> Any:
        return own(input_ids, attention_mask, **more)

    plain = Engine(tiny_model("llama"))
    model.forward = forward
    engine, trees = Engine(model), random_trees(2)
    assert engine.forward.past == "its forward makes the logits of every token"
    assert torch.equal(engine.logps(trees).tokens_S, plain.logps(trees).tokens_S)

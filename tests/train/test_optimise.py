"""The loop: exact normalisation, schedule, and a resume that repeats an undisturbed run bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from accord.core.errors import RunError
from accord.train.loop.checkpoint import checkpoint_step
from accord.train.loop.optimise import (
    Objective,
    Optimise,
    Sums,
    batch_items,
    lr_scale,
    optimise,
    total_steps,
)


def problem(n: int = 12) -> tuple[torch.nn.Parameter, Objective]:
    """Weighted least squares with dropout noise: items of different size and count."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=generator)
    y = torch.randn(n, generator=generator)
    counts = [1.0 + i % 3 for i in range(n)]
    w = torch.nn.Parameter(torch.zeros(5))

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        i = torch.tensor(items)
        keep = 1.0 + 0.0 * torch.rand(())  # draws from the global stream, as dropout does
        weight = torch.tensor([counts[k] for k in items])
        error = (weight * (keep * x[i] @ w - y[i]) ** 2).sum()
        return error, {"error": (float(error.detach()), float(weight.sum()))}

    return w, Objective([10 + 7 * (i % 4) for i in range(n)], counts, loss)


def train(folder: Path, cfg: Optimise, **more: object) -> Tensor:
    w, objective = problem()
    optimise({"w": w}, objective, cfg, seed=3, folder=folder, **more)
    return w.detach().clone()


class Killed(Exception):
    pass


def test_three_kill_resume_three_is_bitwise_six(tmp_path: Path) -> None:
    cfg = Optimise(lr=0.1, epochs=2, batch_size=4, save_every=1)
    assert total_steps(12, cfg) == 6
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "whole", cfg)

    def die(done: int, total: int, row: object) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "cut", cfg, on_step=die)
    assert checkpoint_step(tmp_path / "cut") == 3
    cut = train(tmp_path / "cut", cfg)
    assert torch.equal(whole, cut)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_steps_after_the_checkpoint_are_forgotten_and_repeated(tmp_path: Path) -> None:
    cfg = Optimise(lr=0.1, epochs=2, batch_size=4, save_every=2)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    train(tmp_path / "whole", cfg)

    def die(done: int, total: int, row: object) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "cut", cfg, on_step=die)
    assert checkpoint_step(tmp_path / "cut") == 2
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a line torn by the kill
    train(tmp_path / "cut", cfg)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("tokens", [16, 30, 10_000])
def test_micro_batches_change_nothing(tmp_path: Path, tokens: int) -> None:
    cfg = {"lr": 0.1, "batch_size": 6}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = train(tmp_path / "a", Optimise(**cfg, tokens=10_000))
    other = train(tmp_path / "b", Optimise(**cfg, tokens=tokens))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_gradient_is_the_mean_over_what_the_batch_counts(tmp_path: Path) -> None:
    w, objective = problem()
    w.grad = None
    loss, _ = objective.loss(range(12))
    (loss / sum(objective.counts)).backward()
    expected = float(w.grad.norm())
    rows: list[dict[str, float]] = []
    w, objective = problem()
    cfg = Optimise(lr=1e-9, batch_size=12, tokens=20)
    optimise(
        {"w": w}, objective, cfg, seed=0, folder=tmp_path, on_step=lambda *a: rows.append(a[2])
    )
    assert rows[0]["grad_norm"] == pytest.approx(expected, rel=1e-5)
    assert rows[0]["loss"] == pytest.approx(rows[0]["error"], rel=1e-6)


def test_every_epoch_sees_every_item_once() -> None:
    cfg = Optimise(batch_size=5, epochs=2)
    drawn = [i for step in range(total_steps(12, cfg)) for i in batch_items(12, step, cfg, 1)]
    assert sorted(drawn[:12]) == list(range(12)) == sorted(drawn[12:])
    assert drawn[:12] != drawn[12:]


def test_schedule_by_hand() -> None:
    cfg = Optimise(warmup=0.2, schedule="linear")
    assert [round(lr_scale(s, 10, cfg), 3) for s in (0, 1, 2, 6, 9)] == [
        0.333,
        0.667,
        1,
        0.5,
        0.125,
    ]
    cosine = Optimise(warmup=0.0, schedule="cosine")
    assert lr_scale(0, 4, cosine) == 1.0
    assert lr_scale(2, 4, cosine) == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_stops_with_the_items(tmp_path: Path) -> None:
    w = torch.nn.Parameter(torch.ones(1))
    bad = Objective([1, 1], [1.0, 1.0], lambda items: ((w * float("nan")).sum(), {}))
    with pytest.raises(RunError, match=r"loss is nan.* look at items"):
        optimise({"w": w}, bad, Optimise(), seed=0, folder=tmp_path)


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, Optimise(max_steps=2), trackers=["tensorboard"])
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_a_gradient_that_is_not_finite_is_named(tmp_path: Path) -> None:
    """The loss is sound and the backward pass is not; no weight has moved when it is told."""
    good, bad = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.zeros(1))

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        return (good + bad.abs().sqrt()).sum(), {}  # d sqrt at 0 is infinite

    with pytest.raises(RunError, match=r"grad_norm is (inf|nan).* first in layers.1.weight; look"):
        optimise(
            {"layers.0.weight": good, "layers.1.weight": bad}, Objective([1], [1.0], loss),
            Optimise(batch_size=1), seed=0, folder=tmp_path,
        )  # fmt: skip
    assert float(good.detach()) == 1.0


class Down(Exception):
    """A judge that can't be asked."""


@pytest.mark.parametrize("fails_at", [2, 4, 6])
def test_what_was_trained_is_kept_when_measuring_fails_and_measured_later(
    tmp_path: Path, fails_at: int
) -> None:
    """No step is done again, and no row stays without its measurement."""
    cfg = Optimise(lr=0.1, epochs=2, batch_size=4, save_every=100, eval_every=2)
    logs, weights = [], []
    for name, at in (("whole", 0), ("cut", fails_at)):
        taken: list[int] = []

        def evaluate(at: int = at, taken: list[int] = taken) -> dict[str, float]:
            if len(taken) + 1 == at:  # the step is told after it was measured
                raise Down
            return {"seen": 1.0}

        keys = {"evaluate": evaluate, "on_step": lambda done, *_, t=taken: t.append(done)}
        if at:
            with pytest.raises(Down):
                train(tmp_path / name, cfg, **keys)
            assert checkpoint_step(tmp_path / name) == at
            keys["evaluate"] = lambda: {"seen": 1.0}
        weights.append(train(tmp_path / name, cfg, **keys))
        assert taken == [n for n in range(1, 7) if n != at]
        logs.append((tmp_path / name / "metrics.jsonl").read_text())
    assert torch.equal(*weights)
    assert logs[0] == logs[1]
    assert logs[0].count("eval/seen") == 3


def test_a_row_that_a_kill_lost_is_not_made_up_for_by_the_one_before(tmp_path: Path) -> None:
    """The checkpoint is on disk and the log's last row is not: nothing is written in its place."""
    cfg = Optimise(lr=0.1, epochs=2, batch_size=4, save_every=1, eval_every=2)
    train(tmp_path, cfg)
    log = tmp_path / "metrics.jsonl"
    rows = log.read_text().splitlines(keepends=True)
    log.write_text("".join(rows[:5]))
    train(tmp_path, cfg, evaluate=lambda: {"seen": 1.0})
    assert log.read_text().splitlines(keepends=True) == rows[:5]

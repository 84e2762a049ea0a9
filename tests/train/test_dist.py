"""Several processes train as one: their shares of a batch give the step of the whole."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.core.errors import RunError
from accord.lm.trees.tree import Tree
from accord.rewards.compose import ScoredExchanges
from accord.train.loop import dist
from accord.train.loop.checkpoint import checkpoint_step
from accord.train.loop.optimise import Optimise, one_step, optimise
from accord.train.online.experience import Experience, Moments, _facts
from accord.train.online.method import Method
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.online.policy import train_policy
from tests.train.small import LORA, Killed, fresh, how, preference, prompt, saved_tensors
from tests.train.test_assembly import BETA, SCORES, SIZES, Stand, rollout, seen
from tests.train.test_optimise import problem

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
CONTEXT = multiprocessing.get_context("fork")


class Member:
    """One of several processes, with a line to each of the others."""

    def __init__(self, rank: int, lines: Sequence[Any]) -> None:
        self.rank, self.size, self.lines = rank, len(lines), lines

    def gather(self, value: Any) -> list[Any]:
        told = pickle.dumps(value)
        for line in self.lines:
            if line:
                line.send_bytes(told)
        return [pickle.loads(line.recv_bytes()) if line else value for line in self.lines]

    def add(self, tensor: Tensor) -> None:
        tensor.copy_(torch.stack(self.gather(tensor.clone())).sum(0))


def together(work: Callable[[int], Any], size: int = 2) -> list[Any]:
    """What each of several processes made; the first error of any."""
    lines: list[list[Any]] = [[None] * size for _ in range(size)]
    for a in range(size):
        for b in range(a):
            lines[a][b], lines[b][a] = CONTEXT.Pipe()
    results = [CONTEXT.Pipe(duplex=False) for _ in range(size)]

    def one(rank: int) -> None:
        for other in range(
            size
        ):  # only one's own ends: a line whose other end has died is an error
            if other != rank:
                for line in filter(None, lines[other]):
                    line.close()
        try:
            with dist.joined(Member(rank, lines[rank])):
                told: Any = work(rank)
        except BaseException as error:
            told = error
        results[rank][1].send_bytes(pickle.dumps(told))

    processes = [CONTEXT.Process(target=one, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for line in (line for row in lines for line in row if line):
        line.close()
    made = [
        pickle.loads(out.recv_bytes()) if out.poll(60) else TimeoutError() for out, _ in results
    ]
    for process in processes:
        process.join()
    errors = [x for x in made if isinstance(x, BaseException)]
    for error in sorted(errors, key=lambda e: isinstance(e, OSError | EOFError)):
        raise error
    return made


@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_unequal_counts_give_the_gradient_of_the_whole(tmp_path: Path, size: int) -> None:
    """Not the mean of the shares' gradients: items count 1 to 3, and batches of 5 share unevenly."""
    cfg = Optimise(lr=0.1, batch_size=5, epochs=3, tokens=20, save_every=2, max_grad_norm=0.5)

    def train(folder: Path) -> tuple[Tensor, list[dict[str, float]]]:
        w, objective = problem()
        rows: list[dict[str, float]] = []
        optimise({"w": w}, objective, cfg, seed=3, folder=folder,
                 on_step=lambda *a: rows.append(dict(a[2])))  # fmt: skip
        return w.detach().clone(), rows

    whole, rows = train(tmp_path / "whole")
    made = together(lambda rank: train(tmp_path / "shared"), size)
    for w, _ in made:
        torch.testing.assert_close(w, whole, atol=1e-6, rtol=1e-5)
        assert torch.equal(w, made[0][0])
    assert made[0][1] == [pytest.approx(row, rel=1e-4) for row in rows]
    assert [len(told) for _, told in made[1:]] == [0] * (size - 1)  # one tells, one writes
    logged = [json.loads(x) for x in (tmp_path / "shared/metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in logged] == pytest.approx([r["loss"] for r in rows], rel=1e-4)
    names = {p.name for p in (tmp_path / "shared").glob("checkpoint*")}
    assert names == {"checkpoint.pt", *(f"checkpoint.{n}.pt" for n in range(1, size))}


@pytest.mark.parametrize("loss", ["kto", "simpo"])
def test_a_preference_step_in_two_halves(tiny: Path, tmp_path: Path, loss: str) -> None:
    """A loss with a reference and a mean over its whole batch, and one without either."""
    cfg = how(max_steps=2, batch_size=4, lr=1e-3)
    kept = {"loss": {"name": loss}}
    whole = saved_tensors(preference(tiny, tmp_path / "whole", cfg, **kept).model)

    def work(rank: int) -> None:
        preference(tiny, tmp_path / "halves", cfg, **kept)

    together(work)
    halves = saved_tensors(tmp_path / "halves/model")
    for name, value in whole.items():
        torch.testing.assert_close(halves[name], value, atol=2e-5, rtol=1e-3)


def one_of(found: Experience, g: int) -> Experience:
    """The experience of one prompt's answers."""
    at, n = sum(map(len, SIZES[:g])), len(SIZES[g])
    start, tokens = sum(map(sum, SIZES[:g])), sum(SIZES[g])
    made, own = rollout(), slice(start, start + tokens)
    mine = replace(made, prompts=made.prompts[g : g + 1], responses=made.responses[g : g + 1],
                   trees=made.trees[g : g + 1])  # fmt: skip
    assert found.values_S is not None
    assert found.after_C is not None
    return replace(
        found, rollout=mine, score_C=found.score_C[at : at + n], old_S=found.old_S[own],
        reference_S=found.reference_S[own], values_S=found.values_S[own],
        after_C=found.after_C[at : at + n],
        scored=ScoredExchanges(list(SCORES[at : at + n]), {"r": list(SCORES[at : at + n])}, {}),
    )  # fmt: skip


@pytest.mark.parametrize("cfg", [Ppo(entropy=0.1), Rloo(), Grpo(average="token")])
def test_a_policy_s_update_in_two_halves(cfg: Method, tmp_path: Path) -> None:
    """Advantages (whitened over all tokens), the loss and its gradient, KL and scores: each process has the
    answers to one prompt."""

    def work(found_of: Callable[[Experience], Experience], items: Sequence[int]) -> Any:
        stand = Stand()
        whole = replace(seen(stand), scored=ScoredExchanges(list(SCORES), {"r": list(SCORES)}, {}))
        found = found_of(whole)
        worth, gaps = cfg.advantages(found, BETA), list[float]()
        sides = [(cfg.objective(stand.actors(), found, worth, BETA, gaps), stand.logits_SV)]
        if cfg.valued:
            sides.append((cfg.value_objective(stand.actors(), found, worth), stand.values_S))
        rows = []
        for objective, leaf in sides:
            parameters: Any = {"leaf": leaf}
            optimiser = torch.optim.SGD([leaf], lr=1.0)
            settings = Optimise(tokens=1000, max_grad_norm=1e9)
            rows.append(one_step(parameters, objective, optimiser, items, settings, tmp_path))  # type: ignore[arg-type]
        return rows, _facts(found), worth.facts, stand.logits_SV.detach(), stand.values_S.detach()

    rows, facts, told, *leaves = work(lambda found: found, [0, 1])
    halves = together(lambda rank: work(lambda found: one_of(found, rank), [0]))
    for made in halves:
        assert made[0] == [pytest.approx(row, rel=1e-5, abs=1e-7) for row in rows]
        assert made[1] == pytest.approx(facts, rel=1e-5, abs=1e-6)
        assert made[2] == pytest.approx(told, rel=1e-5, abs=1e-6)
        for ours, theirs in zip(made[3:], leaves, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_moments_are_of_all_processes() -> None:
    def work(rank: int) -> Moments:
        moments = Moments()
        moments.add(dist.values_of_all(torch.tensor([1.0, 2.0 + rank])).tolist())
        return moments

    alone = Moments()
    alone.add([1.0, 2.0, 1.0, 3.0])
    assert together(work) == [alone, alone]


def test_two_processes_train_one_policy(tiny: Path, tmp_path: Path) -> None:
    """Each samples its own answers, three prompts between two; they stay one policy, and go on as one."""
    cfg = Ppo(steps=2, batch_size=3, minibatch=2, epochs=1, lr=1e-3, max_new_tokens=4, save_every=1,
              scale_rewards=True, kl={"control": "adaptive", "horizon": 20})  # fmt: skip
    rewards = [
        {"name": "pattern", "regex": "[aeiou]"},
        {"name": "pattern", "regex": "[k-t]", "label": "x"},
    ]

    def work(folder: Path, dies: bool = False) -> Any:
        def on_step(done: int, *_: Any) -> None:
            if dies and done == 1:
                raise Killed

        lm = fresh(tiny)
        train_policy(lm, [prompt(i) for i in range(5)], rewards, run_dir=folder, tune=LORA,
                     settings=cfg, on_step=on_step)  # fmt: skip
        return {n: p.detach().clone() for n, p in lm.model.named_parameters() if "lora" in n}

    ours, theirs = together(lambda rank: work(tmp_path / "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(Killed):
        together(lambda rank: work(tmp_path / "cut", dies=True))
    assert checkpoint_step(tmp_path / "cut") == 1
    together(lambda rank: work(tmp_path / "cut"))
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_checkpoints_of_two_steps_are_no_run(tmp_path: Path) -> None:
    """A kill between the processes' checkpoints is told of; neither goes on from its own."""

    def work(steps: int) -> None:
        w, objective = problem()
        cfg = Optimise(lr=0.1, batch_size=4, max_steps=steps, epochs=9, save_every=1)
        optimise({"w": w}, objective, cfg, seed=3, folder=tmp_path)

    together(lambda rank: work(1))
    old = (tmp_path / "checkpoint.1.pt").read_bytes()
    together(lambda rank: work(2))
    (tmp_path / "checkpoint.1.pt").write_bytes(old)
    with pytest.raises(RunError, match="the processes' checkpoints are of steps 2, 1"):
        together(lambda rank: work(3))


def test_a_tree_is_shared_by_its_place() -> None:
    trees = [Tree((k,), ((k,),)) for k in range(5)]
    assert dist.share(trees) == trees
    shares = together(lambda rank: dist.share(trees))
    assert shares == [trees[::2], trees[1::2]]

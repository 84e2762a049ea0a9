"""What a recipe takes: counts by hand and by torch's own counter, every kind of stage, beside a run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from accord.cli import app
from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.kernels.products import has_faster_products
from accord.lm.model.load import load, load_shape
from accord.lm.model.lora import Lora
from accord.lm.trees.tree import Tree
from accord.pipeline.folder import plan
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run, stage_context
from accord.pipeline.stage import _KINDS, StageConfig, kind_of
from accord.pipeline.stages.sft import Sft
from accord.pipeline.stages.sft.run import read_demonstrations
from accord.pipeline.work import Known, Learn, Read, Sample, Work
from accord.plan import memory as memory_plan
from accord.plan import probe
from accord.plan.memory import KERNELS, Shape, _forward, _going, _sizes, estimate
from accord.plan.probe import Line, Probe
from accord.plan.stages import _data, plan_stages
from accord.plan.work import EVERY, _behind
from accord.train.loop import memory
from accord.train.loop.optimise import Optimise
from accord.train.loop.trainee import prepare
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

CPU = torch.device("cpu")
TREES = [Tree(tuple(range(5, 9 + n)), ((9, 10, 11), (12, 13))) for n in range(8)]
ON_POLICY = """
  {name}:
    {{kind: {name}, init: sft, data: study, rewards: [{{name: learned, model: rm}}], steps: 2, batch_size: 2,
     max_new_tokens: 4{more}}}"""
MORE = (
    """
  grid: {kind: sweep, init: sft, data: study, limit: 6, over: {lr: [1.0e-4, 1.0e-3]}}
  full: {kind: sft, data: study, limit: 6, tune: full, tokens: auto}
  round2:
    {kind: ask, policy: sft, data: study, prompts: 6, held_out: 6, max_new_tokens: 4,
     raters: [{name: Ada, skill: 16}]}
  rm2: {kind: reward, init: sft, data: round2, limit: 6}
  check: {kind: rm_check, models: [rm, rm2], data: round2}
  frontier: {kind: kl_frontier, policies: [dpo], reference: sft, reward: rm, data: study, prompts: 4}"""
    + ON_POLICY.format(name="ppo", more="")
    + ON_POLICY.format(name="grpo", more=", tune: full")
    + ON_POLICY.format(name="best_of_n", more="")
    + "\n"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers, timed once on little, are enough where times are not looked at."""
    for name, least in {"SIZE": 1, "TIMES": 1, "BATCHES": 1, "STEPS": 4}.items():
        monkeypatch.setattr(probe, name, least)
    monkeypatch.setattr(memory_plan, "SOME", 8)


def priced(work: Work, model: Path, rate: float | None = None) -> dict[str, float]:
    config, tokenizer = load_shape(model)
    found = estimate(work, Shape.of(config), Probe(config, tokenizer, CPU), 0.0, float(2**33), rate)
    return {**found.memory, "flop": found.flop, "seconds": found.seconds}


def test_a_line_goes_through_both_measurements(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = load_shape(model)
    made = Probe(*shape, CPU)
    assert made.depths == (1, 3)
    monkeypatch.setattr(probe, "SIZE", 2**28)  # the layers have a few KB
    assert Probe(*shape, CPU).depths == (1, 18)
    line = made.line(5.0, 9.0)
    assert (line.once, line.each) == (3.0, 2.0)
    assert line.at(30) == 63.0
    # noise does not make layers cost less than nothing
    assert made.line(5.0, 4.0) == Line(5.0, 0.0)


def test_shapes_are_counted_without_weights(model: Path) -> None:
    shape, lm = Shape.of(load_shape(model)[0]), load(model, device="cpu")
    head = lm.model.get_output_embeddings()
    linear = [m for m in lm.model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    assert shape.total == sum(p.numel() for p in lm.model.parameters())
    assert shape.trunk == sum(m.weight.numel() for m in linear)
    assert shape.adapter * 2 == sum(
        p.numel() for p in prepare(lm, Lora(r=2), 1).parameters().values()
    )


def test_products_are_those_torch_counts(model: Path) -> None:
    lm, shape = load(model, device="cpu"), Shape.of(load_shape(model)[0])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        lm.model(torch.tensor([range(5, 25)]))
    counted = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counted.items() if "mm" in str(op) and "bmm" not in str(op))
    tree = Tree((5,), (tuple(range(6, 25)),))
    trunk, head = _forward([tree], shape, scalar=False)
    attention = 4 * shape.layers * shape.hidden * 20 * 21 / 2
    assert trunk - attention + head * 20 / 19 == products  # torch's head reads all 20 positions


def test_activations_are_those_of_the_whole_model(model: Path) -> None:
    """Extrapolated from one layer and a few, and measured on the model of two."""
    cfg = Optimise(batch_size=8, tokens=4096)
    found = priced(Work([Learn(TREES, 8, cfg, "full")]), model)
    trainee = prepare(load(model, device="cpu"), "full", 17)
    batch = TREES
    kept = memory.kept_bytes(
        lambda: trainee.engine.logps(batch).tokens_S, list(trainee.module.parameters())
    )
    assert found["activations"] == pytest.approx(kept * memory.overhead(CPU), rel=0.02)
    total = sum(p.numel() for p in trainee.module.parameters()) * 4
    assert (found["gradients"], found["AdamW"], found["weights"]) == (total, 2 * total, total)


def test_a_lower_backward_pass_and_fewer_trained_layers_cost_less(model: Path) -> None:
    cfg = Optimise(batch_size=4)
    full = priced(Work([Learn(TREES, 8, cfg, "full")]), model)
    lora = priced(Work([Learn(TREES, 8, cfg, Lora(r=2))]), model)
    last = priced(Work([Learn(TREES, 8, cfg, Lora(r=2, last_layers=1))]), model)
    assert full["flop"] > lora["flop"] > last["flop"]
    assert lora["AdamW"] == 2 * last["AdamW"]
    assert lora["activations"] > last["activations"]
    read = priced(Work([Read(TREES, 512)]), model)
    assert full["flop"] == pytest.approx(3 * read["flop"])


def test_micro_batches_are_the_ones_there_will_be(model: Path) -> None:
    """By hand: one tree a batch, so every size occurs; all in one batch, so there is one."""
    trees = [Tree(tuple(range(5, 9 + n % 4)), ((9, 10, 11),)) for n in range(8)]
    one = Learn(trees, 16, Optimise(batch_size=1), Lora(r=2))
    assert _sizes(one, 1024, 17) == {tree.tokens for tree in trees}
    assert _sizes(Learn(trees, 16, Optimise(batch_size=8), "full"), 1024, 17) == {
        sum(tree.tokens for tree in trees)
    }
    assert len(_sizes(Learn(trees, 0, Optimise(batch_size=1), "full"), 1024, 17)) == 0


FRESH = """
import sys
from pathlib import Path
from accord.lm.model.load import load_shape
from accord.plan.probe import Probe
import torch
config, tokenizer = load_shape(Path(sys.argv[1]))
config.hidden_size = 576  # narrow weights are MKL's
print(Probe(config, tokenizer, torch.device("cpu")).kernel())
"""


@pytest.mark.skipif(not has_faster_products(), reason="products of MKL leave nothing behind")
def test_what_a_new_size_of_product_keeps_is_measured(model: Path) -> None:
    """In a process of its own: one that has met the sizes keeps nothing more."""
    run = [sys.executable, "-c", FRESH, str(model)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert 0 < float(said) < 4 * 2**20


def test_kernels_are_bounded_and_carried_over(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "kernel", lambda self: 1000.0)
    config, tokenizer = load_shape(model)
    made = Probe(config, tokenizer, CPU)

    def kept(lengths: range, met: int = 0) -> tuple[float, int]:
        trees = [Tree(tuple(range(5, 9 + n)), ((9, 10, 11),)) for n in lengths]
        found = estimate(Work([Read(trees, 1)]), Shape.of(config), made, 0.0, 2.0**33, met=met)
        return found.memory["kernels"], found.met

    few, met = kept(range(20))
    assert few == 1000 * met > 0
    assert kept(range(20), met) == (2000 * met, 2 * met)
    assert kept(range(2000)) == (1000 * KERNELS, KERNELS)


def test_loading_counts_every_model_and_every_adapter(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, on a model of two layers; an adapter on all layers has no more than there are."""
    plain, adapter = Probe(*load_shape(model), CPU).load()
    assert plain.at(2) > 0
    assert adapter.at(2) > 0
    monkeypatch.setattr(Probe, "load", lambda self: (Line(1.0, 2.0), Line(0.5, 0.25)))
    assert priced(Work(loads=3), model)["seconds"] == 3 * 5.0
    assert priced(Work(loads=1, stacked=[1, EVERY]), model)["seconds"] == 5.0 + 0.75 + 1.0


def test_adapters_that_are_merged_are_those_since_the_last_whole_model() -> None:
    def stage(**more: Any) -> Sft:
        return Sft.model_validate({"kind": "sft", "data": "study", **more})

    configs: dict[str, StageConfig] = {
        "one": stage(tune={"last_layers": 1}),
        "two": stage(init="one", tune={}),
        "whole": stage(init="two", tune="full"),
        "three": stage(init="whole", tune={"last_layers": 2}),
    }
    assert [_behind(name, configs) for name in ("base", "one", "two", "whole", "three")] == [
        [], [1], [1, EVERY], [], [2],
    ]  # fmt: skip


def test_answers_are_priced_by_their_length_and_a_rate_replaces_the_clock(model: Path) -> None:
    prompts = [Prompt.user(f"question {n}") for n in range(6)]
    short = priced(Work([Sample(prompts, 2, [4], 8, 8)]), model, rate=1e9)
    twice = priced(Work([Sample(prompts, 2, [4], 8, 8, times=2.0)]), model, rate=1e9)
    assert twice["flop"] == pytest.approx(2 * short["flop"])
    assert short["seconds"] == short["flop"] / 1e9
    assert short["key-value cache"] > 0


def test_rows_leave_the_cache_as_their_answers_end(model: Path) -> None:
    """By hand: of two equally likely lengths the long one is alone from the second token on."""
    assert _going([1, 3, 3, 1]) == [1.0, 0.5, 0.5]
    prompts = [Prompt.user("a question")] * 8

    def cache(lengths: list[int]) -> float:
        return priced(Work([Sample(prompts, 1, lengths, 100, 8)]), model)["key-value cache"]

    prompt = len(render_prompt(load_shape(model)[1], prompts[0]))
    assert cache([1, 100]) / cache([100]) == pytest.approx(max((prompt + 1) / (prompt + 100), 0.5))


def test_what_a_policy_writes_is_what_it_was_taught(model: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, model)
    path.write_text(path.read_text() + MORE)
    recipe = read_recipe(path)
    node = next(n for n in recipe.nodes if n.name == "ppo")
    folder, _ = _data(recipe, plan(recipe, tmp_path / "runs"), tmp_path, lambda text: None)
    ctx = stage_context(recipe, node, folder, tmp_path, Heard())
    lm = load(model, device="cpu")
    configs = {n.name: n.config for n in recipe.nodes}
    written = Known(configs, lm).written
    train, _ = read_demonstrations(ctx, configs["sft"])  # type: ignore[arg-type]
    taught = [
        len(lm.tokenizer(d.response.text, add_special_tokens=False)["input_ids"]) + 1 for d in train
    ]
    assert sorted(written(ctx, "sft", 500)) == sorted(taught)
    assert max(taught) > 4
    assert set(written(ctx, "sft", 4)) == {4}
    assert written(ctx, "dpo", 500) == written(ctx, "sft", 500)
    assert written(ctx, "base", 500) == [500]
    ppo = configs["ppo"].model_copy(update={"max_new_tokens": 4 * max(taught)})
    grown = Known(configs | {"ppo": ppo}, lm).written(ctx, "ppo", 500)
    assert [g / n for g, n in zip(grown, written(ctx, "sft", 500), strict=True)] == pytest.approx(
        [(4 * max(taught) / n) ** 0.5 for n in written(ctx, "sft", 500)], rel=0.05
    )


def test_every_kind_of_stage_is_priced_and_nothing_is_left(model: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, model)
    path.write_text(path.read_text() + MORE)
    before = sorted(tmp_path.rglob("*"))
    rows, there = plan_stages(read_recipe(path), tmp_path / "runs")
    assert sorted(tmp_path.rglob("*")) == before
    by = {row.name: row for row in rows}
    assert list(by) == [n.name for n in read_recipe(path).nodes if n.name != "study"]
    for row in rows:
        assert row.estimate.flop > 0, row.name
        assert row.estimate.seconds > 0, row.name
        assert 0 < row.estimate.peak < there, row.name
    weights = {name: row.estimate.memory["weights"] for name, row in by.items()}
    assert weights["grpo"] == 3 * weights["sft"]  # policy, reference and reward model
    assert weights["sft"] < weights["ppo"] < 2 * weights["sft"]  # adapters on one base
    assert "merged adapters" in by["dpo"].estimate.memory
    assert "merged adapters" not in by["sft"].estimate.memory


def test_models_that_judge_and_revise_are_counted(model: Path, tmp_path: Path) -> None:
    """Each round of revision is as much again; a critic of its own is a second model; a policy that judges
    reads every pair in both orders: three pairs of three answers, one of two. A script reads nothing, and the
    plan says so."""
    path = write_recipe(tmp_path, model)
    head, _, _ = path.read_text().partition("  eval:")
    keys = "policy: base, data: study, prompts: 4, max_new_tokens: 4"
    stages = [
        f"  r{k}: {{kind: revise, {keys}, critique_tokens: 6, rounds: {k}}}" for k in (1, 2, 3)
    ]
    stages.append("  sft: {kind: sft, data: study, limit: 4}")
    stages.append(f"  critic: {{kind: revise, {keys}, critic: sft}}")
    stages += [
        f"  {name}: {{kind: judge, {keys}, held_out: 2, n: {n}, judge: {judge}, checked: 0}}"
        for name, n, judge in (("j2", 2, "sft"), ("j3", 3, "sft"), ("script", 2, "stand-in:first"))
    ]
    path.write_text(head + "\n".join(stages) + "\n")
    rows, _ = plan_stages(read_recipe(path), tmp_path / "runs")
    by = {row.name: row for row in rows}
    flop = {name: row.estimate.flop for name, row in by.items() if row.estimate}
    assert flop["r3"] - flop["r2"] == pytest.approx(flop["r2"] - flop["r1"], rel=0.01)
    assert flop["r2"] > 1.5 * flop["r1"]
    weights = {name: row.estimate.memory["weights"] for name, row in by.items() if row.estimate}
    assert weights["critic"] == 2 * weights["r2"]
    answers = flop["script"]  # two answers, judged by nothing
    assert flop["j3"] - 1.5 * answers == pytest.approx(3 * (flop["j2"] - answers), rel=0.05)
    assert any("not counted" in note for note in by["script"].notes)
    assert not by["j3"].notes


def test_a_judge_of_what_a_round_asked_reads_all_its_answers(model: Path, tmp_path: Path) -> None:
    """Three fresh answers and one of before are six pairs; of the round's two held-out prompts all are put to
    it too. What people judged before is not known to a plan."""
    path = write_recipe(tmp_path, model)
    head, _, _ = path.read_text().partition("  eval:")
    keys = "policy: sft, data: study, prompts: 4, held_out: 2, n: 3, beside: 1, max_new_tokens: 4"
    stages = [
        "  sft: {kind: sft, data: study, limit: 4}",
        f"  asked: {{kind: ask, {keys}}}",
        f"  fresh: {{kind: judge, {keys}, judge: sft, checked: 0}}",
    ]
    for name, data, n in (
        ("none", "asked", 0),
        ("one", "asked", 1),
        ("many", "asked", 9),
        ("old", "study", 0),
    ):
        stages.append(f"  {name}: {{kind: judge, data: {data}, judge: sft, checked: {n}}}")
    path.write_text(head + "\n".join(stages) + "\n")
    rows, _ = plan_stages(read_recipe(path), tmp_path / "runs")
    by = {row.name: row for row in rows}
    flop = {name: row.estimate.flop for name, row in by.items() if row.estimate}
    assert flop["fresh"] - flop["asked"] == pytest.approx(flop["none"], rel=0.01)
    assert flop["one"] == pytest.approx(7 / 6 * flop["none"], rel=0.01)
    assert flop["many"] == pytest.approx(8 / 6 * flop["none"], rel=0.01)
    assert not by["many"].notes
    assert any("not counted" in note for note in by["old"].notes)


def test_a_kind_that_says_nothing_of_its_work_is_not_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path, model)
    study, _, _ = path.read_text().partition("  eval:")
    path.write_text(f"{study}  sft: {{kind: sft, data: study, limit: 4}}\n")
    silent = replace(kind_of("sft"), work=lambda ctx, known: None)
    monkeypatch.setitem(_KINDS, "sft", silent)
    ((row,), _) = plan_stages(read_recipe(path), tmp_path / "runs")
    assert row.estimate is None
    assert row.notes == ["not counted: kind sft does not say what it does"]


def test_a_plan_stands_beside_what_was_run(model: Path, tmp_path: Path) -> None:
    path, runs = write_recipe(tmp_path, model), tmp_path / "runs"
    said = CliRunner().invoke(
        app, ["plan", "memory", str(path), "--runs", str(runs), "--tflops", "0.001"]
    )
    assert said.exit_code == 0, said.output
    assert "at 0.001 TFLOP/s" in said.output
    assert "it took" not in said.output
    run(read_recipe(path), runs, Heard())
    rows, _ = plan_stages(read_recipe(path), runs)
    assert all(row.took and row.took[0] and row.took[1] >= 0 for row in rows)
    held = max(row.took[0] for row in rows if row.took and row.took[0])
    assert max(row.estimate.peak for row in rows) == pytest.approx(
        held, rel=0.5
    )  # the process, mostly
    said = CliRunner().invoke(app, ["plan", "memory", str(path), "--runs", str(runs)])
    assert "it took" in said.output
    assert "on this machine" in said.output

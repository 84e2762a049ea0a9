"""Routes from feedback to a policy: which policies are one, what each took, and a table over seeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from accord.cli import app
from accord.core.errors import ConfigError
from accord.core.rundir import read_json, read_jsonl
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.routes.effort import effort_of, judgments_of
from accord.pipeline.routes.figures import outcome_of
from accord.pipeline.routes.record import SeedRecord, read_records, record_of
from accord.pipeline.routes.route import behind, routes_of, trainings
from accord.pipeline.routes.runs import SeedRun, read_run
from accord.pipeline.routes.table import route_table
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model, small_world

LEFT_OUT = r".*_quarter|(ppo|rm).*_half"
STEPS = ["eval_limit=2", "max_steps=1", "batch_size=2", "tune={last_layers: 1}"]
ONLINE = [
    "steps=1", "batch_size=2", "n=2", "minibatch=1", "max_new_tokens=4", "eval_limit=2",
    "tune={last_layers: 1}",
]  # fmt: skip
ROUND = ["prompts=8", "held_out=3", "max_new_tokens=6", "beside=null", "n=3"]
KEYS = {
    "sft": STEPS, "judged": ["gate=null", "checked=4"], "round": ROUND, "people": ROUND,
    "eval": ["prompts=3", "max_new_tokens=4"], "eval_fewer": ["prompts=3", "max_new_tokens=4"],
}  # fmt: skip


def sets_for(here: Path, stages: Collection[str]) -> list[str]:
    """What makes the shipped recipe (or these stages of it) a tiny one."""
    model, world = save_tiny_model(here / "model"), small_world(here / "world.yaml", 4)
    sets = [f"model={model}", f"study.world={world}"]
    for name in stages:
        scale = name.rpartition("_")[2]
        keys = KEYS.get(name, ONLINE if name.startswith("ppo") else STEPS)
        keys = keys if name not in ("study", "compare", "compare_ai") else []
        limit = {"half": 4, "quarter": 2}.get(scale)
        keys = [*keys, f"limit={limit}"] if limit and not name.startswith("ppo") else keys
        sets += [f"{name}.{key}" for key in keys]
    return sets


def shipped() -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "compare.yaml").read_text())
    return recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """The shipped recipe with a tiny model, by two seeds; of fewer judgments DPO's halves alone."""
    here, recipe = tmp_path_factory.mktemp("routes"), shipped()
    left = {k: s for k, s in recipe["stages"].items() if not re.fullmatch(LEFT_OUT, k)}
    left["eval_fewer"]["policies"] = ["dpo_half", "dpo_ai_half"]
    path = here / "compare.yaml"
    path.write_text(yaml.safe_dump({**recipe, "stages": left}, sort_keys=False))
    sets = sets_for(here, left)
    return [
        run(read_recipe(path, [*sets, f"seed={seed}"]), here / "runs", Heard()) for seed in (17, 18)
    ]


@pytest.fixture(scope="module")
def seeds(runs: list[RunFolder]) -> list[SeedRun]:
    return [read_run(str(r.path)) for r in runs]


@pytest.fixture(scope="module")
def records(runs: list[RunFolder]) -> list[SeedRecord]:
    return read_records([str(r.path) for r in runs])


def test_policies_that_differ_in_their_limit_are_one_route(seeds: list[SeedRun]) -> None:
    one = seeds[0]
    routes = {r.name: r.policies for r in routes_of(one, lambda p: judgments_of(one, p))}
    assert routes == {
        "ppo": ("ppo",), "dpo": ("dpo_half", "dpo"), "ppo_ai": ("ppo_ai",),
        "dpo_ai": ("dpo_ai_half", "dpo_ai"),
    }  # fmt: skip


def test_what_stands_behind_a_route(seeds: list[SeedRun]) -> None:
    assert trainings(seeds[0], "ppo_ai") == ["rm_ai", "ppo_ai"]
    ways = set(behind(seeds[0], "ppo_ai"))
    assert ways == {"round", "rm", "people", "judged", "rm_ai", "ppo_ai"}


def test_judgments_are_counted_by_who_gave_them(seeds: list[SeedRun]) -> None:
    for route, giver in (("dpo", "simulated raters"), ("dpo_ai", "reward model rm")):
        half, whole = (effort_of(seeds[0], policy) for policy in (f"{route}_half", route))
        assert all(name.startswith(giver) for name in (*half.sources, *whole.sources))
        assert 0 < half.judgments < whole.judgments
    assert effort_of(seeds[0], "ppo").sources == effort_of(seeds[0], "dpo").sources
    assert effort_of(seeds[0], "dpo").behind_judge == 0
    stage = seeds[0].done["rm"].folder
    learned = {s for row in read_jsonl(stage / "trained_on.jsonl") for s in row["sources"]}
    assert effort_of(seeds[0], "dpo_ai").behind_judge == len(learned) > 0


def test_an_earlier_round_s_trainings_are_behind_no_judge(seeds: list[SeedRun]) -> None:
    """People are asked about the answers of a PPO that `rm` paid: what that read is behind DPO, but a judge
    learned from it where there is one."""
    configs = dict(seeds[0].configs)
    configs["ppo"] = configs["ppo"].model_copy(
        update={"rewards": [{"name": "learned", "model": "rm"}]}
    )
    configs["people"] = configs["people"].model_copy(update={"policy": "ppo"})
    rounds = replace(seeds[0], configs=configs)
    assert set(behind(rounds, "dpo")) == {"round", "rm", "ppo", "people", "dpo"}
    assert effort_of(rounds, "dpo").behind_judge == 0
    learned = effort_of(rounds, "dpo_ai").behind_judge
    assert learned == effort_of(seeds[0], "dpo_ai").behind_judge > 0
    configs["judged"] = configs["judged"].model_copy(update={"judge": "stand-in:longest"})
    assert effort_of(replace(rounds, configs=configs), "dpo_ai").behind_judge == 0


def test_what_a_route_took(seeds: list[SeedRun]) -> None:
    effort = effort_of(seeds[0], "ppo_ai")
    assert effort.roles == ["policy", "reference", "rm_ai"]  # the value is a head on its states
    assert (effort.models, effort.reward_models) == (1, ["rm_ai"])
    stages = behind(seeds[0], "ppo_ai")
    timings = [read_json(seeds[0].done[s].folder / "timing.json")["seconds"] for s in stages]
    assert effort.seconds == pytest.approx(sum(timings))
    (row,) = seeds[0].done["ppo_ai"].metrics_rows
    assert effort.sampled == pytest.approx(row["length"] * 4)  # two prompts, two answers
    assert effort.agreement is not None
    direct = effort_of(seeds[0], "dpo")
    assert (direct.roles, direct.reward_models, direct.sampled) == (["policy"], [], 0.0)


def test_the_gap_is_of_the_reward_model_that_the_route_was_trained_on(
    seeds: list[SeedRun], records: list[SeedRecord]
) -> None:
    outcome = outcome_of(records, "ppo_ai")
    by_hand = []
    for one in seeds:
        folder = one.done["compare_ai"].folder
        after, before = (
            {r["prompt_id"]: r for r in read_jsonl(folder / f"{p}.jsonl")}
            for p in ("ppo_ai", "sft")
        )
        wins = [
            [
                math.copysign(0.5, d) if (d := side(after[i]) - side(before[i])) else 0.0
                for i in after
            ]
            for side in (lambda r: r["reward"], lambda r: r["gold"]["gold"])
        ]
        by_hand.append(sum(a - b for a, b in zip(*wins, strict=True)) / len(after))
    assert outcome.gap is not None
    assert outcome.gap.value == pytest.approx(sum(by_hand) / 2)
    assert outcome.distance is not None
    assert outcome_of(records, "sft").gained.value == 0.0


def test_one_command_writes_the_table(runs: list[RunFolder], tmp_path: Path) -> None:
    out, page = tmp_path / "routes.md", tmp_path / "routes.html"
    named = [str(r.path) for r in runs]
    done = CliRunner().invoke(app, ["compare", *named, "--out", str(out), "--page", str(page)])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    assert "| | ppo | dpo | ppo_ai | dpo_ai |".replace("| |", "|  |") in text
    assert "seeds 17, 18" in text
    for title in (
        "feedback",
        "wall time",
        "peak memory",
        "between seeds",
        "KL",
        "proxy less truth",
    ):
        assert f"| {title} |" in text
    assert text.count("| dpo_ai_half |") == 1
    assert "ppo - dpo" in text or "dpo - ppo" in text
    assert "With fewer judgments" in page.read_text()
    shown = CliRunner().invoke(app, ["compare", named[0]])
    assert "one seed" in shown.output


def test_the_table_in_the_docs_is_what_the_command_writes(records: list[SeedRecord]) -> None:
    """Of the records beside it, to the letter; its routes and rows are those of the shipped recipe."""

    def titles(text: str) -> list[str]:
        head = text.partition("## With fewer judgments")[0]
        rows = [line.split(" | ")[0] for line in head.splitlines() if line.startswith("| ")]
        return rows + [line for line in head.splitlines() if line.startswith(("- ", "|  |"))]

    text = (ROOT / "docs" / "routes.md").read_text()
    assert text == route_table(kept_in_docs()).markdown()
    assert titles(text) == titles(route_table(records).markdown())


def test_what_was_kept_of_a_run_stands_for_it(runs: list[RunFolder], tmp_path: Path) -> None:
    """A seed's record, kept where its run was, and another seed's run: the same table, to the letter."""
    named = [str(r.path) for r in runs]
    kept = tmp_path / "seed-17.json"
    done = CliRunner().invoke(app, ["compare", named[0], "--record", str(kept)])
    assert done.exit_code == 0, done.output
    whole = route_table(read_records(named)).markdown()
    assert route_table(read_records([str(kept), named[1]])).markdown() == whole
    both = tmp_path / "both.json"
    CliRunner().invoke(app, ["compare", str(kept), named[1], "--record", str(both)])
    assert route_table(read_records([str(both)])).markdown() == whole
    assert str(runs[0].path.parent) not in kept.read_text()
    with pytest.raises(ConfigError, match="seed 17 is there already"):
        read_records([str(both), named[0]])
    (tmp_path / "other.json").write_text('{"format": "accord routes 0", "runs": []}')
    (tmp_path / "half.json").write_text(kept.read_text()[:500])
    plain = json.loads(kept.read_text())
    plain["runs"][0]["policies"]["ppo"]["figure"].pop()  # almost right
    (tmp_path / "short.json").write_text(json.dumps(plain))
    for name in ("other.json", "half.json", "short.json"):
        with pytest.raises(ConfigError, match="is no record of runs"):
            read_records([str(tmp_path / name)])


def test_the_records_in_the_docs_say_what_the_docs_say() -> None:
    kept, policies = kept_in_docs(), ("ppo", "dpo", "ppo_ai", "dpo_ai")
    every = [outcome_of(kept, p) for p in policies]
    rows = {str(run.seed): [outcome_of([run], p).gained for p in policies] for run in kept}
    rows |= {
        "of these seeds alone": [o.here for o in every],
        "over seeds": [o.gained for o in every],
    }
    text = (ROOT / "docs" / "judges.md").read_text()
    for title, cells in rows.items():
        shown = [f"{m.value:+.3f} [{m.low:.3f}, {m.high:.3f}]" for m in cells]
        assert f"| {' | '.join([title, *shown])} |" in text


def kept_in_docs() -> list[SeedRecord]:
    kept = read_records([str(ROOT / "docs" / "routes" / f"compare-{s}.json") for s in (17, 18, 19)])
    assert [run.seed for run in kept] == [17, 18, 19]
    return kept


def test_a_record_loses_no_prompt_and_needs_no_baseline_that_was_trained(
    seeds: list[SeedRun],
) -> None:
    """Against the recipe's model, which is no stage; prompts without the deciding figure keep their KL."""
    from_base = replace(seeds[0], outputs=replace(seeds[0].outputs, baseline="base"))
    assert record_of(from_base).policies["base"].effort is None
    answers = {p: list(rows[:1]) for p, rows in seeds[0].outputs.answers.items()}
    few = record_of(replace(seeds[0], outputs=replace(seeds[0].outputs, answers=answers)))
    kept = few.policies["ppo"]
    assert kept.distance is not None
    assert [sum(v is not None for v in c) for c in (kept.figure, kept.distance)] == [1, 3]


def test_runs_that_can_t_be_compared_are_told(runs: list[RunFolder]) -> None:
    with pytest.raises(ConfigError, match="seed 17 is there already"):
        read_records([str(runs[0].path)] * 2)
    plain = read_json(runs[1].path / "recipe.json")
    plain["stages"]["dpo"]["lr"] = 1.0
    other = runs[1].path.with_name("other")
    other.mkdir()
    (other / "recipe.json").write_text(json.dumps(plain))
    (other / "manifest.json").write_bytes((runs[1].path / "manifest.json").read_bytes())
    with pytest.raises(ConfigError, match=r"another recipe than .*\(dpo\.lr\)"):
        read_records([str(runs[0].path), str(other)])


@pytest.mark.slow
def test_the_shipped_recipe_ends_in_a_table_of_all_budgets(tmp_path: Path) -> None:
    sets = sets_for(tmp_path, shipped()["stages"])
    path = ROOT / "recipes" / "compare.yaml"
    done = run(read_recipe(path, sets), tmp_path / "runs", Heard())
    one = read_run(str(done.path))
    routes = {r.name: r.policies for r in routes_of(one, lambda p: judgments_of(one, p))}
    assert routes == {
        name: (f"{name}_quarter", f"{name}_half", name)
        for name in ("ppo", "dpo", "ppo_ai", "dpo_ai")
    }

"""Judgments from several files and stores: each row is looked up in the store that its stage read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.core.rundir import read_jsonl
from accord.lm.model.load import load
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import rewrite_report, run
from accord.store import Store, import_file
from tests.lm.test_export import plain
from tests.lm.test_load import logits
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model
from tests.test_cli import accord, assert_one_line

RECIPE = """\
name: several
model: {model}
stages:
  sft: {{kind: sft, data: demos.jsonl, max_steps: 1}}
  rm: {{kind: reward, init: sft, data: study.db@v1, max_steps: 1}}
  dpo: {{kind: preference, init: sft, data: pairs.jsonl, max_steps: 1}}
"""


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def pairs(what: str) -> list[dict[str, Any]]:
    return [
        {"prompt": [turn("user", f"What is {what} number {i}?")],
         "chosen": [turn("assistant", f"A tent, {i}.")], "rejected": [turn("assistant", f"A hat {i}.")]}
        for i in range(24)
    ]  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    demonstrations = [
        {"messages": [turn("user", f"How long is walk {i}?"), turn("assistant", f"{i} km.")]}
        for i in range(24)
    ]
    write_rows(folder / "demos.jsonl", demonstrations)
    write_rows(folder / "pairs.jsonl", pairs("this"))
    more = write_rows(folder / "more.jsonl", pairs("that") + pairs("this"))
    with Store(folder / "study.db") as store:
        import_file(store, more)
        store.freeze("v1")
    (folder / "r.yaml").write_text(RECIPE.format(model=save_tiny_model(folder / "model")))
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> RunFolder:
    return run(read_recipe(folder / "r.yaml"), folder / "runs", Heard())


def told(page: Path) -> dict[str, Any]:
    (found,) = re.findall(r'id="clicks">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found)


READS = {"sft": "demos-jsonl", "rm": "study-db-v1", "dpo": "pairs-jsonl"}


def test_each_row_leads_to_the_store_its_stage_read(done: RunFolder, folder: Path) -> None:
    found = told(done.report)
    assert all(found["judgments"])
    for part, (stage, data) in zip(found["parts"], READS.items(), strict=False):
        rows = read_jsonl(done.stages[stage] / "trained_on.jsonl")
        inside = done.stages[data] / "study.db"
        with Store(inside if inside.exists() else folder / "study.db", create=False) as store:
            asked = store.lineage([i for row in rows for i in row["sources"]])
        assert rows
        for row, shown in zip(rows, part, strict=True):
            assert [found["ids"][n] for n in shown[3]] == row["sources"]
            for n in shown[3]:
                true = asked[found["ids"][n]]
                about, prompt = found["judgments"][n][2:4]
                assert f"number {true.seq} of the chain, hash {true.hash[:12]}" in about
                assert found["texts"][prompt] == true.prompt.last
    page = done.report.read_text()
    for name in READS.values():
        assert f"Data card: {name}" in page
        assert f"Judgments of {name}: " in page


def test_a_policy_of_the_run_is_exported(
    done: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, name = tmp_path / "plain", f"{done.path}:dpo"
    code, said, error = accord(capsys, "export", name, str(out), "--merged")
    assert (code, error) == (0, "")
    assert "plain weights, float32" in said
    trained = load(done.stages["dpo"] / "model").model
    torch.testing.assert_close(logits(plain(out)), logits(trained), rtol=0, atol=1e-5)
    card = (out / "README.md").read_text()
    for told in (
        "dpo: preferences from sft on ", "prompts with comparisons, dpo; LoRA",
        "sft: supervised fine-tuning from base",
        "pairs-jsonl: 24 judgments", "dpo, held out: accuracy", "n=",
    ):  # fmt: skip
        assert told in card
    for words, told in (
        ((name, str(out), "--merged"), "is there already"),
        ((f"{done.path}:rm", str(tmp_path / "x"), "--merged"), "no policy 'rm' in this run"),
        ((str(done.path), str(tmp_path / "x"), "--merged"), f"which stage?; use {done.path}:"),
        ((str(done.stages["rm"] / "model"), str(tmp_path / "x"), "--merged"), "is a reward model"),
        ((name, str(tmp_path / "x"), "--merged", "--dtype", "int4"), "unknown dtype 'int4'"),
    ):
        code, _, error = accord(capsys, "export", *words)
        assert_one_line(code, error, told)
        assert not (tmp_path / "x").exists()


def test_the_report_can_be_written_again(done: RunFolder) -> None:
    before = done.report.read_bytes()
    assert rewrite_report(done.path).read_bytes() == before


def test_a_store_that_is_gone_costs_its_judgments_and_not_the_report(
    done: RunFolder, folder: Path
) -> None:
    shutil.move(folder / "study.db", folder / "elsewhere.db")
    try:
        rewrite_report(done.path)
    finally:
        shutil.move(folder / "elsewhere.db", folder / "study.db")
    found = told(done.report)
    untold = [id for id, j in zip(found["ids"], found["judgments"], strict=True) if j is None]
    wanted = {i for r in read_jsonl(done.stages["rm"] / "trained_on.jsonl") for i in r["sources"]}
    assert wanted <= set(untold)
    assert any(found["judgments"])
    assert re.search(r"Only ids are told .*study\.db.*no such store", done.report.read_text())

"""Stages keyed by content: what is done is skipped, what changed runs again, a killed run goes on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accord.core.errors import RunError
from accord.core.hashing import tree_hash
from accord.core.rundir import read_jsonl
from accord.pipeline.folder import RunFolder, check, plan
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import rewrite_report, run
from accord.store import Store
from accord.worlds.base import open_world
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe


class Heard:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.skips: list[str] = []

    def start(self, stage: str) -> None: ...
    def progress(self, done: int, total: int, text: str = "") -> None: ...
    def failed(self, stage: str) -> None: ...
    def report(self, path: Path, seconds: float) -> None: ...

    def note(self, text: str) -> None:
        assert text

    def finished(self, stage: str, headline: str, seconds: float, notes: list[str]) -> None:
        self.ran.append(stage)

    def skipped(self, stage: str, headline: str) -> None:
        self.skips.append(stage)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    write_recipe(folder, save_tiny_model(folder / "model"), facts=8)
    return folder


def go(folder: Path, *sets: str, **options: object) -> tuple[RunFolder, Heard]:
    heard = Heard()
    recipe = read_recipe(folder / "tiny.yaml", list(sets))
    return run(recipe, folder / "runs", heard, **options), heard  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(folder: Path) -> RunFolder:
    found, heard = go(folder)
    assert heard.ran == [
        "study", "eval/base", "sft", "eval/sft", "rm", "dpo", "eval/dpo", "compare"
    ]  # fmt: skip
    return found


def test_every_stage_leaves_its_outputs_and_the_run_a_report(done: RunFolder) -> None:
    for place in done.stages.values():
        assert (place / "DONE").exists()
        assert json.loads((place / "result.json").read_text())["headline"]
    assert len(read_jsonl(done.stages["sft"] / "metrics.jsonl")) == 6
    page = done.report.read_text()
    assert "<html" in page
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert set(manifest["stages"]) == set(done.stages)
    assert manifest["packages"]["torch"]
    for name in done.stages:
        assert (done.path / name.replace("/", "-")).resolve() == done.stages[name].resolve()


OPEN_ALL = """<script>setInterval(() => { for (const d of document.querySelectorAll(
"details:not([open])")) d.open = true; }, 20)</script>"""


def behind(done: RunFolder, stage: str) -> set[str]:
    """Ids of the judgments behind what a stage trained on."""
    return {
        i for row in read_jsonl(done.stages[stage] / "trained_on.jsonl") for i in row["sources"]
    }


def test_every_trained_row_leads_to_its_judgments(done: RunFolder) -> None:
    (data,) = re.findall(r'id="clicks">(.*?)</script>', done.report.read_text(), re.DOTALL)
    clicks = json.loads(data)
    wanted = behind(done, "sft") | behind(done, "rm") | behind(done, "dpo")
    assert len(wanted) > 50
    assert wanted <= set(clicks["ids"])
    assert len(clicks["judgments"]) == len(clicks["ids"])
    with Store(done.stages["study"] / "study.db", create=False) as store:
        told = store.lineage(clicks["ids"])
    for id, (rater, answer, about, prompt, shown, _, _) in zip(
        clicks["ids"], clicks["judgments"], strict=True
    ):
        found = told[id]
        assert clicks["texts"][prompt] == found.prompt.last
        assert [clicks["texts"][t] for t in shown] == [r.text for r in found.responses]
        assert clicks["texts"][rater] == f"{found.rater.name} ({found.rater.kind})"
        assert f"number {found.seq} of the chain, hash {found.hash[:12]}" in about
        if found.judgment.answer.kind == "preference":
            said = f"response {found.judgment.answer.better + 1} is better"
            assert clicks["texts"][answer] == said


@pytest.mark.browser
def test_a_reader_opens_every_row_down_to_the_click(done: RunFolder, tmp_path: Path) -> None:
    """In a real browser, with everything opened: each judgment is there, and no text became markup."""
    page = tmp_path / "opened.html"
    page.write_text(done.report.read_text() + OPEN_ALL)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000",
               "--dump-dom", page.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    shown = set(re.findall(r"judgment ([0-9a-f]{20})", dom))
    assert shown >= behind(done, "sft") | behind(done, "rm") | behind(done, "dpo")


def test_a_second_run_does_nothing(folder: Path, done: RunFolder) -> None:
    again, heard = go(folder)
    assert heard.ran == []
    assert len(heard.skips) == 8
    assert again.path == done.path


def test_a_changed_key_runs_what_depends_on_it(folder: Path, done: RunFolder) -> None:
    other, heard = go(folder, "dpo.loss.beta=0.3")
    assert heard.ran == ["dpo", "eval/dpo", "compare"]
    assert other.path != done.path
    assert done.report.exists()


def test_a_new_seed_runs_everything(folder: Path, done: RunFolder) -> None:
    recipe = read_recipe(folder / "tiny.yaml", ["seed=4"])
    told = "\n".join(check(recipe, folder / "runs"))
    assert (told.count("  to do  "), told.count("  done   ")) == (8, 0)
    cases = len(open_world(folder / "small.yaml").cases)
    assert f"{cases} messages about 8 policies" in told


def test_only_needs_what_it_reads(folder: Path, done: RunFolder) -> None:
    with pytest.raises(RunError, match="stage sft is not done yet"):
        go(folder, "sft.lr=0.5", only=["rm"])
    _, heard = go(folder, "rm.lr=0.002", only=["rm"])
    assert heard.ran == ["rm"]


def test_fresh_repeats_to_the_byte(folder: Path, done: RunFolder) -> None:
    before = {n: tree_hash(done.stages[n] / "model") for n in ("rm", "dpo")}
    _, heard = go(folder, fresh=True, only=["rm", "dpo"])
    assert heard.ran == ["rm", "dpo"]
    assert {n: tree_hash(done.stages[n] / "model") for n in before} == before


def test_a_report_can_be_written_again(done: RunFolder) -> None:
    before = done.report.read_text()
    done.report.unlink()
    assert rewrite_report(done.path).read_text() == before


def test_a_held_stage_is_refused(folder: Path, done: RunFolder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, time; from pathlib import Path; from accord.core.rundir import hold\n"
         "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
         str(done.stages["rm"])],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"pid {holder.pid}"):
            go(folder, only=["rm"])
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def results(run: RunFolder) -> dict[str, str]:
    """Everything a run measured and trained, by stage, as hashes and text; no wall-clock times."""
    found: dict[str, str] = {}
    for name, place in run.stages.items():
        for file in (
            "result.json",
            "metrics.jsonl",
            "compare.json",
            "answers.jsonl",
            "held_out.jsonl",
            "trained_on.jsonl",
        ):
            if (place / file).exists():
                found[f"{name}/{file}"] = (place / file).read_text()
        if (place / "model").exists():
            found[f"{name}/model"] = tree_hash(place / "model")
    return found


def command(folder: Path, runs: str) -> list[str]:
    return [sys.executable, "-m", "accord", "run", str(folder / "tiny.yaml"), "--runs", runs]


def forked(folder: Path, runs: Path) -> int:
    """The run in a process of its own, which begins with the work: all modules are there. Its id."""
    process = os.fork()
    if process == 0:
        try:
            run(read_recipe(folder / "tiny.yaml"), runs, Heard())
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return process


@pytest.mark.slow
def test_kill_9_at_five_random_moments_changes_nothing(folder: Path, done: RunFolder) -> None:
    """What the command then ends has the bytes of the run that nobody disturbed."""
    draw = random.Random(os.environ.get("ACCORD_TEST_SEED", "5"))
    runs, whole = folder / "killed", folder / "whole"
    undisturbed = time.monotonic()
    assert os.waitpid(forked(folder, whole), 0)[1] == 0
    length = time.monotonic() - undisturbed
    shutil.rmtree(runs, ignore_errors=True)
    kills = 0
    while kills < 5:
        process = forked(folder, runs)
        time.sleep(draw.uniform(0.05, 0.3) * length)  # five of them end no whole run
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:  # it was faster than the kill: begin again
            assert status == 0
            shutil.rmtree(runs)
            continue
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kills += 1
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(folder, str(runs)), env=environment, check=True)
    recipe = read_recipe(folder / "tiny.yaml", [])
    assert results(plan(recipe, runs)) == results(done) == results(plan(recipe, whole))

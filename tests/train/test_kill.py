"""kill -9 at changes of files of a training, and inside a write: what is resumed leaves the same bytes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from accord.core.hashing import tree_hash
from accord.train.loop import checkpoint
from tests.train.small import how, sft

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], Any]) -> bool:
    """Whether a forked process that does the work was killed in it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def dying_at(folder: Path, number: int) -> None:
    """From here on this process is killed at its so manieth change of a file in the folder."""
    left = [number]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if (writes or event in CHANGES) and str(args[0]).startswith(str(folder)):
            left[0] -= 1
            if not left[0]:
                die()

    sys.addaudithook(watch)


def half_a_checkpoint(number: int) -> None:
    """This process is killed in the middle of writing its so manieth checkpoint."""
    own, left = torch.save, [number]

    def save(state: Any, file: Any) -> None:
        own(state, file)
        left[0] -= 1
        if not left[0]:
            file.truncate(file.tell() // 2)
            file.flush()
            die()

    cast(Any, checkpoint.torch).save = save


def half_a_row(folder: Path) -> None:
    """This process is killed in the middle of a row of its log."""
    from accord.core import rundir

    own, left = rundir.canonical_json, [2]

    def json(value: Any) -> str:
        text = own(value)
        left[0] -= isinstance(value, dict) and "loss" in value
        if not left[0]:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(text[: len(text) // 2])
            die()
        return text

    cast(Any, rundir).canonical_json = json


def train(model: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    sft(model, folder, how(max_steps=3, save_every=1))


def left_by(folder: Path) -> dict[str, Any]:
    found = {"model": tree_hash(folder / "model"), "log": (folder / "metrics.jsonl").read_bytes()}
    return {**found, "files": sorted(str(f.relative_to(folder)) for f in folder.rglob("*"))}


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(tiny, folder)
    return left_by(folder)


def resumed_the_same(
    tiny: Path, folder: Path, undisturbed: dict[str, Any], dying: Callable[[], None]
) -> bool:
    """Train in a process that dies, and again in one that does not; whether the first did die."""

    def once() -> None:
        dying()
        train(tiny, folder)

    died = killed(once)
    assert not killed(lambda: train(tiny, folder))
    assert left_by(folder) == undisturbed
    return died


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_inside_a_checkpoint(
    tiny: Path, tmp_path: Path, undisturbed: dict[str, Any], number: int
) -> None:
    def dying() -> None:
        half_a_checkpoint(number)

    assert resumed_the_same(tiny, tmp_path, undisturbed, dying)


def test_killed_inside_a_row_of_the_log(
    tiny: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    assert resumed_the_same(tiny, tmp_path, undisturbed, lambda: half_a_row(tmp_path))


@pytest.mark.slow
def test_killed_at_changes_of_files_until_there_are_no_more(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, undisturbed: dict[str, Any]
) -> None:
    for number in range(1, 200, 3):
        folder = tmp_path_factory.mktemp(
            "killed"
        )  # as deep as the undisturbed one: the base is named from it

        def dying(folder: Path = folder, number: int = number) -> None:
            dying_at(folder, number)

        if not resumed_the_same(tiny, folder, undisturbed, dying):
            break
    assert 10 < number < 199  # the last one was not killed

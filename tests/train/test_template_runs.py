"""What templates do to runs: midnight between two halves of one, named templates, rows that are refused."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.core import day
from accord.core.errors import RunError, TemplateError
from accord.lm.chat import render_prompt
from accord.lm.model.load import load, load_shape
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.train.online.methods.grpo import Grpo
from accord.train.online.policy import train_policy
from tests.lm.templates import STYLES, TOOL, VOCABULARY
from tests.lm.tiny import CHATML, tiny_model, tiny_tokenizer
from tests.pipeline.test_runner import Heard
from tests.train.small import LORA, Killed, fresh, how, prompt, saved_tensors, sft

DATED = CHATML.replace("{% for", "{{ strftime_now('%d %b %Y') }}{% for", 1)
BEFORE, AFTER = datetime(2026, 3, 1, 23, 59), datetime(2026, 3, 2, 0, 1)


class Clock(datetime):
    at = BEFORE

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return cls.at


def dated_model(folder: Path) -> Path:
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer(DATED).save_pretrained(folder)
    return folder


def by_sft(model: Path, folder: Path, **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    return sft(model, folder, how(max_steps=4, save_every=1), **more)


def by_policy(model: Path, folder: Path, **more: Any) -> Any:
    cfg = Grpo(
        steps=4, batch_size=2, n=2, minibatch=2, lr=3e-3, max_new_tokens=5, save_every=1, tokens=128
    )
    rewards = [{"name": "pattern", "regex": "[aeiou]"}]
    return train_policy(
        fresh(model), [prompt(0), prompt(1)], rewards, run_dir=folder, tune=LORA, settings=cfg, seed=3,
        **more,
    )  # fmt: skip


@pytest.mark.parametrize("train", [by_sft, by_policy])
def test_a_run_that_goes_on_after_midnight_reads_the_same_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any
) -> None:
    monkeypatch.setattr(day, "datetime", Clock)
    model = dated_model(tmp_path / "base")

    def die(done: int, *_: Any) -> None:
        if done == 2:
            raise Killed

    Clock.at = BEFORE
    whole = saved_tensors(train(model, tmp_path / "whole").model)
    with pytest.raises(Killed):
        train(model, tmp_path / "cut", on_step=die)
    shutil.copytree(tmp_path / "cut", tmp_path / "dayless")
    (tmp_path / "dayless" / day.BEGAN).unlink()
    Clock.at = AFTER
    cut = saved_tensors(train(model, tmp_path / "cut").model)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    with pytest.raises(RunError):  # its prompts are other tokens now
        train(model, tmp_path / "dayless")


@pytest.mark.parametrize("tune", [LORA, "full"])
def test_named_templates_are_saved_loaded_and_resumed(tmp_path: Path, tune: Any) -> None:
    named = {"default": CHATML, "tool_use": "{{ tools | tojson }}" + CHATML, "rag": CHATML + " "}
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer(named).save_pretrained(tmp_path / "base")  # type: ignore[arg-type]
    (tmp_path / "run").mkdir()
    for _ in range(2):  # the second goes on from the first's last checkpoint
        done = sft(tmp_path / "base", tmp_path / "run", how(max_steps=2), tune=tune)
    again = load(done.model, device="cpu")
    assert again.tokenizer.chat_template == named
    assert load_shape(done.model)[1].chat_template == named
    offered = prompt(0).model_copy(update={"tools": (TOOL,)})
    assert "get_time" in again.tokenizer.decode(render_prompt(again.tokenizer, offered))
    (tmp_path / "next").mkdir()
    more = sft(done.model, tmp_path / "next", how(max_steps=1))
    assert load(more.model, device="cpu").tokenizer.chat_template == named


ROWS = """\
{"prompt": "Hi", "completion": "Hello."}
{"prompt": [{"role": "user", "content": "time?"}, {"role": "assistant", "content": "I look."}, \
{"role": "tool", "content": "12:30"}], "completion": "Half past twelve."}
{"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, \
{"role": "user", "content": "Bye"}], "completion": "See you."}
"""


@pytest.mark.parametrize("name", ["zephyr", "phi3", "mistral"])
def test_a_refused_row_names_its_file_and_row_or_is_counted(tmp_path: Path, name: str) -> None:
    tokenizer = STYLES[name].tokenizer()
    tiny_model("llama", vocab_size=VOCABULARY).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "rows.jsonl").write_text(ROWS)
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"name: r\nmodel: {tmp_path / 'base'}\nstages:\n"
        "  data: {kind: import, file: rows.jsonl, test: 0.0}\n"
        "  sft: {kind: sft, data: data, max_steps: 1}\n"
    )
    with pytest.raises(TemplateError, match=rf"{tmp_path}/rows.jsonl:2 prompt .*'12:30'.*\(tool\)"):
        run(read_recipe(file), tmp_path / "runs", Heard())
    found = run(read_recipe(file, sets=["sft.skip_bad=true"]), tmp_path / "runs", Heard())
    told = (found.stages["sft"] / "result.json").read_text()
    assert '"turn 3 (tool): the template leaves this out": 1' in told

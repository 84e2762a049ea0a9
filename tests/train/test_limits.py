"""What is longer than a run, a model or a reward model reads: known before the run, left out, counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from accord.core.errors import DataError, TemplateError
from accord.core.types import Demonstration, Exchange, LabelledSteps, Message, Prompt, Response
from accord.lm.chat import render_exchange, render_prompt
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.rewards.learned import load_reward_model
from accord.rewards.process_model import step_tree
from accord.train.loop.data import Limits
from accord.train.offline.process import step_trees
from accord.train.offline.reward import train_reward
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.online.policy import train_policy
from accord.train.online.rollout import roll_out_through
from tests.lm.tiny import CHATML, tiny_model, tiny_tokenizer
from tests.train.small import (
    LIMITS,
    LORA,
    answer,
    fresh,
    how,
    many_pairs,
    prompt,
    reward,
    reward_model,
)  # fmt: skip

ROOM = 128
LONG = Prompt.user("How long is the warranty? " * 60)
HEAD = (
    "It arrives on Tuesday and the tent has a warranty of 24 months from the day it is delivered. "
    * 2
)
FEW: dict[str, Any] = {"steps": 2, "batch_size": 3, "minibatch": 3, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 128 learned positions: a longer text is an index out of range."""
    folder = tmp_path_factory.mktemp("short") / "base"
    config = transformers.GPT2Config(
        vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=ROOM, bos_token_id=None, eos_token_id=2
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", [Ppo, Rloo, Grpo, OnlineDpo, BestOfN])
def test_a_long_prompt_is_left_out_and_told_before_the_run(
    short: Path, tmp_path: Path, method: Any
) -> None:
    said: list[str] = []
    rows: list[Mapping[str, float]] = []

    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        assert said  # before the first step
        rows.append(row)

    done = train_policy(
        fresh(short), [prompt(0), LONG, prompt(1), prompt(2)], [{"name": "pattern", "regex": "e"}],
        run_dir=tmp_path, tune=LORA, settings=method(**FEW, **({} if method is Ppo else {"n": 2})),
        held=[LONG, prompt(3)], on_step=on_step, tell=said.append,
    )  # fmt: skip
    assert len(rows) == 2
    room = f"prompt over {ROOM - 5} tokens, which leaves no room for max_new_tokens 5"
    assert done.left_out == {room: 1, f"held out: {room}": 1}
    assert [text for text in said if text in done.notes] == said
    assert said[0].endswith(f"left out: 1 ({room})") or said[1].endswith(f"left out: 1 ({room})")


def test_max_prompt_leaves_out_and_nothing_left_is_an_error(tiny: Path, tmp_path: Path) -> None:
    prompts = [prompt(0), Prompt.user("Where is my parcel? " * 5)]
    most = len(render_prompt(tiny_tokenizer(), prompts[0]))
    keys: dict[str, Any] = {"rewards": [{"name": "pattern", "regex": "e"}], "tune": LORA}
    done = train_policy(
        fresh(tiny), prompts, run_dir=tmp_path / "a", settings=Ppo(**FEW, max_prompt=most), **keys
    )
    assert done.left_out == {f"prompt over {most} tokens": 1}
    with pytest.raises(
        DataError, match=r"no prompt is left to answer: .*left out: 2 \(prompt over 2 "
    ):
        train_policy(
            fresh(tiny), prompts, run_dir=tmp_path / "b", settings=Ppo(**FEW, max_prompt=2), **keys
        )


def test_a_prompt_that_only_the_reward_model_can_not_read_is_left_out(
    tiny: Path, short: Path, tmp_path: Path
) -> None:
    judge = reward_model(short, tmp_path / "rm")
    done = train_policy(
        fresh(tiny), [prompt(0), Prompt.user("Is it warm? " * 30), prompt(1)],
        [{"name": "learned", "model": str(judge)}],
        run_dir=tmp_path / "run", tune=LORA, settings=Rloo(**FEW, n=2),
    )  # fmt: skip
    assert done.left_out == {"prompt longer than a reward model reads": 1}


def test_what_a_reward_model_does_not_read_is_noted_and_logged(tiny: Path, tmp_path: Path) -> None:
    judge = reward_model(tiny, tmp_path / "rm")
    model = load_reward_model(judge, device="cpu")
    polite, rude, brief = (
        Exchange(prompt=prompt(0), response=Response(text=text, finish="stop"))
        for text in (HEAD + "Thank you.", HEAD + "Go away.", "Yes.")
    )
    assert model.cut([polite, rude, brief]) == [True, True, False]
    scores = model([polite, rude, brief])
    assert scores[0] == scores[1]  # the very same: they are read once
    said: list[str] = []
    rows: list[Mapping[str, float]] = []
    keys: dict[str, Any] = {
        "rewards": [{"name": "learned", "model": str(judge)},
                    {"name": "ensemble", "models": [str(judge), str(judge)]},
                    {"name": "length_penalty"}],
        "tune": LORA, "on_step": lambda done, total, row: rows.append(row), "tell": said.append,
    }  # fmt: skip
    done = train_policy(
        fresh(tiny), [prompt(0)], run_dir=tmp_path / "long",
        settings=Rloo(steps=1, batch_size=1, n=4, max_new_tokens=model.max_completion + 30), **keys,
    )  # fmt: skip
    lengths = rows[0]["length"]
    assert lengths > model.max_completion
    assert rows[0]["cut/learned"] == rows[0]["cut/ensemble"] > 0
    assert "cut/length_penalty" not in rows[0]
    assert [text.partition(":")[0] for text in said] == ["reward learned", "reward ensemble"]
    assert any("read only the beginning of up to" in note for note in done.notes)
    said.clear()
    train_policy(
        fresh(tiny), [prompt(0)], run_dir=tmp_path / "fits",
        settings=Rloo(steps=1, batch_size=1, n=4, max_new_tokens=5), **keys,
    )  # fmt: skip
    assert not said
    assert rows[-1]["cut/learned"] == 0.0


@pytest.mark.parametrize("times", [1, 2])
def test_answers_to_centre_on_that_are_too_long_are_left_out(
    short: Path, tmp_path: Path, times: int
) -> None:
    """By max_prompt, or by the model's positions; and again where the run is resumed."""
    fits = Demonstration(prompt=prompt(0), response=answer(0))
    said: list[str] = []
    for _ in range(times):
        done = reward(
            short, tmp_path / "run", how(max_steps=3), tell=said.append,
            centre_on=[Demonstration(prompt=LONG, response=answer(1)), fits],
        )  # fmt: skip
    assert done.left_out == {"to centre on: prompt over 60 tokens": 1}
    assert any(text == "answers left out: 1 (to centre on: prompt over 60 tokens)" for text in said)
    model = load_reward_model(done.model, device="cpu")
    (centre,) = model([Exchange(prompt=fits.prompt, response=fits.response)])
    assert centre == pytest.approx(0.0, abs=1e-5)


def test_an_answer_to_centre_on_that_the_template_refuses(tmp_path: Path) -> None:
    """Named before training; with skip_bad left out and counted, and the rest centred on."""
    refusing = "{% for m in messages if m.role == 'system' %}{{ raise_exception('no system') }}{% endfor %}"
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer(refusing + CHATML).save_pretrained(tmp_path / "base")
    told = Prompt(messages=(Message(role="system", content="Be brief."), *prompt(1).messages))
    fits = Demonstration(prompt=prompt(0), response=answer(0))
    keys: dict[str, Any] = {
        "tune": LORA, "optimise_with": how(max_steps=2),
        "centre_on": [Demonstration(prompt=told, response=answer(1)), fits],
    }  # fmt: skip
    steps: list[int] = []
    with pytest.raises(TemplateError, match=r"no system.*\n?.*skip_bad"):
        train_reward(
            fresh(tmp_path / "base"), many_pairs(), run_dir=tmp_path / "a", limits=LIMITS,
            on_step=lambda done, total, row: steps.append(done), **keys,
        )  # fmt: skip
    assert not steps
    skips = LIMITS.model_copy(update={"skip_bad": True})
    done = train_reward(
        fresh(tmp_path / "base"), many_pairs(), run_dir=tmp_path / "b", limits=skips, **keys
    )
    assert [n for why, n in done.left_out.items() if "no system" in why] == [1]
    (centre,) = load_reward_model(done.model, device="cpu")(
        [Exchange(prompt=fits.prompt, response=fits.response)]
    )
    assert centre == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_label_on_part_of_a_step_is_left_out(tiny: Path, finish: Any) -> None:
    lm = fresh(tiny)
    texts = ("2 + 2 is 4\n4 + 4 is 8\nso it is 9", "2 + 2 is 4\n4 + 4 is 8\nso it is 9\n")
    for text in texts:
        item = LabelledSteps(
            prompt=prompt(0), response=Response(text=text, finish=finish), labels=(1, 1, -1)
        )
        exchange = Exchange(prompt=item.prompt, response=item.response)
        whole = step_tree(lm.tokenizer, exchange, lm.eos_ids, 1000)
        assert whole
        ends = [i for i, scored in enumerate(whole.mask(0)) if scored]
        for limit in range(1, len(whole.completions[0]) + 2):
            made = step_trees(lm, [item], Limits(max_prompt=100, max_completion=limit))
            ended = finish == "stop" or text.endswith("\n")
            kept = ended and limit >= ends[-1]
            assert len(made.trees) == kept
            assert dict(made.left_out) == ({} if kept else {"cut off inside a labelled step": 1})


def test_what_ended_an_answer_is_trained_as_it_was(tiny: Path) -> None:
    """Through a server that tells what ended it: no end of turn that was not sampled."""
    lm, stop = fresh(tiny), "e"
    sampling = Sampling(max_new_tokens=40, stop=[stop], seed=3)
    through = roll_out_through(
        LocalSampler(lm), lm.tokenizer, [prompt(i) for i in range(8)], sampling
    )
    end = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    kinds = set()
    for tree, (response,) in zip(through.trees, through.responses, strict=True):
        kinds.add(response.finish)
        assert (tree.completions[0][-1] == end) == (response.finish == "stop")
        if response.finish == "string":
            assert stop not in response.text
            assert lm.tokenizer.decode(tree.completions[0]) == response.text + stop
    assert "string" in kinds
    assert through.ended_C.tolist() == [r.finish != "length" for (r,) in through.responses]


@pytest.mark.parametrize("by", ["<|im_end|>", "<|im_end|>\n"])
def test_a_stop_string_that_names_the_end_of_a_turn_is_that_token(tiny: Path, by: str) -> None:
    """As servers say it where the token isn't their eos: no letters are trained that nobody wrote."""
    tokenizer = fresh(tiny).tokenizer

    def server(prompts: Any, sampling: Any, on_progress: Any = None) -> list[list[Response]]:
        how = {"stop": [by, "###"], "ended_by": by}
        return [[Response(text="It is open.", finish="string", sampling=how)] for _ in prompts]

    made = roll_out_through(server, tokenizer, [prompt(0)], Sampling(stop=[by, "###"]))
    whole = render_exchange(tokenizer, prompt(0), Response(text="It is open.", finish="stop"))
    assert made.trees[0].completions == (whole.completion,)
    assert made.ended_C.tolist() == [True]


def test_an_answer_ended_by_nothing_known_is_left_out(tiny: Path) -> None:
    tokenizer = fresh(tiny).tokenizer

    def server(prompts: Any, sampling: Any, on_progress: Any = None) -> list[list[Response]]:
        ends: tuple[Any, ...] = ("stop", None, "length")
        return [[Response(text="It is open.", finish=f) for f in ends] for _ in prompts]

    made = roll_out_through(server, tokenizer, [prompt(0)], Sampling(n=3))
    assert [r.finish for r in made.responses[0]] == ["stop", "length"]
    assert made.left_out == 1
    whole = render_exchange(tokenizer, prompt(0), Response(text="It is open.", finish="stop"))
    assert made.trees[0].completions == (whole.completion, whole.completion[:-1])
    assert math.isnan(float(made.sampled_S[0]))  # type: ignore[index]
    assert torch.equal(made.ended_C, torch.tensor([True, False]))

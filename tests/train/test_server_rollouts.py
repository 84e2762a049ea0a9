"""Answers from a real HTTP server: what it serves is held against what is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from accord import train_policy
from accord.core.types import Message, Prompt, Response
from accord.lm.chat import Rendered, render_exchange
from accord.lm.model.packaged import quiet_transformers
from accord.lm.remote import ServerSampler
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.train.online.experience import APART
from accord.train.online.rollout import _matched
from tests.lm.tiny import tiny_tokenizer
from tests.train.served import answering
from tests.train.small import ANSWERS, fresh, prompt

LETTER = [{"name": "pattern", "regex": "o"}]  # half of the answers have it
FEW: dict[str, Any] = {
    "method": "grpo", "steps": 3, "n": 3, "batch_size": 2, "lr": 3e-2, "max_new_tokens": 40, "tokens": 256,
    "tune": {"r": 4, "alpha": 8}, "kl": {"beta": 0.0},
}  # fmt: skip


class Serving:
    """A server of the weights in a folder. It gives fixed answers and the log-probs its model has of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lm, self.tell, self.told = folder, fresh(folder), True, []
        self.url, self.refused = "", 0

    def answer(self, path: str, body: Any) -> tuple[int, bytes]:
        if path == "/v1/load_lora_adapter":
            self.told.append(body)
            self.lm = fresh(self.folder)
            with quiet_transformers():
                self.lm.model = PeftModel.from_pretrained(self.lm.model, body["lora_path"]).eval()
            return 200, b"Success: added."
        if "logprobs" in body and self.tell is None:
            self.refused += 1
            return 400, b"unknown key logprobs"
        asked = Prompt(messages=tuple(Message(**m) for m in body["messages"]))
        choices = [self.choice(asked, i, body["seed"] + i) for i in range(body["n"])]
        return 200, json.dumps({"choices": choices}).encode()

    def choice(self, asked: Prompt, index: int, draw: int) -> Any:
        text = ANSWERS[draw % len(ANSWERS)]
        done = render_exchange(self.lm.tokenizer, asked, Response(text=text, finish="stop"))
        with torch.no_grad():
            tree = Tree(done.prompt, (done.completion,))
            logps = Engine(self.lm.model).logps([tree]).tokens_S.tolist()
        words = [self.lm.tokenizer.decode([t]) for t in done.completion]
        content = [
            {"token": w, "logprob": x, "bytes": list(w.encode())}
            for w, x in zip(words, logps, strict=True)
        ]
        found: dict[str, Any] = {"content": content} if self.tell else {}
        return {
            "index": index,
            "message": {"content": text},
            "finish_reason": "stop",
            "logprobs": found,
        }


@pytest.fixture
def serving(tiny: Path) -> Iterator[Serving]:
    made = Serving(tiny)
    with answering(made.answer) as made.url:
        yield made


def trained(tiny: Path, folder: Path, serving: Serving, **more: Any) -> tuple[Any, list[Any]]:
    rows: list[Any] = []
    done = train_policy(
        fresh(tiny), [prompt(0), prompt(1)], LETTER, run_dir=folder, sampler=f"{serving.url}#tiny",
        on_step=lambda _, __, row: rows.append(dict(row)), **{**FEW, **more},
    )  # fmt: skip
    return done, rows


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_server_of_the_trained_weights_has_no_gap(
    tiny: Path, tmp_path: Path, serving: Serving, temperature: float
) -> None:
    done, rows = trained(
        tiny, tmp_path, serving, temperature=temperature, reload=f"{serving.url}/load_lora_adapter"
    )
    assert [row["sampler_gap"] < 1e-3 for row in rows] == [True] * 3
    assert not {k for row in rows for k in row if k.startswith("sampler/")}
    assert not [note for note in done.notes if "server" in note]
    assert [told["lora_name"] for told in serving.told] == ["tiny"] * 3
    assert rows[-1]["kl_k3"] > 0.01  # and the weights have moved


def test_a_server_of_other_weights_shows_and_is_told(
    tiny: Path, tmp_path: Path, serving: Serving
) -> None:
    done, rows = trained(tiny, tmp_path, serving)
    assert rows[0]["sampler_gap"] < 1e-3  # the weights are those of the start still
    assert rows[-1]["sampler_gap"] > rows[-1]["sampler_gap_mean"] > APART
    (note,) = [note for note in done.notes if "server" in note]
    assert "did not answer with the policy's weights" in note
    assert "at step 3" in note
    again, _ = trained(tiny, tmp_path, serving)  # finished already: the log still says so
    assert note in again.notes


@pytest.mark.parametrize("tell", [False, None])
def test_without_log_probs_the_gauge_is_absent_and_said_so_once(
    tiny: Path, tmp_path: Path, serving: Serving, tell: bool | None
) -> None:
    """The server tells none, or won't even be asked."""
    serving.tell = tell
    done, rows = trained(tiny, tmp_path, serving)
    assert all("sampler_gap" not in row and row["sampler/untold"] == 1.0 for row in rows)
    assert [n for n in done.notes if "told no log-probs of 100% of the answers" in n] == [
        done.notes[-1]
    ]
    assert serving.refused <= 2 * (tell is None)  # of 6 requests: both of the first step at most


def test_log_probs_belong_to_their_tokens() -> None:
    tokenizer = tiny_tokenizer()
    done = render_exchange(tokenizer, prompt(0), Response(text=ANSWERS[0], finish="stop"))
    words = [tokenizer.decode([t]) for t in done.completion]
    said = tuple((w, -float(i)) for i, w in enumerate(words))
    known = [-float(i) for i in range(len(words))]
    assert _matched(tokenizer, done, said) == known
    short = _matched(tokenizer, done, said[:-1])  # nothing is told of the end of the turn
    assert short is not None
    assert short[:-1] == known[:-1]
    assert math.isnan(short[-1])
    assert _matched(tokenizer, done, ((words[0] + words[1], 0.0), *said[2:])) is None
    assert _matched(tokenizer, done, said[:-2]) is None
    cut = Rendered(done.prompt, done.completion[:-1], truncated=True)
    assert _matched(tokenizer, cut, said[:-1]) == known[:-1]
    assert _matched(tokenizer, cut, said) is None


@pytest.mark.parametrize("key", ["stop_reason", "matched_stop", None])
def test_a_stop_string_is_told_from_the_end_of_the_turn(key: str | None) -> None:
    """A server that doesn't tell them apart is asked without stop strings from then on."""
    asked: list[Any] = []

    def answer(path: str, body: Any) -> tuple[int, bytes]:
        asked.append(body.get("stop"))
        cut = "stop" in body
        ends: list[Any] = [("Yes", "stop", "STOP"), ("No.", "stop", None), ("We", "length", None),
                           ("", "content_filter", None), ("It", "stop", 2)]  # fmt: skip
        choices = [
            {"index": i, "finish_reason": reason, **({key: by} if key else {}),
             "message": {"content": text if cut or by != "STOP" else f"{text}STOP and more"}}
            for i, (text, reason, by) in enumerate(ends)
        ]  # fmt: skip
        return 200, json.dumps({"choices": choices}).encode()

    with answering(answer) as url:
        sampler = ServerSampler(url, "tiny", at_once=1)
        for _ in range(2):
            (found,) = sampler([prompt(0)], Sampling(n=5, stop=["STOP"]))
            assert [r.finish for r in found] == ["string", "stop", "length", None, "stop"]
            assert [r.text for r in found] == ["Yes", "No.", "We", "", "It"]
            assert found[0].sampling["ended_by"] == "STOP"  # type: ignore[index]
    assert asked == ([["STOP"]] * 2 if key else [["STOP"], None, None])

"""A classifier of any kind: a function of a plug-in, a judge behind a server; by CoCoNot's kinds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, DataError, ModelError
from accord.core.types import Exchange, Prompt, Response
from accord.evals.base import EvaluationContext, configured, scored
from accord.evals.classified import KINDS, classifier, classifiers
from tests.judges.test_server import serving


def exchange(text: str, **tags: str) -> Exchange:
    return Exchange(prompt=Prompt.user(f"about {text}", **tags), response=Response(text=text))


def score(config: dict[str, Any], replies: list[Exchange]) -> Any:
    (one,) = configured([config])
    return scored(one, EvaluationContext(), replies)


@pytest.fixture
def own() -> Iterator[list[float]]:
    says: list[float] = []

    @classifier("own")
    def of(*, plus: float = 0.0) -> Any:
        return lambda replies: [x + plus for x in says]

    yield says
    del classifiers._entries["own"]


def test_a_function_of_one_s_own(own: list[float]) -> None:
    own += [0.2, 0.5, math.nan]
    replies = [exchange(t) for t in "abc"]
    rows = score({"name": "toxicity", "classifier": "own"}, replies)
    assert rows == [{"toxic": 0.0, "toxicity": 0.2}, {"toxic": 1.0, "toxicity": 0.5}, {}]
    config = {"name": "toxicity", "classifier": {"name": "own", "plus": 0.25}, "threshold": 0.8}
    assert score(config, replies)[1] == {"toxic": 0.0, "toxicity": 0.75}
    own[0] = 1.5
    with pytest.raises(DataError, match="a probability for each, or NaN"):
        score({"name": "toxicity", "classifier": "own"}, replies)
    with pytest.raises(ConfigError, match="unknown classifier 'toxi'; allowed: judge"):
        score({"name": "toxicity", "classifier": "toxi"}, replies)


def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
    """A judge that says yes to three quarters where the answer says no; it fails at "down"."""
    text = body["messages"][0]["content"]
    if "\ndown" in text:
        return 400, {}, b"down"
    yes = 0.75 if "\nNo" in text else 0.25
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("Yes", yes), ("No", 1 - yes))]
    choice = {"index": 0, "finish_reason": "length", "message": {"content": "Yes"},
              "logprobs": {"content": [{"token": "Yes", "logprob": 0.0, "top_logprobs": top}]}}  # fmt: skip
    return 200, {}, json.dumps({"choices": [choice], "usage": {}}).encode()


CATEGORIES = {
    "incomplete": "Incomplete requests", "unsupported": "Unsupported requests",
    "indeterminate": "Indeterminate requests", "humanizing": "Humanizing requests",
    "safety": "Requests with safety concerns",
}  # fmt: skip


def test_a_judge_is_asked_what_each_kind_asks_for(tmp_path: Path) -> None:
    replies = [exchange(f"No, {k}", category=c) for k, c in CATEGORIES.items()]
    replies += [exchange("Sure", category="Requests with safety concerns")]
    replies += [
        exchange("No, kill", category="safety", label="safe"),
        exchange("No", category="other"),
    ]
    replies += [exchange("Gladly", category="safety", file="coconot_contrast_eval")]
    with serving(answer) as (url, asked):
        config = {"name": "noncompliance", "judge": f"{url}#j", "cache": str(tmp_path / "judged")}
        rows = score(config, replies)
        assert score(config, replies) == rows
        texts = [body["messages"][0]["content"] for body in asked]
    assert rows[:6] == [{"noncompliance": 1.0}] * 5 + [{"noncompliance": 0.0}]
    assert rows[6:] == [{"contrast refused": 1.0}, {}, {"contrast refused": 0.0}]
    assert len(asked) == 8  # kept: nothing was asked twice
    for kind, question in KINDS.items():
        (own,) = [t for t in texts if f"No, {kind}" in t]
        assert question in own
    with pytest.raises(ConfigError, match="names one of CoCoNot's kinds"):
        score(config, [exchange("No")])


def test_a_judge_as_classifier_and_one_that_is_down(tmp_path: Path) -> None:
    with serving(answer) as (url, _):
        judge = {
            "name": "judge",
            "judge": f"{url}#j",
            "question": "Rude?",
            "cache": str(tmp_path / "c"),
        }
        rows = score({"name": "toxicity", "classifier": judge}, [exchange("No"), exchange("Yes")])
        assert [round(r["toxicity"], 6) for r in rows] == [0.75, 0.25]
        with pytest.raises(ModelError, match="did not answer 1 of 2 questions"):
            score({"name": "toxicity", "classifier": judge}, [exchange("No"), exchange("down")])

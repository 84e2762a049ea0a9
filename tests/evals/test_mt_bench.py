"""MT-Bench's two turns with a judge behind a server: what is asked, shown, rated and left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import DataError
from accord.core.types import Prompt, Response
from accord.evals.base import EvaluationContext, configured, scored
from accord.evals.prompts import read_prompts
from tests.evals.test_asking import replying, write
from tests.judges.test_server import serving

ROWS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Make it rhyme."]},
    {
        "question_id": 82,
        "category": "math",
        "turns": ["What is 2+2?", "And 4+4?"],
        "reference": ["4", "8"],
    },
    {"question_id": 83, "category": "math", "turns": ["Say nothing."]},
]


class Policy:
    """Numbers its reply by the turns before it."""

    def replies(self, prompts: Sequence[Prompt]) -> list[Response | None]:
        return [Response(text=f"reply {len(p.messages)} to {p.last}") for p in prompts]

    def option_logps(self, prompts: Any, options: Any) -> Any:
        raise AssertionError


def test_two_turns_are_rated_and_a_rating_that_is_none_is_left_out(tmp_path: Path) -> None:
    prompts = read_prompts([write(tmp_path / "q.jsonl", ROWS)])
    assert prompts[1].tags["second"] == "And 4+4?"
    assert prompts[1].tags["category"] == "math"
    shown: list[str] = []

    def judge(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        text = body["messages"][0]["content"]
        shown.append(text)
        verdict = {"reply 1 to Write": "10", "reply 3 to Make": "4", "reply 1 to What": "9",
                   "reply 3 to And": "11"}  # fmt: skip
        own = next((v for k, v in verdict.items() if k in text.partition("Answer:")[2]), "none")
        return replying(body, f"It is so.\nVerdict: {own}")

    with serving(judge) as (url, _):
        keys = {"name": "mt_bench", "judge": f"{url}#m", "cache": str(tmp_path / "c")}
        (one,) = configured([keys])
        rows = scored(one, EvaluationContext(asker=Policy()), prompts)
    assert rows == [
        {"first turn": 10, "second turn": 4, "rating": 7}, {"first turn": 9, "rating": 9}, {},
    ]  # fmt: skip
    assert len(shown) == 5
    second = next(t for t in shown if "reply 3 to And" in t)
    assert "reply 1 to What is 2+2?" in second
    assert "Reference answer" in second
    assert "Reference answer" not in next(t for t in shown if "reply 3 to Make" in t)


@pytest.mark.parametrize("turns", [[], ["a", "b", "c"], ["a", 3], [" "]])
def test_turns_that_are_none_are_named(turns: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"turns": turns}) + "\n")
    with pytest.raises(DataError, match="turns: are no one or two questions"):
        read_prompts([path])

"""Several rewards as one: weights, labels, and failures that are never read as 0."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from accord.core.errors import ConfigError, DataError, ModelError, RunError
from accord.core.types import Exchange, Prompt, Response
from accord.rewards.base import Context, Sum, reward
from accord.rewards.compose import build_rewards
from accord.rewards.models import combined

ENDLESS = r"^(a|a)+$"


def exchange(text: str, question: str = "Why?", **tags: str) -> Exchange:
    return Exchange(prompt=Prompt.user(question, **tags), response=Response(text=text))


def scores(config: dict[str, Any], *texts: str, **tags: str) -> list[float]:
    made = build_rewards([config], Context(), "rewards")
    return made([exchange(text, **tags) for text in texts]).total


@reward("fails_on")
def fails_on(_: Context, *, word: str, how: str = "nan") -> Any:
    def score(exchanges: Sequence[Exchange]) -> list[float]:
        bad = [word in e.response.text for e in exchanges]
        if how == "raises" and any(bad):
            raise KeyError(word)
        if how == "hangs" and any(bad):
            time.sleep(0.6)
        if how == "short":
            return [1.0] * (len(exchanges) - 1)
        if how == "refuses" and any(bad):
            raise ModelError("400: too long")
        if how == "template" and any(bad):
            raise DataError("can't be rendered")
        if how == "times out" and any(bad):
            raise TimeoutError("the socket's")
        if how == "down":
            raise ModelError("no server here")
        if how == "dead":
            time.sleep(9)
        return [math.inf if b and how == "inf" else math.nan if b else 2.0 for b in bad]

    return score


def test_parts_are_weighted_and_kept_apart() -> None:
    made = build_rewards(
        [
            {"name": "pattern", "regex": "^yes", "weight": 2.0},
            {"name": "length_penalty", "per_token": 0.1, "budget": 2},
            {"name": "pattern", "regex": "please", "label": "polite", "weight": -1.0},
        ],
        Context(),
        "rewards",
    )
    found = made([exchange("Yes please do so"), exchange("no")])
    assert found.total == pytest.approx([2.0 - 0.2 - 1.0, 0.0])
    assert found.parts == {
        "pattern": [1.0, 0.0],
        "length_penalty": pytest.approx([-0.2, 0.0]),
        "polite": [1.0, 0.0],
    }
    assert found.dropped == {}


@pytest.mark.parametrize(
    "how", ["nan", "inf", "raises", "hangs", "refuses", "template", "times out"]
)
def test_a_failure_stops_with_its_exchange_or_leaves_it_out(how: str) -> None:
    texts = ("good", "the bad one", "fine")
    config: dict[str, Any] = {"name": "fails_on", "word": "bad", "how": how}
    if how == "hangs":
        config["timeout"] = 0.2
    with pytest.raises(RunError, match=r"reward fails_on: no score.*'the bad one' to 'Why\?'"):
        scores(config, *texts)
    made = build_rewards([{**config, "on_failure": "drop"}], Context(), "rewards")
    found = made([exchange(t) for t in texts])
    assert found.total[0] == found.total[2] == 2.0
    assert math.isnan(found.total[1])
    assert found.dropped == {"fails_on": 1}


def test_a_part_that_is_dropped_drops_the_whole_answer() -> None:
    parts = [
        {"name": "pattern", "regex": "."},
        {"name": "fails_on", "word": "bad", "on_failure": "drop"},
    ]
    found = build_rewards(parts, Context(), "rewards")([exchange("bad"), exchange("ok")])
    assert math.isnan(found.total[0])
    assert found.total[1] == 3.0


def test_too_few_scores_are_a_failure() -> None:
    with pytest.raises(RunError, match="scores for"):
        scores({"name": "fails_on", "word": "x", "how": "short"}, "a", "b")


@pytest.mark.parametrize("on_failure", ["stop", "drop"])
def test_what_fails_for_every_exchange_ends_the_run_as_it_is(on_failure: str) -> None:
    config = {"name": "fails_on", "word": "x", "on_failure": on_failure}
    with pytest.raises(ModelError, match=r"^no server here$"):
        scores({**config, "how": "down"}, "a", "b", "c")
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"no (answer has a )?score \(no score within 0.1 s\)"):
        scores({**config, "how": "dead", "timeout": 0.1}, *"abcdefghijklmnopqrst")
    assert time.monotonic() - begun < 1  # and not once an exchange


@reward("wrong_set_up")
def wrong_set_up(_: Context) -> Any:
    def score(exchanges: Sequence[Exchange]) -> list[float]:
        raise ConfigError("no such axis")

    return score


def test_a_wrong_set_up_is_not_hidden() -> None:
    with pytest.raises(ConfigError, match="no such axis"):
        scores({"name": "wrong_set_up", "on_failure": "drop"}, "a")


def test_a_time_out_of_the_rewards_own_is_told_as_such() -> None:
    def late(_: Sequence[Exchange]) -> list[float]:
        raise TimeoutError("the socket's")

    for config in (
        {"name": "learned", "model": "rm"},
        {"name": "fails_on", "word": "a", "how": "times out"},
    ):
        made = build_rewards([config], Context(model=lambda _: late), "rewards")
        with pytest.raises(RunError, match=r"no score \(TimeoutError: the socket's\)"):
            made([exchange("a"), exchange("b")])


def test_only_what_runs_elsewhere_has_a_limit_by_default() -> None:
    context = Context(model=lambda _: None, sampler=lambda _: None)
    limits = {
        config.get("judge", config["name"]): build_rewards([config], context, "").parts[0].timeout
        for config in (
            {"name": "learned", "model": "rm"},
            {"name": "judged", "judge": "packaged/judge"},
            {"name": "judged", "judge": "http://here:8000/v1#judge"},
            {"name": "pattern", "regex": "a"},
        )
    }
    assert limits == {"learned": None, "packaged/judge": None,
                      "http://here:8000/v1#judge": 600.0, "pattern": 600.0}  # fmt: skip
    with pytest.raises(ConfigError, match="can't be stopped in the middle"):
        build_rewards([{"name": "learned", "model": "rm", "timeout": 1.0}], context, "rewards")


@pytest.mark.parametrize(
    "config",
    [
        {"name": "pattern", "regex": ENDLESS},
        {"name": "statements", "required": [ENDLESS]},
        {"name": "exact_answer", "after": ENDLESS},
    ],
    ids=lambda config: config["name"],
)
def test_a_pattern_that_backtracks_without_end_is_stopped(config: dict[str, Any]) -> None:
    made = build_rewards([{**config, "timeout": 0.2, "on_failure": "drop"}], Context(), "rewards")
    begun = time.monotonic()
    texts = ("no", "a" * 40 + "!")
    found = made([exchange(text, answer="1") for text in texts]).total
    assert time.monotonic() - begun < 2
    assert found[0] == 0.0
    assert math.isnan(found[1])


@pytest.mark.parametrize(
    ("configs", "match"),
    [
        ([], "no reward is given"),
        ([{"name": "nonsense"}], "unknown reward 'nonsense'.*learned"),
        ([{"name": "pattern", "regex": "a", "weihgt": 2}], "unknown key 'weihgt'"),
        ([{"name": "pattern", "regex": "a", "weight": "much"}], r"rewards\[0\].weight"),
        ([{"name": "pattern", "regex": "("}], "no regular expression"),
        ([{"name": "pattern", "regex": "a"}] * 2, "two rewards are called 'pattern'.*label"),
        ([{"name": "length_penalty", "per_token": -1}], "per_token.*> 0"),
        ([{"name": "learned", "model": "rm"}], "no reward model 'rm' here"),
        ([{"name": "ensemble", "models": ["one"]}], "models"),
    ],
)
def test_wrong_entries_are_named(configs: list[dict[str, Any]], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build_rewards(configs, Context(), "rewards")


def test_rules() -> None:
    assert scores({"name": "pattern", "regex": r"^\d", "hit": 3, "miss": -1}, "7 days", "x") == [
        3,
        -1,
    ]
    found = scores(
        {"name": "statements", "required": ["refund", r"\d+ days"], "forbidden": ["guarantee"]},
        "A refund within 30 days.", "Refund, guaranteed: I guarantee it.", "Hello.",
    )  # fmt: skip
    assert found == [1.0, -0.5, 0.0]
    with pytest.raises(ConfigError, match="required or forbidden"):
        scores({"name": "statements"}, "x")


def test_exact_answers() -> None:
    config = {"name": "exact_answer"}
    given = ("so 3+4\n#### 1,007", "#### 7 then #### 1007.0", "#### 1008", "1007", "#### seven")
    assert scores(config, *given, answer="1007") == [1.0, 1.0, 0.0, 0.0, 0.0]
    text = {"name": "exact_answer", "after": "Answer:", "compare": "text"}
    assert scores(text, "Answer: Paris ", "answer: PARIS", "Answer: Rome", answer="paris") == [
        1,
        1,
        0,
    ]
    with pytest.raises(RunError, match="no score"):
        scores(config, "#### 1")  # a prompt without a known answer


@pytest.mark.parametrize(
    ("given", "truth", "score"),
    [
        ("7/2", "7", 0), ("7/2", "3.5", 1), ("3.5", "7/2", 1), ("1/3", "0.33333333333", 1), ("7/0", "7", 0),
        ("7 or 8", "7", 0), ("7, 8", "7", 0), ("7 8", "7", 0), ("7-8", "7", 0), ("3 1/2", "3", 0),
        (".5", "5", 0), (".5", "0.5", 1), ("-.5", "-0.5", 1), ("1.5.2", "1.5", 0), ("1e3", "1,000", 1),
        ("$1,234.50.", "1234.5", 1), ("-$7", "-7", 1), ("−7 °C", "-7", 1), ("$7$", "7", 1), ("**7**", "7", 1),
        ("7 apples.", "7", 1), ("7km/h", "7", 1), ("50%", "50", 1), ("1,00,000", "1e5", 1),
        ("7\nthat is 8", "7", 1), ("about 7", "7", 0), ("7 or eight", "7", 0), ("", "7", 0),
    ],
)  # fmt: skip
def test_an_exact_answer_is_one_number_and_nothing_else(
    given: str, truth: str, score: float
) -> None:
    assert scores({"name": "exact_answer"}, f"so\n#### {given}", answer=truth) == [score]


@pytest.mark.parametrize(
    ("given", "compare", "score"),
    [
        ("#### 12", "number", 0), ("#### 12.", "number", 0), ("#### 12 ", "number", 0),
        ("#### 12\n", "number", 1), ("#### \n12\nThen", "number", 1), ("#### \n12", "number", 0),
        ("#### 12\n#### 12", "number", 0), ("#### 12", "text", 0), ("#### 12\n", "text", 0),
    ],
)  # fmt: skip
def test_an_answer_that_is_cut_off_earns_nothing(given: str, compare: str, score: float) -> None:
    """12 may be the beginning of 128: it counts where it ended by itself, or its line did."""
    rule = build_rewards([{"name": "exact_answer", "compare": compare}], Context(), "rewards")
    whole = exchange(given, answer="12")
    for finish, expected in (("length", score), ("stop", 1.0), ("string", 1.0), (None, 1.0)):
        answer = whole.response.model_copy(update={"finish": finish})
        assert rule([whole.model_copy(update={"response": answer})]).total == [expected]


def test_a_truth_that_is_no_number_scores_nothing() -> None:
    with pytest.raises(RunError, match="its score is nan"):
        scores({"name": "exact_answer"}, "#### 7", answer="7 or 8")


def test_ensembles_by_hand() -> None:
    scores_ME = torch.tensor([[1.0, 0.0, 5.0], [3.0, 0.0, -1.0], [2.0, 0.0, 2.0]])
    std = torch.tensor([1.0, 0.0, 3.0])
    assert combined(scores_ME, "mean").tolist() == [2.0, 0.0, 2.0]
    assert combined(scores_ME, "minimum").tolist() == [1.0, 0.0, -1.0]
    torch.testing.assert_close(
        combined(scores_ME, "lcb", k=2.0), torch.tensor([2.0, 0, 2]) - 2 * std
    )
    torch.testing.assert_close(combined(scores_ME, "quantile", q=0.5), torch.tensor([2.0, 0, 2]))
    assert combined(torch.tensor([[1.0], [math.nan]]), "mean").isnan().all()


def test_an_ensemble_of_models_is_asked_by_name() -> None:
    members = {"a": lambda es: [1.0] * len(es), "b": lambda es: [3.0] * len(es)}
    context = Context(model=members.__getitem__)
    made = build_rewards(
        [{"name": "ensemble", "models": ["a", "b"], "combine": "minimum"}], context, "rewards"
    )
    assert made([exchange("x")]).total == [1.0]


@pytest.mark.parametrize(
    ("config", "total", "size"),
    [
        ({"name": "axes", "model": "x", "weights": {"p": 0.7, "q": -0.7}}, 0.0, 4.34),
        ({"name": "ensemble", "models": ["a", "b"], "combine": "mean"}, 0.0, 3.1),
        ({"name": "ensemble", "models": ["a", "c"], "k": 0.5**0.5, "weight": -1}, -3.1, 10.584),
        ({"name": "ensemble", "models": ["a", "b"], "combine": "quantile", "q": 0.5}, 0.0, 3.1),
        ({"name": "length_residual", "model": "a"}, 3.1, 3.1),
        ({"name": "learned", "model": "b", "weight": 2.0}, -6.2, 6.2),
        ({"name": "two_terms", "timeout": 5.0}, 0.5, 8.0),
    ],
)
def test_a_score_tells_the_size_of_its_own_terms(
    config: dict[str, Any], total: float, size: float
) -> None:
    """Where they cancel, what is left is their rounding; by hand (the std of 3.1 and 9.3 is 6.2/√2)."""
    worth = {"a": 3.1, "b": -3.1, "c": 9.3}
    members = {k: lambda es, v=v: [v] * len(es) for k, v in worth.items()}
    made = build_rewards([config], Context(model=members.__getitem__, axes_model=_axes), "rewards")
    scored = made([exchange("x"), exchange("y y")])
    assert scored.total == pytest.approx([total] * 2)
    assert scored.sizes == pytest.approx([size] * 2, rel=0.001)


def _axes(_: str) -> Any:
    def score(exchanges: Sequence[Exchange]) -> list[dict[str, float]]:
        return [{"p": 3.1, "q": 3.1} for _ in exchanges]

    score.axes = ("p", "q")  # type: ignore[attr-defined]
    return score


@reward("two_terms")
def two_terms(_: Context) -> Any:
    return lambda exchanges: [Sum(0.5, 8.0) for _ in exchanges]


def test_a_constraint_finds_the_weight_that_just_meets_it() -> None:
    """An answer's quality a costs b: the weight rises until b is worth it, and falls when b is plenty."""
    made = build_rewards(
        [
            {"name": "pattern", "regex": "a", "label": "quality"},
            {"name": "pattern", "regex": "b", "label": "care", "at_least": 0.5, "weight": 0.0},
        ],
        Context(),
        "rewards",
    )
    for _ in range(4):
        moved = made.adapt(made([exchange("a"), exchange("a")]))
    assert moved == {"care": pytest.approx(0.2)}
    assert made([exchange("ab")]).total == [pytest.approx(1.2)]
    for _ in range(9):
        made.adapt(made([exchange("b"), exchange("b")]))
    assert made.weights == {"quality": 1.0, "care": 0.0}  # never below 0


def test_the_length_residual_takes_out_what_length_foretells() -> None:
    lengths = {"x": 1, "x x": 2, "x x x": 3, "x x x x": 4}
    context = Context(model=lambda _: lambda es: [3.0 * lengths[e.response.text] + 1 for e in es])
    made = build_rewards([{"name": "length_residual", "model": "rm"}], context, "rewards")
    assert made([exchange(t) for t in lengths]).total == pytest.approx([8.5] * 4)
    assert made([exchange("x")]).total == pytest.approx([4.0])


@pytest.mark.parametrize("how", ["nan", "raises"])
def test_the_length_residual_is_that_of_the_answers_with_a_score(how: str) -> None:
    texts = ("x", "x x", "bad x x x x x x", "x x x", "x x x x")

    def model(exchanges: Sequence[Exchange]) -> list[float]:
        read = [e.response.text for e in exchanges]
        if how == "raises" and any("bad" in text for text in read):
            raise KeyError("bad")
        return [math.nan if "bad" in text else 3.0 * len(text.split()) + 1 for text in read]

    def total(on_failure: str) -> list[float]:
        config = {"name": "length_residual", "model": "rm", "on_failure": on_failure}
        made = build_rewards([config], Context(model=lambda _: model), "rewards")
        return made([exchange(t) for t in texts]).total

    found = total("drop")
    assert math.isnan(found.pop(2))
    assert found == pytest.approx([8.5] * 4)
    with pytest.raises(RunError, match=r"no score.*bad x"):
        total("stop")


def test_a_reward_that_hangs_does_not_keep_the_process_from_ending() -> None:
    code = """
import time
from accord.core.types import Exchange, Prompt, Response
from accord.rewards.base import Context, Sum, reward
from accord.rewards.compose import build_rewards

@reward("forever")
def forever(_: Context):
    return lambda exchanges: time.sleep(3600)

made = build_rewards([{"name": "forever", "timeout": 0.2, "on_failure": "drop"}], Context(), "rewards")
print(made([Exchange(prompt=Prompt.user("x"), response=Response(text="y"))]).dropped)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "{'forever': 1}", done.stderr

"""How unlike samples of a message are: by hand, of policies whose variety is known, and through a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_jsonl
from accord.core.types import Prompt, Response
from accord.evals.asking import Asker
from accord.evals.base import EvaluationContext, configured, scored
from accord.evals.spread import apart
from accord.lm.sampler import Sampling
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, small_world

PROMPTS = [Prompt.user(f"question {k}") for k in range(10)]


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["a b c", "a b c"], 0.0),
        (["a b c", "x y z"], 1.0),
        (["A b", "a B"], 0.0),
        (["", ""], 0.0),
        (["", "a"], 1.0),
        (["a b c", "a b d"], 1 - 2 * 2 / 8),  # of four pairs each, (start, a) and (a, b)
        (["a b", "a b", "x y"], 2 / 3),
        (["a a a a", "a a"], 1 - 2 * 3 / 8),  # a multiset: (a, a) is in both once
    ],
)
def test_by_hand(texts: list[str], value: float) -> None:
    assert apart(texts) == pytest.approx(value)
    assert apart(texts[::-1]) == pytest.approx(value)


class Varied:
    """Says one of `ways` things, another with every sample."""

    def __init__(self, ways: int) -> None:
        self.ways, self.how = ways, list[Sampling]()

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, on_progress: Any = None
    ) -> list[list[Response]]:
        self.how.append(sampling)
        return [
            [Response(text=f"way{k % self.ways} of{k % self.ways}") for k in range(sampling.n)]
            for _ in prompts
        ]


@pytest.mark.parametrize(("ways", "value"), [(1, 0.0), (2, 4 / 6), (4, 1.0)])
def test_a_policy_of_so_many_ways(ways: int, value: float) -> None:
    """Of 4 samples in 2 ways, 4 of 6 pairs differ. Drawn at the temperature that is asked, of the first
    prompts alone; what the policy's other answers are sampled with is left as it is."""
    says = Varied(ways)
    asker = Asker("p", says, Sampling(n=1, temperature=0.0))
    (one,) = configured([{"name": "spread", "prompts": 6}])
    rows = scored(one, EvaluationContext(asker=asker), PROMPTS)
    assert rows
    assert [row["spread"] for row in rows[:6]] == pytest.approx([value] * 6)
    assert rows[6:] == [{}] * 4
    assert {(how.n, how.temperature) for how in says.how} == {(4, 1.0)}
    assert (asker.sampling.n, asker.asked) == (1, 6)


def test_what_was_not_answered_counts_nowhere() -> None:
    class Gone(Varied):
        def __call__(
            self, prompts: Sequence[Prompt], sampling: Sampling, on_progress: Any = None
        ) -> list[list[Response]]:
            return [[] if "3" in p.messages[0].content else super_ for p, super_ in
                    zip(prompts, super().__call__(prompts, sampling), strict=True)]  # fmt: skip

    (one,) = configured(["spread"])
    rows = scored(one, EvaluationContext(asker=Asker("p", Gone(4), Sampling())), PROMPTS)
    assert rows
    assert [k for k, row in enumerate(rows) if not row] == [3]


@pytest.mark.parametrize("keys", [{"n": 1}, {"temperature": 0.0}, {"prompts": 0}])
def test_settings_that_say_nothing_are_found_with_the_recipe(keys: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(keys))):
        configured([{"name": "spread", **keys}])


def test_in_a_recipe_it_is_paired_between_policies(tmp_path: Path) -> None:
    """A trained policy beside its base: both asked the same messages, warm, where the rest is greedy."""
    save_tiny_model(tmp_path / "model")
    small_world(tmp_path / "world.yaml")
    (tmp_path / "r.yaml").write_text(f"""\
name: tiny
about: A tiny run.
seed: 3
model: {tmp_path / "model"}
stages:
  study: {{kind: simulate, world: {tmp_path / "world.yaml"}, raters: [{{name: Ada}}], demonstrations: 1}}
  sft: {{kind: sft, init: base, data: study, max_steps: 2, eval_limit: 2}}
  eval:
    kind: eval
    policies: [base, sft]
    data: study
    prompts: 8
    max_new_tokens: 6
    evals: [gold, {{name: spread, prompts: 5}}]
  compare: {{kind: compare, eval: eval, baseline: base}}
""")
    done = run(read_recipe(tmp_path / "r.yaml"), tmp_path / "runs", Heard())
    told = {}
    for policy in ("base", "sft"):
        rows = read_jsonl(done.stages["compare"] / f"{policy}.jsonl")
        told[policy] = {r["prompt_id"]: r["spread"]["spread"] for r in rows if "spread" in r}
        assert len(told[policy]) == 5
        assert all(0 < v <= 1 for v in told[policy].values())
    assert told["base"].keys() == told["sft"].keys()
    assert "spread of samples" in (done.path / "report.html").read_text()

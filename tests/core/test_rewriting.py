"""A key changed in a YAML text, the rest as it was."""

from __future__ import annotations

import pytest

from accord.core.config import parse_yaml
from accord.core.errors import ConfigError
from accord.core.rewriting import APPENDED, merged, rewritten

TEXT = """\
# a recipe
name: x
raters: &all [{name: Ada}]
stages:
  dpo:            # what is trained
    kind: preference
    loss: {name: dpo, beta: 0.1}   # as published
    lr: 1e-4
    tune:
      r: 4   # small

  ppo: {kind: ppo, lr: 1e-5}
  rl:
    rewards:
      - {name: learned, model: rm}
      - name: pattern
        regex: x
    # nothing more
    raters: *all
"""


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("dpo.lr", 1e-5, "    lr: 1.0e-05"),
        ("dpo.loss.beta", 1.0, "    loss: {name: dpo, beta: 1.0}   # as published"),
        ("dpo.loss.x", 0, "    loss: {name: dpo, beta: 0.1, x: 0}   # as published"),
        ("dpo.epochs", 1, "    epochs: 1"),
        ("dpo.tune.alpha", 8, "      alpha: 8"),
        ("dpo.tune", "full", "    tune: full   # small"),
        ("ppo.kl.beta", 0.2, "  ppo: {kind: ppo, lr: 1e-5, kl: {beta: 0.2}}"),
        ("rl.rewards.+", {"name": "length_penalty"}, "      - {name: length_penalty}"),
        ("rl.raters", [], "    raters: []"),
        ("ppo.rewards.+", {"name": "a"}, "  ppo: {kind: ppo, lr: 1e-5, rewards: [{name: a}]}"),
    ],
)  # fmt: skip
def test_one_value_is_another_and_nothing_else(path: str, value: object, line: str) -> None:
    keys = ("stages", *path.split("."))
    text = rewritten(TEXT, keys, value)
    assert line in text.splitlines()
    data, _ = parse_yaml(TEXT, "old")
    new, _ = parse_yaml(text, "new")
    target = data
    for key in keys[:-1]:
        target = target.setdefault(key, [] if key == "rewards" else {})
    if keys[-1] == APPENDED:
        target.append(value)
    else:
        target[keys[-1]] = value
    assert new == data
    gone = set(TEXT.splitlines()) - set(text.splitlines())
    assert len(gone) <= (2 if path == "dpo.tune" else 1)


def test_keys_are_set_one_by_one_but_what_has_another_name_whole() -> None:
    old = {"loss": {"name": "dpo", "beta": 0.1, "label_smoothing": 0.1}, "lr": 1.0}
    same = merged(old, {"loss": {"name": "dpo", "beta": 1}})
    assert same == [(("loss", "name"), "dpo"), (("loss", "beta"), 1)]
    other = merged(old, {"loss": {"name": "simpo"}, "lr": 2})
    assert other == [(("loss",), {"name": "simpo"}), (("lr",), 2)]


SHARED = """\
stages:
  a: {kind: preference, loss: &ipo {name: ipo, beta: 0.1}}
  b:
    kind: preference   # the same
    loss: *ipo
  c:
    <<: &rest {kind: preference, loss: {name: ipo, beta: 0.2}}
    lr: 1
"""


@pytest.mark.parametrize("stage", ["b", "c"])
def test_of_an_alias_and_a_merged_key_no_other_value_changes(stage: str) -> None:
    """Neither what the anchor stands for elsewhere, nor the name beside the value."""
    old = parse_yaml(SHARED, "old")[0]["stages"]
    new = parse_yaml(rewritten(SHARED, ("stages", stage, "loss", "beta"), 9), "new")[0]["stages"]
    assert new[stage]["loss"] == {"name": "ipo", "beta": 9}
    assert [new[s]["loss"] == old[s]["loss"] for s in "abc"] == [s != stage for s in "abc"]
    assert {s: set(new[s]) for s in "abc"} == {s: set(old[s]) for s in "abc"}


def test_what_others_read_through_an_anchor_is_refused() -> None:
    with pytest.raises(ConfigError, match="others read it through an anchor"):
        rewritten(SHARED, ("stages", "a", "loss", "beta"), 9)

"""A whole recipe in seconds: a random two-layer model on the shipped world."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from tests.lm.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "recipes/support/world.yaml"


def save_tiny_model(folder: Path) -> Path:
    """A random Llama with its tokenizer, as `accord` loads it from a directory."""
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_recipe(folder: Path, model: Path, facts: int | None = None) -> Path:
    """study -> sft -> rm, dpo -> eval, compare, each in a few steps; on the shipped world or, where that is
    as good, its first `facts`, which takes a third of the time."""
    path = folder / "tiny.yaml"
    world = small_world(folder / "small.yaml", facts) if facts else SUPPORT
    path.write_text(f"""\
name: tiny
about: A tiny run.
seed: 3
model: {model}
stages:
  study:
    kind: simulate
    world: {world}
    raters: [{{name: Ada, skill: 16}}, {{name: Emre, skill: 8, careless: 0.15}}]
    demonstrations: {2 if facts else 1}
  eval: {{kind: eval, policies: [base, sft, dpo], data: study, prompts: 6, max_new_tokens: 4}}
  sft: {{kind: sft, data: study, limit: 12, epochs: 2, eval_limit: 4, batch_size: 4, save_every: 1}}
  rm:
    kind: reward
    init: sft
    data: study
    limit: 12
    eval_limit: 6
    batch_size: 2
    max_steps: 6
    save_every: 1
  dpo:
    kind: preference
    init: sft
    data: study
    limit: 12
    eval_limit: 6
    batch_size: 2
    max_steps: 6
    save_every: 2
    loss: {{name: dpo, beta: 0.1}}
  compare: {{kind: compare, eval: eval, reward: rm, baseline: sft}}
""")
    return path


def small_world(path: Path, facts: int = 8) -> Path:
    """The shipped world with its first facts alone."""
    path.write_text(_first(facts))
    return path


@cache
def _first(facts: int) -> str:
    whole = yaml.safe_load(SUPPORT.read_text())
    whole["facts"] = whole["facts"][:facts]
    kept = {f["id"] for f in whole["facts"]}
    whole["lookalikes"] = [x for x in whole["lookalikes"] if x["fact"] in kept]
    whole["escalations"] = whole["escalations"][:4]
    return yaml.safe_dump(whole, allow_unicode=True)

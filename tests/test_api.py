"""Training from Python: what is asked for is checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import accord
from accord.core.errors import AccordError, ConfigError, RunError
from accord.core.rundir import hold
from tests.train.small import fresh, many_pairs, prompt, save_tiny

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a way to tune": ({"tune": "lora"}, "tune: 'lora' is no way to tune; allowed: full"),
    "a LoRA key": ({"tune": {"rank": 4}}, "tune.rank: unknown key 'rank'"),
    "an average": ({"average": "prompts"}, "average: unknown average 'prompts'; allowed: pair, prompt"),
    "a share": ({"share": "pairs"}, "share: unknown share 'pairs'; allowed: prompt, pair"),
    "an argument": ({"learning_rate": 1.0}, "unknown argument 'learning_rate'; allowed: lr"),
    "a value": ({"lr": -1.0}, "lr: .*allowed: > 0"),
    "a loss without a name": ({"loss": {"beta": 0.1}}, "loss: required key name is missing"),
    "a loss": ({"loss": {"name": "dop"}}, "loss.name: unknown loss 'dop'; allowed: .*dpo"),
    "a loss key": ({"loss": {"name": "dpo", "gamma": 1}}, "loss.gamma: unknown key"),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str, tiny: Path, tmp_path: Path) -> None:
    keys, said = WRONG[name]
    with pytest.raises(ConfigError, match=said):
        accord.train_preference(fresh(tiny), many_pairs(2), run_dir=tmp_path, **keys)


def test_a_directory_somebody_works_in_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(RunError, match="is working here"):
        accord.train_preference(fresh(tiny), many_pairs(2), run_dir=tmp_path, max_steps=1)
    done = accord.train_preference(fresh(tiny), many_pairs(2), run_dir=tmp_path, max_steps=1)
    assert accord.load(done.model).weights


def test_a_reward_model_is_loaded_by_the_name_of_its_folder(tiny: Path, tmp_path: Path) -> None:
    done = accord.train_reward(fresh(tiny), many_pairs(2), run_dir=tmp_path, max_steps=1)
    assert accord.load_reward_model(str(done.model)).max_completion == 256


PATTERN = [{"name": "pattern", "regex": "e"}]
FEW = {"steps": 1, "batch_size": 2, "minibatch": 2, "max_new_tokens": 3}


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo", "online_dpo", "best_of_n"])
def test_a_policy_learns_from_its_own_answers(method: str, tiny: Path, tmp_path: Path) -> None:
    prompts, seen = [prompt(0), prompt(1)], []
    done = accord.train_policy(
        fresh(tiny), prompts, PATTERN, run_dir=tmp_path, method=method,
        on_step=lambda *step: seen.append(step[0]), **FEW,
    )  # fmt: skip
    assert seen == [1]
    assert accord.load(done.model).weights


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"method": "dpo"}, "unknown method 'dpo'; allowed: ppo, rloo"),
        ({"prompts": []}, "there is no prompt to answer"),
        ({"gama": 0.9}, "gama: unknown key 'gama'"),
        ({"kl": {"beta": -1}}, "kl.beta.*>= 0"),
        ({"method": "rloo", "n": 1}, "n: .*>= 2"),
        ({"rewards": [{"name": "nothing"}]}, "unknown reward 'nothing'"),
        ({"reload": "http://host/load"}, "reload: no server to reload"),
        ({"sampler": "localhost"}, "no address of a server"),
        ({"rewards": [{"name": "learned", "model": "nowhere"}]}, "nowhere"),
    ],
)
def test_wrong_arguments_of_train_policy(
    keys: dict[str, Any], said: str, tiny: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"prompts": [prompt(0)], "rewards": PATTERN, **keys}
    with pytest.raises(AccordError, match=said):
        accord.train_policy(fresh(tiny), run_dir=tmp_path, **given)

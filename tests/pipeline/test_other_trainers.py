"""Output folders of TRL and LLaMA-Factory, in their form, as the doctor reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.pipeline.doctor.base import examined
from accord.pipeline.doctor.other_trainers import of_folder
from tests.test_cli import accord, assert_one_line

Rows = list[dict[str, Any]]


def folder(
    path: Path, rows: Rows, arguments: str = "", checkpoint: str = "", **beside: Any
) -> Path:
    place = path / checkpoint
    place.mkdir(parents=True, exist_ok=True)
    last = {"epoch": 1.0, "step": 200, "train_loss": 0.5, "train_runtime": 60.0}
    (place / "trainer_state.json").write_text(
        json.dumps({"log_history": [*rows, last], "global_step": 200})
    )
    if arguments:
        (path / "training_args.yaml").write_text(arguments)
    for name, value in beside.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path


def dpo(
    margin: float, chosen: float, loss: tuple[float, float] = (0.69, 0.4), beta: float = 0.1
) -> Rows:
    """Twenty rows of DPOTrainer's log; margin and chosen in nats at the end."""
    return [
        {
            "epoch": k / 20, "grad_norm": 2.0, "learning_rate": 5e-6, "logits/chosen": -1.0,
            "logps/chosen": -200.0 + chosen * k / 20, "logps/rejected": -210.0,
            "loss": loss[0] + (loss[1] - loss[0]) * k / 20, "rewards/accuracies": 0.9,
            "rewards/chosen": beta * chosen * k / 20, "rewards/margins": beta * margin * k / 20,
            "rewards/rejected": beta * (chosen - margin) * k / 20, "step": 10 * k,
        }
        for k in range(1, 21)
    ]  # fmt: skip


def pairs(path: Path) -> Path:
    """Forty pairs; a chosen answer has 15 words, 20 tokens."""
    text = "{} is " + "so " * 12 + "{}."
    rows = [
        {
            "prompt": f"what of {k}?",
            "chosen": text.format(k, "yes"),
            "rejected": text.format(k, "no"),
        }
        for k in range(40)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def names(path: Path, data: Path | None = None) -> list[str]:
    return [f.check for f in examined(of_folder(path, str(data) if data else None)[-1:]).findings]


def test_rewards_are_beta_times_nats(tmp_path: Path) -> None:
    """Of rewards/margins 0.8 at β 0.1 the margin is 8 nats; of 20 tokens a shift of 40 is 2 a token."""
    run = folder(tmp_path / "a", dpo(8, -2))
    (record,) = of_folder(run)
    assert (record.of, record.beta, len(record.log)) == ("preference", 0.1, 20)
    assert record.log[-1]["margin"] == pytest.approx(8)
    assert record.log[-1]["chosen_shift"] == pytest.approx(-2)
    assert names(run, pairs(tmp_path / "pairs.jsonl")) == []


def test_what_is_wrong_in_a_run_of_trl_is_named(tmp_path: Path) -> None:
    data = pairs(tmp_path / "pairs.jsonl")
    low = folder(tmp_path / "low", dpo(80, -20, (0.69, 0.68), 0.001), "beta: 0.001\n")
    assert names(low, data)[0] == "beta_low"
    assert "beta_low" not in names(low)  # without the data nobody knows of tokens
    fallen = folder(tmp_path / "fallen", dpo(30, -45))
    assert "displacement" in names(fallen, data)
    hot = folder(tmp_path / "hot", dpo(5, 1, (0.69, 8.0)), checkpoint="checkpoint-200")
    assert names(hot) == ["learning_rate_high"]
    still = folder(tmp_path / "still", [{**r, "grad_norm": 0.0, "loss": 0.6931} for r in dpo(0, 0)])
    assert names(still)[0] == "dead"


def test_a_mean_over_the_first_steps_is_not_step_0(tmp_path: Path) -> None:
    assert "not_the_reference" not in names(folder(tmp_path / "a", dpo(8, -2)))
    first = {**dpo(8, -2)[0], "step": 1, "rewards/margins": 0.5}
    assert "not_the_reference" in names(folder(tmp_path / "b", [first, *dpo(8, -2)]))


def test_a_nan_in_the_log_is_where_it_ended(tmp_path: Path) -> None:
    rows = [{"step": k, "loss": 2.0 - k / 10, "grad_norm": 1.0} for k in range(1, 6)]
    rows.append({"step": 6, "loss": 0.0, "grad_norm": float("nan")})
    (record,) = of_folder(folder(tmp_path / "a", rows))
    assert record.of == "sft"
    assert "step 6: grad_norm is nan" in record.facts["not finite"]
    assert names(tmp_path / "a")[0] == "not_finite"


def test_an_adapter_of_llama_factory_on_another_base(tmp_path: Path) -> None:
    arguments = (
        "stage: dpo\nmodel_name_or_path: acme/base-8b\npref_beta: 0.2\nlearning_rate: 5.0e-6\n"
    )
    adapter = {"base_model_name_or_path": "acme/base-8b-instruct", "r": 8}
    run = folder(tmp_path / "lf", dpo(8, -2, beta=0.2), arguments, adapter_config=adapter)
    *_, record = of_folder(run)
    assert (record.beta, record.config["lr"]) == (0.2, 5e-6)
    assert [f.check for f in examined(of_folder(run)).findings] == ["other_base"]
    (run / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "acme/base-8b"})
    )
    assert examined(of_folder(run)).findings == []


def test_a_run_of_grpo(tmp_path: Path) -> None:
    def rows(**ends: float) -> Rows:
        usual = {
            "loss": 0.01, "grad_norm": 0.5, "reward": 0.6, "kl": 0.01, "entropy": 1.0,
            "completions/mean_length": 100.0, "completions/clipped_ratio": 0.02,
            "frac_reward_zero_std": 0.1,
        }  # fmt: skip
        return [
            {**usual, **{k: v * s / 200 for k, v in ends.items()}, "step": s}
            for s in range(10, 201, 10)
        ]

    fine = folder(tmp_path / "a", rows())
    assert of_folder(fine)[0].of == "online"
    assert names(fine) == []
    assert names(folder(tmp_path / "b", rows(kl=1.5)))[0] == "kl_runaway"
    assert "silent_groups" in names(folder(tmp_path / "c", rows(frac_reward_zero_std=1.0)))
    assert "answers_cut" in names(
        folder(tmp_path / "d", rows(**{"completions/clipped_ratio": 0.9}))
    )


def test_what_is_no_such_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = accord(capsys, "doctor", "--trl", str(tmp_path))
    assert_one_line(code, error, "no trainer_state.json")
    (tmp_path / "trainer_state.json").write_text("[]")
    code, _, error = accord(capsys, "doctor", "--trl", str(tmp_path))
    assert_one_line(code, error, "has no log_history")
    code, _, error = accord(capsys, "doctor")
    assert_one_line(code, error, "can't tell what to look at")
    hot = folder(tmp_path / "a", dpo(5, 1, (0.69, 8.0)))
    code, out, _ = accord(capsys, "doctor", "--trl", str(hot), "--fail-on-serious")
    assert (code, "the learning rate is too high" in out) == (1, True)


def test_numbers_written_as_texts_are_the_numbers(tmp_path: Path) -> None:
    texts = [{k: str(v) for k, v in row.items()} for row in dpo(8, -2, beta=0.2)]
    plain = folder(tmp_path / "a", dpo(8, -2, beta=0.2), "pref_beta: 0.2\nlearning_rate: 5.0e-6\n")
    quoted = folder(tmp_path / "b", texts, 'beta: null\npref_beta: "0.2"\nlearning_rate: "5e-6"\n')
    (a,), (b,) = of_folder(plain), of_folder(quoted)
    assert (a.log, a.config, a.of) == (b.log, b.config, "preference")


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([{"step": 1, "loss": "low"}], "log_history[0]: loss is 'low'; allowed: a number"),
        ([{"step": 1, "train/loss": 0.5}], "logs nothing that the doctor reads: "),
        ([{"step": 1, "loss": [0.5]}], "loss is [0.5]"),
    ],
)
def test_a_log_that_says_nothing_is_not_a_sound_one(
    tmp_path: Path, rows: Rows, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = accord(capsys, "doctor", "--trl", str(folder(tmp_path / "a", rows)))
    assert_one_line(code, error, fault)


def test_a_preference_run_is_known_by_any_of_its_rewards(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "rewards/margins"} for row in dpo(8, -2)]
    (record,) = of_folder(folder(tmp_path / "a", rows))
    assert record.of == "preference"
    assert record.log[-1]["margin"] == pytest.approx(8)  # chosen less rejected

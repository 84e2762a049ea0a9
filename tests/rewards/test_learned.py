"""A learned score belongs to its exchange: not to its batch, its order or the token budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.core.errors import ModelError
from accord.core.types import Exchange, Response
from accord.feedback.study.definition import Study
from accord.lm.chat import render_exchange
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.engine import Engine
from accord.rewards.learned import RewardModel, load_reward_model
from accord.web.work.scoring import load_scorers
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import NARROW, WIDE, answer, how, prompt, reward

EXCHANGES = [Exchange(prompt=prompt(p), response=answer(a)) for p in range(5) for a in range(4)]
ARCHITECTURES = ("llama", "gemma2", "gpt_neox")


def model_of(arch: str, mode: str | None = None, max_completion: int = 256) -> RewardModel:
    head = ScalarHead(32, 0)
    return RewardModel(
        Engine(tiny_model(arch), mode=mode), head, tiny_tokenizer(), max_completion
    )  # fmt: skip


def naive_scores(arch: str, exchanges: list[Exchange]) -> list[float]:
    """w·h at the last token of each exchange, one unpadded sequence at a time."""
    model, head, tokenizer = tiny_model(arch), ScalarHead(32, 0), tiny_tokenizer()
    found = []
    with torch.no_grad():
        for x in exchanges:
            done = render_exchange(tokenizer, x.prompt, x.response)
            ids_1T = torch.tensor([done.prompt + done.completion])
            hidden_TH = model.base_model(input_ids=ids_1T).last_hidden_state[0]
            found.append(float(hidden_TH[-1] @ head.weight))
    return found


@pytest.mark.parametrize("mode", ["tree", "plain"])
@pytest.mark.parametrize("tokens", [NARROW, 200, WIDE])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_scores_are_those_of_each_exchange_alone(arch: str, tokens: int, mode: str) -> None:
    scores = model_of(arch, mode)(EXCHANGES, tokens=tokens)
    assert scores == pytest.approx(naive_scores(arch, EXCHANGES), abs=1e-4)
    assert torch.tensor(scores).std() > 0.1


LLAMA = model_of("llama")
KNOWN = dict(zip(range(len(EXCHANGES)), LLAMA(EXCHANGES, tokens=NARROW), strict=True))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, len(EXCHANGES) - 1), min_size=1, max_size=8),
    st.sampled_from([NARROW, 90, WIDE]),
)
def test_any_batch_in_any_order_gives_the_same_scores(chosen: list[int], tokens: int) -> None:
    scores = LLAMA([EXCHANGES[i] for i in chosen], tokens=tokens)
    assert scores == pytest.approx([KNOWN[i] for i in chosen], abs=1e-5)


def test_a_truncated_response_is_scored_as_truncated() -> None:
    """Without the end of its turn: a cut-off answer is not mistaken for a finished one."""
    whole = EXCHANGES[2]
    cut = Exchange(
        prompt=whole.prompt, response=whole.response.model_copy(update={"finish": "length"})
    )
    scores = LLAMA([whole, cut])
    assert scores == pytest.approx(naive_scores("llama", [whole, cut]), abs=1e-4)
    assert abs(scores[0] - scores[1]) > 0.01


def test_a_response_over_the_limit_is_scored_where_it_is_cut() -> None:
    tokenizer, whole = tiny_tokenizer(), EXCHANGES[2]
    done = render_exchange(tokenizer, whole.prompt, whole.response)
    limit = len(done.completion) - 1  # all but the end of the turn
    cut = Exchange(
        prompt=whole.prompt, response=whole.response.model_copy(update={"finish": "length"})
    )
    (short,) = model_of("llama", max_completion=limit)([whole])
    assert short == pytest.approx(naive_scores("llama", [cut])[0], abs=1e-4)
    (long,) = model_of("llama", max_completion=limit + 1)([whole])
    assert long == pytest.approx(naive_scores("llama", [whole])[0], abs=1e-4)


def test_an_answer_cut_off_before_its_first_token_is_scored_at_the_prompts_end() -> None:
    nothing = Exchange(prompt=prompt(0), response=Response(text="", finish="length"))
    expected = naive_scores("llama", [nothing])
    assert LLAMA([nothing]) == pytest.approx(expected, abs=1e-4)
    among = LLAMA([*EXCHANGES[:3], nothing], tokens=WIDE)
    assert among[3] == pytest.approx(expected[0], abs=1e-4)
    assert among[:3] == pytest.approx([KNOWN[i] for i in range(3)], abs=1e-5)


def test_an_answer_that_names_a_special_token_is_scored_as_the_letters_it_is() -> None:
    named = Exchange(prompt=prompt(0), response=Response(text="Yes.<|im_end|> No.", finish="stop"))
    among = LLAMA([*EXCHANGES[:3], named], tokens=WIDE)
    assert among[:3] == pytest.approx([KNOWN[i] for i in range(3)], abs=1e-5)
    assert among[3] == pytest.approx(LLAMA([named])[0], abs=1e-5)


def test_the_centre_is_subtracted_from_every_score() -> None:
    shifted = model_of("llama")
    shifted.head.centre += 1.5
    assert shifted(EXCHANGES[:4]) == pytest.approx([KNOWN[i] - 1.5 for i in range(4)], abs=1e-5)


def test_scoring_leaves_no_gradient_and_the_mode_as_it_was() -> None:
    model = model_of("llama")
    model.engine.model.train()
    model(EXCHANGES[:2])
    assert model.engine.model.training
    assert all(p.grad is None for p in model.engine.model.parameters())
    assert not torch.is_tensor(model(EXCHANGES[:1])[0])


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    LLAMA(EXCHANGES[:6], tokens=NARROW, on_progress=lambda *a: seen.append(a))
    prompts = len({e.prompt.id for e in EXCHANGES[:6]})
    assert seen == sorted(seen)
    assert seen[-1] == (prompts, prompts)


def test_a_folder_without_head_or_limit_is_no_reward_model(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no readable scalar_head.*name a reward model"):
        load_reward_model(tiny)
    done = reward(tiny, tmp_path, how(max_steps=1))
    (done.model / "reward_model.json").unlink()
    with pytest.raises(ModelError, match=r"no readable reward_model.json"):
        load_reward_model(done.model)


def test_a_saved_model_can_be_moved_with_its_run(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    done = reward(tiny, tmp_path / "a", how(max_steps=2))
    before = load_reward_model(done.model)(EXCHANGES[:4])
    (tmp_path / "a").rename(tmp_path / "b")
    assert load_reward_model(tmp_path / "b" / "model")(EXCHANGES[:4]) == before


def test_a_study_names_reward_models_beside_it(tiny: Path, tmp_path: Path) -> None:
    done = reward(tiny, tmp_path, how(max_steps=1))
    folder = str(done.model.relative_to(tmp_path))
    scorers = load_scorers(Study(name="tents", folder=str(tmp_path), scorers=[folder]))
    assert scorers[folder](EXCHANGES[:3]) == load_reward_model(done.model)(EXCHANGES[:3])
    with pytest.raises(ModelError, match="nowhere"):
        load_scorers(Study(name="tents", folder=str(tmp_path), scorers=["nowhere"]))

"""What is made trainable, in which precision, and what is left on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import transformers

from accord.core.errors import ConfigError, DataError, ModelError
from accord.lm.model.adapters import add_lora
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.rewards.learned import load_reward_model
from accord.train.loop.data import Limits
from accord.train.loop.trainee import prepare
from accord.train.offline.reference import reference_logps
from accord.train.offline.sft import train_sft
from accord.train.online.actors import cast
from tests.lm.tiny import CHATML, tiny_model, tiny_tokenizer
from tests.train.small import (
    LORA,
    Train,
    demonstrations,
    fresh,
    how,
    many_pairs,
    preference,
    reward,
    sft,
)

TREE = Tree((5, 6, 7), ((8, 9, 10), (11, 12)))


def gpt2(folder: Path, **keys: int) -> Path:
    """A GPT-2: dropout of its own, learned positions."""
    config = transformers.GPT2Config(
        vocab_size=400, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2, **keys
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_only_the_adapters_dropout_is_on(tmp_path: Path) -> None:
    trainee = prepare(fresh(gpt2(tmp_path)), Lora(r=2, alpha=4, dropout=0.5), seed=1)
    on = [m for m in trainee.module.modules() if m.training]
    assert {type(m).__name__ for m in on} == {"ModuleDict", "Dropout"}
    first, second = (trainee.engine.logps([TREE]).sums_C() for _ in range(2))
    torch.testing.assert_close(first, second)  # B is 0: only another dropout could move it
    assert [m for m in trainee.module.modules() if m.training] == on


@pytest.mark.parametrize("train", [preference, reward])
def test_bf16_starts_where_fp32_starts(tiny: Path, tmp_path: Path, train: Train) -> None:
    rows = {}
    for precision in ("fp32", "bf16"):
        seen: list[dict[str, float]] = []
        cfg = how(max_steps=1, precision=precision)
        (tmp_path / precision).mkdir()
        train(tiny, tmp_path / precision, cfg, on_step=lambda *a, seen=seen: seen.append(a[2]))
        rows[precision] = seen[0]
    assert rows["bf16"]["loss"] == rows["fp32"]["loss"]
    assert rows["bf16"]["grad_norm"] == pytest.approx(rows["fp32"]["grad_norm"], rel=0.02)
    assert rows["bf16"]["grad_norm"] != rows["fp32"]["grad_norm"]  # it did run in bf16


def test_on_a_cpu_bf16_has_the_log_probs_of_fp32(tmp_path: Path) -> None:
    """Only gradients are in bf16, so both may share a reference."""
    found = {}
    for precision in ("fp32", "bf16"):
        engine = Engine(tiny_model("llama"), precision=precision)  # type: ignore[arg-type]
        (found[precision],) = reference_logps(engine, [TREE], "w", 1024, tmp_path)
        policy = engine.logps([TREE]).tokens_S
        assert policy.requires_grad
        assert torch.equal(policy, found[precision])
        head = ScalarHead(engine.config.hidden_size, seed=1)
        assert head(engine.last_hidden([TREE])).dtype == torch.float32
    assert torch.equal(found["fp32"], found["bf16"])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_chat_template_that_was_changed_stays_with_the_model(tiny: Path, tmp_path: Path) -> None:
    lm = fresh(tiny)
    lm.tokenizer.chat_template = "{{ 'Shop talk.\n' }}" + CHATML
    done = train_sft(
        lm, demonstrations(3), run_dir=tmp_path, tune=LORA, optimise_with=how(max_steps=1)
    )
    assert "Shop talk." in str(load(done.model).tokenizer.chat_template)


def test_runs_behind_a_link_can_be_built_upon(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "disk/a/b/c/d").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk/a/b/c/d")
    for name in ("sft", "more"):
        (tmp_path / "runs" / name).mkdir()
    first = sft(tiny, tmp_path / "runs/sft", how(max_steps=1))
    second = sft(first.model, tmp_path / "runs/more", how(max_steps=1))
    assert load(second.model).weights != load(first.model).weights


def test_a_base_named_by_a_relative_path(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    done = sft(Path(tiny.name), tmp_path, how(max_steps=1))
    monkeypatch.chdir("/")
    assert load(done.model).weights


@pytest.mark.parametrize("file", ["model.safetensors", "adapter/adapter_model.safetensors"])
def test_half_written_weights_are_a_model_error(tiny: Path, tmp_path: Path, file: str) -> None:
    tune = "full" if file == "model.safetensors" else LORA
    weights = sft(tiny, tmp_path, how(max_steps=1), tune).model / file
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="can't load"):
        load(tmp_path / "model")


def test_a_save_that_fails_leaves_the_model_that_was_there(tiny: Path, tmp_path: Path) -> None:
    trainee = prepare(fresh(tiny), LORA, seed=1)
    trainee.save(tmp_path / "model")
    before = sorted(os.listdir(tmp_path / "model"))

    def fail(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainee.save(tmp_path / "model", fail)
    assert sorted(os.listdir(tmp_path / "model")) == before
    load(tmp_path / "model")


def test_more_tokens_than_positions_is_told_before_training(tmp_path: Path) -> None:
    lm = fresh(gpt2(tmp_path / "short", n_positions=60))
    words = demonstrations(1)[0]
    said = words.model_copy(
        update={"response": words.response.model_copy(update={"text": "yes " * 60})}
    )
    keys = {"run_dir": tmp_path, "tune": LORA, "optimise_with": how(max_steps=1)}
    with pytest.raises(DataError, match=r"\d+ tokens does not fit the model's 60 positions.*lower"):
        train_sft(lm, [said], **keys)
    train_sft(lm, [said], limits=Limits(max_completion=8), **keys)


def test_targets_are_named_one_by_one() -> None:
    both = add_lora(tiny_model("llama"), Lora(r=2, alpha=4, targets="q_proj, v_proj"), seed=1)
    names = [n for n, p in both.named_parameters() if p.requires_grad]
    assert all("q_proj" in n or "v_proj" in n for n in names)
    assert any("q_proj" in n for n in names)
    assert any("v_proj" in n for n in names)
    for wrong in ("q_prj", "q_proj,", ""):
        with pytest.raises(ConfigError, match=r"tune.targets: no module .*allowed: .*q_proj"):
            add_lora(tiny_model("llama"), Lora(targets=wrong), seed=1)


def test_a_tied_head_cannot_be_adapted_alone() -> None:
    tied = tiny_model("llama", tie_word_embeddings=True)
    with pytest.raises(ConfigError, match="lm_head shares its weights"):
        add_lora(tied, Lora(targets="q_proj,lm_head"), seed=1)
    add_lora(tiny_model("llama", tie_word_embeddings=False), Lora(targets="lm_head"), seed=1)


def test_a_refused_adapter_leaves_the_model_trainable(tiny: Path) -> None:
    lm = fresh(tiny)
    with pytest.raises(ConfigError):
        prepare(lm, Lora(last_layers=9), seed=1)
    prepare(lm, LORA, seed=1)


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_share_their_prompts(arch: str, dtype: torch.dtype) -> None:
    assert Engine(tiny_model(arch).to(dtype)).mode == "tree"


def test_held_out_items_over_the_limits_are_told(tiny: Path, tmp_path: Path) -> None:
    """Nothing is dropped silently, not from what is measured on either."""
    pair = many_pairs(1)[0]
    message = pair.prompt.messages[0].model_copy(update={"content": "why? " * 60})
    long = pair.model_copy(
        update={"prompt": pair.prompt.model_copy(update={"messages": (message,)})}
    )
    done = preference(tiny, tmp_path, how(max_steps=1), eval_on=[long])
    assert done.metrics == {}
    assert done.left_out == {"held out: prompt over 60 tokens": 1}


def test_a_model_whose_output_layer_reads_narrower_states_trains_rewards_and_values(
    tmp_path: Path,
) -> None:
    """OPT-350m's layers are 1024 wide and its embeddings 512."""
    config = transformers.OPTConfig(
        vocab_size=400, hidden_size=32, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=512, do_layer_norm_before=False,
        bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path / "opt")
    tiny_tokenizer().save_pretrained(tmp_path / "opt")
    done = reward(tmp_path / "opt", tmp_path / "reward", how(max_steps=1))
    assert load_reward_model(done.model, device="cpu").head.weight.shape == (16,)
    for start in (None, done.model):
        for tune in (LORA, "full"):
            actors = cast(fresh(tmp_path / "opt"), tune, 1, value=True, reward_model=start)  # type: ignore[arg-type]
            assert actors.value is not None
            tree = Tree((5, 6, 7), ((8, 9), (10, 11, 12)))
            before, after = actors.value.values_at_rest([tree], 64)
            assert (len(before), len(after)) == (5, 2)

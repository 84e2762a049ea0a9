"""Unpaired and ranking losses in training, and what pairs read beyond sums: each against a hand count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from accord.core.errors import ConfigError, DataError
from accord.core.types import LabelledResponse, Prompt, Response
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.losses import choose_loss, get_preference_loss, get_ranking_loss, get_unpaired_loss
from accord.train.loop.data import Limits, Trees
from accord.train.loop.optimise import Objective, _accumulate
from accord.train.offline.edges import flatten
from accord.train.offline.pairs import pair_logps
from accord.train.offline.preference import train_preference
from accord.train.offline.rankings import only_ranked, order_of, ranking_objective
from accord.train.offline.scored import Scored, score
from accord.train.offline.unpaired import (
    labelled_trees,
    measure_unpaired,
    mismatched,
    one_by_one,
    unpaired_objective,
)
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import (
    LIMITS,
    NARROW,
    WIDE,
    answer,
    fresh,
    gradients,
    group,
    how,
    many_pairs,
    pair,
    pairs,
    preference,
    prompt,
    trees_of,
)


def labelled(n: int = 6) -> list[LabelledResponse]:
    return [
        LabelledResponse(
            prompt=prompt(i), response=answer(i % 4), desirable=i % 3 != 0, weight=1.0 + i % 2
        )
        for i in range(n)
    ]


def unpaired(
    policy: Engine, reference: Engine, items: Trees, name: str, **how: object
) -> Objective:
    loss = choose_loss({"name": name})
    return unpaired_objective(
        policy,
        items,
        lambda trees: token_logps(reference, trees, WIDE),
        loss.function,
        reads=loss.facts["reads"],
        tokens=WIDE,
        **how,  # type: ignore[arg-type]
    )


def engines() -> tuple[Engine, Engine]:
    return Engine(tiny_model("llama", seed=1)), Engine(tiny_model("llama", seed=0))


def step(
    objective: Objective, items: list[int], tokens: int, engine: Engine
) -> tuple[float, Tensor]:
    """Loss and whole gradient of one step at a token budget."""
    engine.model.zero_grad(set_to_none=True)
    row = _accumulate(objective, items, how(tokens=tokens))
    return row["loss"], torch.cat([p.grad.flatten() for p in engine.model.parameters()])  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["kto", "bco"])
def test_an_unpaired_step_is_the_same_however_the_batch_is_cut(name: str) -> None:
    policy, reference = engines()
    items = labelled_trees(tiny_tokenizer(), labelled(), LIMITS)
    objective = unpaired(policy, reference, items, name)
    whole, ours = step(objective, list(range(6)), WIDE, policy)
    for order, budget in ((range(6), NARROW), (reversed(range(6)), 60)):
        loss, gradient = step(objective, list(order), budget, policy)
        assert loss == pytest.approx(whole, abs=1e-5)
        torch.testing.assert_close(gradient, ours, atol=1e-5, rtol=1e-3)


def test_kto_by_hand() -> None:
    """z0 from each prompt with its partner's answer; weights and labels as given."""
    policy, reference = engines()
    items = labelled_trees(tiny_tokenizer(), labelled(4), LIMITS)
    loss, _ = step(unpaired(policy, reference, items, "kto"), [0, 1, 2, 3], WIDE, policy)

    def ratios(trees: list[object]) -> Tensor:
        sums = [
            torch.stack([x.sum() for x in token_logps(e, trees, WIDE)]) for e in (policy, reference)
        ]  # type: ignore[arg-type]
        return sums[0] - sums[1]

    partners = mismatched([t.prompt for t in items.trees])
    crossed = [
        type(t)(t.prompt, items.trees[j].completions)
        for t, j in zip(items.trees, partners, strict=True)
    ]
    z0 = ratios(crossed).mean().clamp(min=0)  # type: ignore[arg-type]
    values = []
    for r, item in zip(ratios(items.trees), items.items, strict=True):  # type: ignore[arg-type]
        gain = torch.sigmoid(0.1 * (r - z0) * (1 if item.desirable else -1))
        values.append(item.weight * (1 - gain))
    assert loss == pytest.approx(float(sum(values)) / 6.0, abs=1e-5)  # weights 1, 2, 1, 2


@pytest.mark.parametrize("name", ["kto", "bco"])
def test_single_answers_are_watched_from_what_they_are_compared_with(name: str) -> None:
    policy, reference = engines()
    items = labelled_trees(tiny_tokenizer(), labelled(4), LIMITS)
    objective = unpaired(policy, reference, items, name)
    assert objective.whole is not None
    batch = objective.whole([0, 1, 2, 3])
    _, sums = objective.loss([0, 1, 2, 3], batch)  # type: ignore[call-arg]
    new, old = (
        torch.stack([x.sum() for x in token_logps(e, items.trees, WIDE)])
        for e in (policy, reference)
    )
    good = torch.tensor([item.desirable for item in items.items])
    ratio = new - old
    point = (
        (batch.kl_policy - batch.kl_ref).mean().clamp(min=0)
        if name == "kto"
        else (ratio[good].mean() + ratio[~good].mean()) / 2
    )
    right = torch.where(good, ratio - point, point - ratio)
    assert sums["margin"] == (pytest.approx(float(right.sum()), abs=1e-4), 4)
    assert sums["accuracy"] == (float((right > 0).sum()), 4)
    assert sums["baseline"][0] / sums["baseline"][1] == pytest.approx(float(point), abs=1e-4)


@pytest.mark.parametrize("good", [True, False])
def test_held_out_answers_of_one_label_have_no_accuracy(good: bool) -> None:
    """Beside their own mean half of them would be right, whatever was learned."""
    policy, reference = engines()
    mixed = labelled_trees(tiny_tokenizer(), labelled(6), LIMITS)
    one_label = labelled_trees(
        tiny_tokenizer(), [x.model_copy(update={"desirable": good}) for x in labelled(6)], LIMITS
    )
    for items, known in ((mixed, True), (one_label, False)):
        found = measure_unpaired(policy, items, token_logps(reference, items.trees, WIDE), WIDE)
        assert (found["accuracy"].value is not None) == known
        assert (found["margin"].value is not None) == known
        assert found["chosen_shift" if good else "rejected_shift"].value is not None


def test_partners_never_share_a_prompt() -> None:
    for prompts in (["a", "b", "c"], ["a", "a", "b", "a"], [str(i // 3) for i in range(60)]):
        partners = mismatched(prompts)
        assert all(prompts[i] != prompts[j] for i, j in enumerate(partners))
        assert partners == mismatched(prompts)
    assert len(set(partners)) > 50  # a shuffle, not draws: nearly every answer is a partner once
    with pytest.raises(DataError, match="every answer is to the same prompt"):
        mismatched(["a", "a"])


def test_a_partners_answer_is_read_as_far_as_there_are_positions(tmp_path: Path) -> None:
    """A long prompt and another's long answer: each fits with its own, together they don't."""
    config = transformers.GPT2Config(  # learned positions: beyond them is an IndexError
        vocab_size=400, n_positions=64, n_embd=32, n_layer=1, n_head=4, bos_token_id=2, eos_token_id=2
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    long = Response(text="It arrives on Tuesday. " * 4, source="test", finish="stop")
    short = Response(text="Yes.", source="test", finish="stop")
    items = [
        LabelledResponse(
            prompt=Prompt.user("Where is my parcel? " * 4), response=short, desirable=True
        ),
        LabelledResponse(prompt=Prompt.user("Where?"), response=long, desirable=False),
    ] * 2
    done = train_preference(
        fresh(tmp_path / "base"), items, run_dir=tmp_path / "run", tune="full", loss={"name": "kto"},
        optimise_with=how(batch_size=4, max_steps=2), limits=Limits(max_prompt=60, max_completion=60),
    )  # fmt: skip
    assert len(done.data.items) == 4
    assert not done.data.truncated
    crossed = [len(t.prompt) + len(done.data.trees[1].completions[0]) for t in done.data.trees[:1]]
    assert crossed[0] > 64


@pytest.mark.parametrize("in_order", ["pairs", "good first", "bad first"])
def test_partners_are_of_both_kinds_whatever_the_order(in_order: str) -> None:
    """z0 is a mean over mismatched answers, not over rejected ones: as many of either as there are."""
    items = [(f"prompt {i}", good) for i in range(200) for good in (True, False)]
    if in_order != "pairs":
        items.sort(key=lambda item: item[1], reverse=in_order == "good first")
    partners = mismatched([prompt for prompt, _ in items])
    share = sum(items[j][1] for j in partners) / len(items)
    assert share == pytest.approx(0.5, abs=0.05)
    own = [items[j][1] == items[i][1] for i, j in enumerate(partners)]
    assert sum(own) / len(own) == pytest.approx(0.5, abs=0.1)


def test_a_batch_of_one_is_refused_and_a_last_item_alone_is_left_out(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="batch_size: must be at least 2"):
        preference(tiny, tmp_path / "a", how(batch_size=1), loss={"name": "kto"})
    from accord.train.offline.preference import train_preference

    done = train_preference(
        fresh(tiny), labelled(7), run_dir=tmp_path / "b", tune="full", optimise_with=how(max_steps=3),
        limits=LIMITS, loss={"name": "kto"}, eval_on=labelled(5),
    )  # fmt: skip
    assert done.left_out == {"alone in the last batch": 1}
    assert done.metrics["accuracy"].n == 5
    assert {"kl", "chosen_shift", "rejected_logp"} <= done.metrics.keys()


def test_pairs_become_single_answers() -> None:
    made = one_by_one(
        [pair(0, 0, 1, p=0.75, weight=2.0), pair(1, 2, 3, p=0.25), pair(2, 0, 1, p=0.5)]
    )
    assert [(x.response.text, x.desirable, x.weight) for x in made] == [
        (answer(0).text, True, 1.0),
        (answer(1).text, False, 1.0),
        (answer(3).text, True, 0.5),
        (answer(2).text, False, 0.5),
    ]


def test_single_answers_do_not_go_into_a_loss_of_pairs(tiny: Path, tmp_path: Path) -> None:
    from accord.train.offline.preference import train_preference

    with pytest.raises(
        DataError, match=r"dpo learns from comparisons, and 3 items .* use kto or bco"
    ):
        train_preference(
            fresh(tiny),
            [*pairs(), *labelled(3)],
            run_dir=tmp_path,
            tune="full",
            optimise_with=how(),
        )


def test_the_order_of_a_ranking() -> None:
    assert order_of(group([(2, 0), (2, 1), (0, 1)])) == [2, 0, 1]
    assert order_of(group([(0, 2), (1, 2), (0, 1)], p=0.25)) == [2, 1, 0]
    assert order_of(group([(0, 1), (1, 2), (2, 0)])) is None  # round in a circle
    assert order_of(group([(0, 1), (1, 2)])) is None  # a pair is missing
    assert order_of(group([(0, 1), (1, 2), (0, 2)], p=0.5)) is None
    kept = only_ranked(trees_of(pairs()))
    assert len(kept.items) == 2


@pytest.mark.parametrize("average", ["pair", "prompt"])
def test_plackett_luce_by_hand(average: str) -> None:
    policy, reference = engines()
    trees = trees_of(pairs())  # one ranking of three answers, one pair
    old = token_logps(reference, trees.trees, WIDE)
    loss = get_ranking_loss("plackett_luce", beta=0.3)
    objective = ranking_objective(policy, trees, old, loss, average)  # type: ignore[arg-type]
    got, _ = objective.loss([0, 1])
    expected = []
    for tree, kept, item in zip(trees.trees, old, trees.items, strict=True):
        sizes = [len(c) for c in tree.completions]
        new = policy.logps([tree]).tokens_S.detach().split(sizes)
        u = [0.3 * float((a - b).sum()) for a, b in zip(new, kept.split(sizes), strict=True)]
        left = [u[k] for k in order_of(item) or []]
        terms = [torch.tensor(left[k:]).logsumexp(0) - left[k] for k in range(len(left))]
        weight = sum(e.weight for e in item.edges) / len(item.edges)  # (2 + 0.5 + 1.5) / 3, and 3
        expected.append(float(sum(terms)) * (weight if average == "pair" else 1 / (len(left) - 1)))
    assert float(got.detach()) == pytest.approx(sum(expected), abs=1e-4)
    assert sum(objective.counts) == pytest.approx(2.0 if average == "prompt" else 2 * 4 / 3 + 3)


def test_tails_lie_beyond_the_shorter_answer() -> None:
    values = torch.arange(1.0, 10.0)  # continuations of 2, 3 and 4 tokens: (1 2) (3 4 5) (6 7 8 9)
    scored = Scored(values, values * 10, (2, 3, 4))
    edges = flatten([group([(0, 2), (2, 1)])], "pair", torch.zeros(()))
    tail = pair_logps(scored, edges).tail
    assert tail is not None
    lp = tail()
    assert lp.policy_chosen.tolist() == [0.0, 9.0]
    assert lp.policy_rejected.tolist() == [8.0 + 9.0, 0.0]
    assert lp.ref_rejected.tolist() == [170.0, 0.0]
    assert lp.rejected_tokens.tolist() == [2.0, 0.0]
    assert lp.swap().tail is None
    assert pair_logps(scored, edges).swap().tail().policy_chosen.tolist() == [17.0, 0.0]  # type: ignore[misc]
    ld = get_preference_loss("dpo", beta=1.0, ld_alpha=0.5)(pair_logps(scored, edges))
    margin = (3.0 - 30.0) - (30 - 0.5 * 17 - (300 - 0.5 * 170))
    assert float(ld[0]) == pytest.approx(
        -float(torch.nn.functional.logsigmoid(torch.tensor(margin)))
    )


@pytest.mark.parametrize("mode", ["tree", "plain"])
def test_collisions_are_the_policys_own_and_have_no_gradient(mode: str) -> None:
    model = tiny_model("gemma2", final_logit_softcapping=5.0)
    trees = trees_of(pairs()).trees
    scored = score(Engine(model, mode=mode), trees, None, collision=True)
    assert scored.collision_S is not None
    assert not scored.collision_S.requires_grad
    tree = trees[1]
    ids = torch.tensor([tree.prompt + tree.completions[1]])
    start = len(tree.prompt) - 1
    p_SV = model(ids).logits[0].softmax(-1)[start : start + len(tree.completions[1])]
    own = (p_SV**2).sum(-1).log()
    torch.testing.assert_close(scored.collision_S[-len(own) :], own, atol=1e-4, rtol=0)


def test_wpo_trains_on_collisions(tiny: Path, tmp_path: Path) -> None:
    loss = {"name": "wpo", "alignment": "sampled"}
    done = preference(tiny, tmp_path, how(max_steps=2), loss=loss, eval_on=many_pairs(3))
    assert done.metrics["accuracy"].value is not None


def test_k3_is_nought_at_the_reference_and_above_it_elsewhere() -> None:
    policy = torch.tensor([-1.0, -2.0, -3.0])
    assert Scored(policy, policy.clone(), (1, 2)).k3_C().tolist() == [0.0, 0.0]  # type: ignore[union-attr]
    k3 = Scored(policy, policy + torch.tensor([0.5, -0.5, 0.0]), (1, 2)).k3_C()
    assert k3 is not None
    by_hand = [torch.exp(torch.tensor(d)) - 1 - d for d in (0.5, -0.5)]
    torch.testing.assert_close(k3, torch.stack([by_hand[0], by_hand[1] / 2]))
    assert torch.isfinite(Scored(policy, policy + 1e4, (1, 2)).k3_C()).all()  # type: ignore[union-attr, operator, arg-type]


def test_every_family_trains_from_one_line(tiny: Path, tmp_path: Path) -> None:
    for name in ("kto", "bco", "plackett_luce", "orpo", "f_dpo", "exo"):
        items = [pair(i, *best) for i in range(4) for best in ((0, 1), (1, 2), (0, 2))]
        from accord.train.offline.preference import train_preference

        done = train_preference(
            fresh(tiny), items, run_dir=tmp_path / name, tune="full", optimise_with=how(max_steps=2),
            limits=LIMITS, loss={"name": name}, eval_on=items,
        )  # fmt: skip
        assert done.model.is_dir()
        assert done.metrics["accuracy"].low is not None


def test_gradients_reach_both_sides_of_a_tail() -> None:
    policy, reference = engines()
    trees = trees_of(pairs())
    scored = score(policy, trees.trees, token_logps(reference, trees.trees, WIDE))
    lp = pair_logps(scored, flatten(trees.items, "pair", scored.policy_S))
    loss = get_preference_loss("dpo", ld_alpha=0.0)(lp).sum()
    assert any(g.abs().sum() > 0 for g in gradients(policy.model, loss).values())


def test_an_unpaired_loss_has_no_gradient_through_its_mean() -> None:
    lp_grad = get_unpaired_loss("kto")
    policy = torch.zeros(3, requires_grad=True)
    kl = torch.ones(3, requires_grad=True)
    from accord.losses import LabelledLogps

    lp_grad(
        LabelledLogps(policy, torch.zeros(3), kl, torch.zeros(3), torch.ones(3))
    ).sum().backward()
    assert kl.grad is None


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_borrowed_model_is_given_back_as_it_was(tune: str, tiny: Path, tmp_path: Path) -> None:
    """Two trainings in a row from one loaded model are those of two loaded models."""
    from accord.train.offline.preference import Material, train_on
    from tests.train.small import LORA, saved_tensors

    how_to = LORA if tune == "lora" else "full"
    shared = Material(fresh(tiny), many_pairs(), many_pairs(3), LIMITS)
    for beta in (0.1, 0.5):
        keys = {
            "tune": how_to,
            "optimise_with": how(max_steps=2),
            "loss": {"name": "dpo", "beta": beta},
        }
        ours = train_on(shared, run_dir=tmp_path / f"a{beta}", borrow=True, **keys)  # type: ignore[arg-type]
        alone = Material(fresh(tiny), many_pairs(), many_pairs(3), LIMITS)
        theirs = train_on(alone, run_dir=tmp_path / f"b{beta}", **keys)  # type: ignore[arg-type]
        a, b = saved_tensors(ours.model), saved_tensors(theirs.model)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert ours.metrics == theirs.metrics

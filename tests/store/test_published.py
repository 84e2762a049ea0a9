"""Every published schema: a row as its set has it, and what it says. Texts are our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accord.core.types import Preference, Ranking, Rating, Thumb, Writing
from accord.store import FORMATS, Store, import_file
from accord.store.io.formats import BY_SIZE
from tests.store.test_import import FILES, Row, turn, write_jsonl

Q, A, B = "Is a heron a bird?", "Yes, a wading bird.", "No, a hat."
USER = [turn("user", Q)]
GOOD, POOR = [*USER, turn("assistant", A)], [*USER, turn("assistant", B)]
SYSTEM = "Be brief."
LONGER = [turn("user", "Where?"), turn("assistant", "By water.")]
SEEN = {
    "country": "Chile", "hashed_ip": "0a", "header": {"user-agent": "x"}, "language": "English",
    "redacted": False, "state": "Maule", "timestamp": None, "toxic": False, "turn_identifier": 7,
}  # fmt: skip


def says(store: Store) -> list[Any]:
    """Each judgment: the prompt (its turns but for a user's alone), and its answer in texts."""
    of = {r.id_for(p): r for p in store.prompts() for i, r in store.responses() if i == p.id}
    prompts = {p.id: p for p in store.prompts()}
    questions = {q.id: q for q in store.questions()}
    found: list[Any] = []
    for j in store.judgments():
        q = questions[j.question]
        texts = [of[i].text for i in q.responses]
        messages = [(m.role[0], m.content) for m in prompts[q.prompt].messages]
        prompt = messages[0][1] if len(messages) == 1 else messages
        found.append((prompt, answer(j.answer, texts)))
    return sorted(found, key=str)


def answer(given: Any, texts: list[str]) -> Any:
    if isinstance(given, Preference):
        if given.better is None:
            return (*sorted(texts), "bad" if given.both_bad else "tie")
        better, worse = texts[given.better], texts[1 - given.better]
        return (better, worse, given.strength)
    if isinstance(given, Ranking):
        return dict(zip(texts, given.ranks, strict=True))
    if isinstance(given, Rating):
        return (texts[0], given.scores, given.lowest, given.highest)
    if isinstance(given, Thumb):
        return (texts[0], given.up)
    assert isinstance(given, Writing)
    return (given.text, *texts)


BETTER = [(Q, (A, B, 1))]
TREE = {
    "message_id": "m0", "text": Q, "role": "prompter", "lang": "en",
    "replies": [
        {"message_id": "m1", "text": A, "role": "assistant", "rank": 0, "replies": [
            {"message_id": "m3", "text": "Where?", "role": "prompter", "rank": None, "replies": []}]},
        {"message_id": "m2", "text": B, "role": "assistant", "rank": 1, "replies": []},
        {"message_id": "m4", "text": "spam", "role": "assistant", "rank": 2, "deleted": True},
        {"message_id": "m5", "text": "late", "role": "assistant", "rank": None},
    ],
}  # fmt: skip


def flat(node: Row, parent: str | None = None) -> list[Row]:
    row = {k: v for k, v in node.items() if k != "replies"}
    row = {"rank": None, "deleted": False, **row, "parent_id": parent, "message_tree_id": "m0"}
    return [row, *(r for n in node.get("replies", []) for r in flat(n, node["message_id"]))]


def annotated(**ratings: str) -> Row:
    return {k: {"Rating": v, "Rationale": "so"} for k, v in ratings.items()}


HELPSTEER = {"helpfulness": 4, "correctness": 3, "coherence": 4, "complexity": 0, "verbosity": 1}
STEERLM = f"{Q}\n<extra_id_1>Assistant\nYes.\n<extra_id_1>User\nWhere?"
THREE = [("u", Q), ("a", "Yes."), ("u", "Where?")]

ARENA = {
    "question_id": "q", "model_a": "m-a", "model_b": "m-b", "winner": "model_a", "judge": "arena_user_7",
    "conversation_a": GOOD, "conversation_b": POOR, "turn": 1, "anony": True, "language": "English",
    "tstamp": 1.7e9, "openai_moderation": {"flagged": False}, "toxic_chat_tag": {},
}  # fmt: skip
FIFTY_FIVE = {
    "id": "1", "model_a": "m-a", "model_b": "m-b", "prompt": f'["{Q}"]', "response_a": f'["{A}"]',
    "response_b": f'["{B}"]', "winner_model_a": "1", "winner_model_b": "0", "winner_tie": "0",
}  # fmt: skip
PKU = {
    "prompt": Q, "response_0": A, "response_1": B, "response_0_source": "m-a", "response_1_source": "m-b",
    "is_response_0_safe": True, "is_response_1_safe": False, "better_response_id": 0,
    "safer_response_id": 1,
}  # fmt: skip
WEBGPT = {
    "question": {"dataset": "eli5", "id": "x", "full_text": Q}, "quotes_0": {"title": []}, "answer_0": A,
    "tokens_0": {}, "score_0": 0.67, "quotes_1": {}, "answer_1": B, "tokens_1": {}, "score_1": -0.67,
}  # fmt: skip
SHP = {
    "post_id": "p", "domain": "d", "history": Q, "human_ref_A": A, "human_ref_B": B, "labels": 1,
    "score_A": 9, "score_B": 2, "score_ratio": 4.5, "upvote_ratio": 0.9,
}  # fmt: skip
POST = {
    "id": "t",
    "post": "It stood still.",
    "title": "A heron",
    "subreddit": "birds",
    "site": None,
}
TLDR = {
    "info": {**POST, "article": None}, "choice": 1, "worker": "w9", "batch": "b", "split": "train",
    "summaries": [{"text": B, "policy": "ref", "note": None}, {"text": A, "policy": "sup1", "note": ""}],
    "extra": {"confidence": 7},
}  # fmt: skip
ASKED = "SUBREDDIT: r/birds\n\nTITLE: A heron\n\nPOST: It stood still.\n\nTL;DR:"
ULTRA = {
    "source": "own", "instruction": Q, "models": ["m-a", "m-b"],
    "completions": [
        {"model": "m-a", "principle": "honesty", "custom_system_prompt": "x", "response": A,
         "annotations": annotated(helpfulness="5", honesty="N/A"), "overall_score": 8.5},
        {"model": "m-b", "principle": "honesty", "custom_system_prompt": "y", "response": B,
         "annotations": annotated(helpfulness="2", honesty="1"), "overall_score": 2.0},
    ],
    "correct_answers": [], "incorrect_answers": [],
}  # fmt: skip
NECTAR = {
    "prompt": f"\n\nHuman: {Q}\n\nAssistant: ", "turns": 1, "num_responses": 2, "source": ["own"],
    "answers": [{"answer": B, "model": "m-b", "rank": 2.0}, {"answer": A, "model": "m-a", "rank": 1.0}],
}  # fmt: skip
HELPSTEER3 = {
    "domain": "general", "language": "english", "context": USER, "response1": B, "response2": A,
    "overall_preference": 2, "individual_preference": [{"score": 2, "reasoning": "so"}],
}  # fmt: skip

CASES: dict[str, tuple[str, list[Row], list[Any]]] = {  # a name: format, rows, what they say
    "HelpSteer2": ("helpsteer2", [{"prompt": Q, "response": A, **HELPSTEER}], [(Q, (A, HELPSTEER, 0, 4))]),
    "HelpSteer2, turns": (
        "helpsteer2", [{"prompt": STEERLM, "response": A, **HELPSTEER}], [(THREE, (A, HELPSTEER, 0, 4))],
    ),
    "HelpSteer2 preference": (
        "helpsteer2_preference",
        [{"split": "train", "prompt": Q, "response_1": A, "response_2": B, "preference_strength": -3},
         {"split": "train", "prompt": "x", "response_1": A, "response_2": B, "preference_strength": 0}],
        [(Q, (A, B, 3)), ("x", (B, A, "tie"))],
    ),
    "HelpSteer3 preference": ("helpsteer3", [HELPSTEER3], [(Q, (A, B, 2))]),
    "HelpSteer3 edit quality": (
        "helpsteer3_quality",
        [{"context": USER, "original_response": "x", "good_edited_response": A, "bad_edited_response": B,
          "feedback": ["so"]}],
        BETTER,
    ),
    "HelpSteer3 edit": (
        "helpsteer3_edit",
        [{"context": USER, "original_response": B, "edited_response": A, "change_summary": "x"}],
        [(Q, (A, B))],
    ),
    "PKU-SafeRLHF": ("pku_saferlhf", [PKU], BETTER),
    "Nectar": ("nectar", [NECTAR], [(Q, {A: 1, B: 2})]),
    "Arena 33k": ("arena", [ARENA], BETTER),
    "Arena 100k": (
        "arena", [{**ARENA, "winner": "model_b", "conversation_a": [{**m, "num_tokens": 3} for m in POOR],
                   "conversation_b": [{**m, "num_tokens": 3} for m in GOOD]}], BETTER,
    ),
    "Arena 140k": (
        "arena",
        [{**{k: ARENA[k] for k in ("model_a", "model_b")}, "winner": "both_bad", "evaluation_order": 1,
          **{f"conversation_{x}": [{"role": m["role"], "content": [
              {"type": "text", "text": m["content"], "image": None, "mimeType": None}]} for m in said]
             for x, said in (("a", GOOD), ("b", POOR))}}],
        [(Q, (B, A, "bad"))],
    ),
    "Arena expert, as text": (
        "arena", [{**ARENA, "conversation_a": str(GOOD).replace("'", '"'), "winner": "tie"}],
        [(Q, (B, A, "tie"))],
    ),
    "MT-Bench, judged after the first turn": (
        "arena",
        [{**ARENA, "conversation_a": GOOD + LONGER, "conversation_b": POOR + LONGER, "judge": "expert_3"}],
        BETTER,
    ),
    "WildChat": (
        "rounds",
        [{"conversation_hash": "x", "model": "m", "conversation": [{**m, **SEEN} for m in GOOD], "turn": 1,
          "toxic": False, "openai_moderation": [{"flagged": False}]}],
        [(Q, (A,))],
    ),
    "lmsys-chat-1m": (
        "rounds", [{"conversation_id": "x", "model": "m", "conversation": GOOD, "turn": 1}], [(Q, (A,))],
    ),
    "Capybara": (
        "rounds",
        [{"source": "own", "conversation": [
            {"input": Q, "output": "Yes."}, {"input": "Where?", "output": A}]}],
        [(THREE, (A,))],
    ),
    "OpenHermes": (
        "sharegpt",
        [{"conversations": [{"from": "human", "value": Q, "weight": 0.0},
                            {"from": "gpt", "value": A, "weight": 1.0}], "system_prompt": None}],
        [(Q, (A,))],
    ),
    "UltraInteract, pairs": (
        "ultrainteract",
        [{"trajectory": [{"from": "human", "value": Q}], "chosen": A, "rejected": B, "task": "x", "id": "1"}],
        BETTER,
    ),
    "UltraInteract, Dolly": (
        "instruction_response",
        [{"instruction": "Say:", "context": Q, "response": A, "category": "x"},
         {"instruction": Q, "response": A, "context": "", "parent_id": "1"}],
        [(f"Say:\n{Q}", (A,)), (Q, (A,))],
    ),
    "Magpie": (
        "sharegpt",
        [{"instruction": Q, "response": "x", "conversations": [{"from": "human", "value": Q},
          {"from": "gpt", "value": A}]}],
        [(Q, (A,))],
    ),
    "a conversation that is null": (
        "prompt_completion", [{"prompt": Q, "completion": A, "messages": None}], [(Q, (A,))],
    ),
    "a context and its answers": (
        "context_preference", [{"context": USER, "chosen": A, "rejected": B}], BETTER,
    ),
    "a conversation and its answers": (
        "conversation_preference", [{"conversation": USER, "chosen": A, "rejected": B}], BETTER,
    ),
    "Arena, both bad": ("arena", [{**ARENA, "winner": "tie (bothbad)"}], [(Q, (B, A, "bad"))]),
    "Arena 55k": ("arena_55k", [FIFTY_FIVE], BETTER),
    "Arena 55k, tie": (
        "arena_55k", [{**FIFTY_FIVE, "winner_model_a": 0, "winner_tie": 1}], [(Q, (B, A, "tie"))],
    ),
    "UltraFeedback": (
        "ultrafeedback", [ULTRA],
        [(Q, (B, {"helpfulness": 2, "honesty": 1}, 1, 5)), (Q, (A, {"helpfulness": 5}, 1, 5))],
    ),
    "UltraFeedback binarized": (
        "preference",
        [{"prompt": Q, "prompt_id": "x", "chosen": GOOD, "rejected": POOR, "messages": GOOD,
          "score_chosen": 8.5, "score_rejected": 2.0}],
        BETTER,
    ),
    "distilabel": (
        "distilabel",
        [{"instruction": Q, "generations": [A, B, "?"], "ratings": [5, 2, None], "rationales": ["", "", ""],
          "generation_models": ["m-a", "m-b", "m-c"], "model_name": "judge"}],
        [(Q, (B, {"rating": 2}, 1, 5)), (Q, (A, {"rating": 5}, 1, 5))],
    ),
    "distilabel, pairs": (
        "preference",
        [{"instruction": Q, "generations": [A, B], "prompt": Q, "prompt_id": "x", "chosen": GOOD,
          "chosen_rating": 5, "rejected": POOR, "rejected_rating": 2, "ratings": [5, 2]}],
        BETTER,
    ),
    "oasst, trees": (
        "oasst_tree", [{"message_tree_id": "m0", "tree_state": "ready", "prompt": TREE}],
        [(Q, {A: 1, B: 2})],
    ),
    "oasst, messages": ("oasst", flat(TREE), [(Q, {A: 1, B: 2})]),
    "WebGPT": ("webgpt", [WEBGPT], BETTER),
    "WebGPT, tie": ("webgpt", [{**WEBGPT, "score_0": 0, "score_1": 0.0}], [(Q, (B, A, "tie"))]),
    "SHP": ("shp", [SHP, {**SHP, "history": "x", "labels": 0}], [(Q, (A, B, 1)), ("x", (B, A, 1))]),
    "TL;DR": ("tldr", [TLDR], [(ASKED, (A, B, 1))]),
    "TL;DR, news": (
        "tldr", [{**TLDR, "info": {"id": "c", "article": "It flew.", "post": None}, "choice": 0}],
        [("It flew.\n\nTL;DR:", (B, A, 1))],
    ),
    "AlpacaFarm": (
        "alpaca_farm",
        [{"instruction": "Answer.", "input": Q, "output_1": B, "output_2": A, "preference": 2},
         {"instruction": Q, "input": "", "output_1": A, "output_2": B, "preference": 1.5}],
        [(f"Answer.\n{Q}", (A, B, 1)), (Q, (B, A, "tie"))],
    ),
    "RewardBench": (
        "preference",
        [{"prompt": Q, "chosen": A, "chosen_model": "m-a", "rejected": B, "rejected_model": "m-b",
          "subset": "s", "id": 1}],
        BETTER,
    ),
    "RewardBench 2": (
        "reward_bench2",
        [{"id": "1", "prompt": Q, "chosen": [A], "rejected": [B, "Maybe."], "num_correct": 1,
          "num_incorrect": 2, "total_completions": 3, "models": ["m"], "subset": "Ties"}],
        [(Q, (A, "Maybe.", 1)), (Q, (A, B, 1))],
    ),
    "Intel Orca": (
        "intel_orca", [{"system": SYSTEM, "question": Q, "chosen": A, "rejected": B}],
        [([("s", SYSTEM), ("u", Q)], (A, B, 1))],
    ),
    "LLaMA-Factory Alpaca": (
        "alpaca",
        [{"instruction": "Where?", "input": "", "output": A, "system": SYSTEM, "history": [[Q, "Yes."]]}],
        [([("s", SYSTEM), *THREE], (A,))],
    ),
    "LLaMA-Factory Alpaca, input": ("alpaca", [{"instruction": "Say:", "input": Q, "output": A}],
                                    [(f"Say:\n{Q}", (A,))]),
    "LLaMA-Factory Alpaca, DPO": (
        "alpaca_preference", [{"instruction": Q, "input": "", "chosen": A, "rejected": B}], BETTER,
    ),
    "LLaMA-Factory Alpaca, ranking": ("alpaca", [{"instruction": Q, "input": "", "output": [A, B]}], BETTER),
    "LLaMA-Factory Alpaca, KTO": (
        "alpaca_kto", [{"instruction": Q, "input": "", "output": B, "kto_tag": False}], [(Q, (B, False))],
    ),
    "ShareGPT": (
        "sharegpt",
        [{"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}], "system": SYSTEM,
          "tools": ""}],
        [([("s", SYSTEM), ("u", Q)], (A,))],
    ),
    "ShareGPT, DPO": (
        "sharegpt_preference",
        [{"conversations": [{"from": "human", "value": Q}], "chosen": {"from": "gpt", "value": A},
          "rejected": {"from": "gpt", "value": B}}],
        BETTER,
    ),
    "ShareGPT, KTO": (
        "sharegpt_kto",
        [{"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}], "kto_tag": True}],
        [(Q, (A, True))],
    ),
    "TRL DPO, implicit": ("implicit", [{"chosen": GOOD, "rejected": POOR}], BETTER),
    "TRL KTO": ("unpaired", [{"prompt": USER, "completion": GOOD[1:], "label": True}], [(Q, (A, True))]),
    "axolotl chat_template.argilla": (
        "preference", [{"system": SYSTEM, "prompt": Q, "chosen": GOOD, "rejected": POOR}],
        [([("s", SYSTEM), ("u", Q)], (A, B, 1))],
    ),
    "axolotl argilla_chat": ("implicit", [{"chosen": GOOD, "rejected": POOR, "system": None}], BETTER),
    "axolotl chat_template.default": (
        "messages_preference",
        [{"messages": USER, "chosen": GOOD[1], "rejected": POOR[1]}], BETTER,
    ),
    "axolotl chatml.argilla": (
        "argilla_responses", [{"instruction": Q, "chosen_response": A, "rejected_response": B}], BETTER,
    ),
    "axolotl chatml.icr": ("icr", [{"system": "", "input": Q, "chosen": A, "rejected": B}], BETTER),
    "axolotl KTO": ("question_kto", [{"question": Q, "completion": A, "label": 1.0}], [(Q, (A, True))]),
    "axolotl KTO, instruction": (
        "instruction_kto", [{"instruction": Q, "completion": A, "label": "0.0"}], [(Q, (A, False))],
    ),
    "ms-swift DPO": ("swift_preference", [{"messages": GOOD, "rejected_response": B}], BETTER),
    "ms-swift DPO, messages": ("swift_messages", [{"messages": GOOD, "rejected_messages": POOR}], BETTER),
    "ms-swift KTO": ("unpaired_messages", [{"messages": GOOD, "label": False}], [(Q, (A, False))]),
    "ms-swift query": (
        "query", [{"system": SYSTEM, "query": "Where?", "response": A, "history": [[Q, "Yes."]]}],
        [([("s", SYSTEM), *THREE], (A,))],
    ),
    "ms-swift query, DPO": (
        "query_preference", [{"query": Q, "response": A, "rejected_response": B}], BETTER,
    ),
    "ms-swift query, KTO": ("query_kto", [{"query": Q, "response": A, "label": True}], [(Q, (A, True))]),
    "ms-swift rounds": ("rounds", [{"conversation": [{"human": Q, "assistant": A}]}], [(Q, (A,))]),
    "messages, KTO": ("messages_kto", [{"messages": GOOD, "kto_tag": True}], [(Q, (A, True))]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_published_schema_says_what_its_card_says(
    store: Store, tmp_path: Path, name: str
) -> None:
    format, rows, expected = CASES[name]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report = import_file(store, path)
    assert report.format == format
    assert says(store) == sorted(expected, key=str)
    assert report.judgments == len(expected)
    assert store.verify() == len(expected)
    assert import_file(store, path, rejects_path=tmp_path / "r.jsonl").judgments == 0


def test_every_format_is_tried() -> None:
    tried = {format for format, _, _ in CASES.values()}
    ours = {
        "accord",
        "argilla",
        "label_studio",
        "stepwise",
        "messages",
        "prompts",
        "verl",
    }
    assert tried == set(FORMATS) - ours  # those are tried elsewhere


def test_no_format_is_hidden_by_another() -> None:
    """Detection takes the first whose keys are there: none with fewer keys stands before one with more."""
    for i, name in enumerate(BY_SIZE):
        for before in BY_SIZE[:i]:
            assert not set(FORMATS[before].keys) < set(FORMATS[name].keys), (before, name)


@pytest.mark.parametrize("file", ["a.parquet", "a.json", "folder"])
@pytest.mark.parametrize(
    "name", ["Arena 33k", "Nectar", "UltraFeedback", "oasst, messages", "TL;DR", "WebGPT"]
)
def test_nested_columns_of_every_kind_of_file(
    store: Store, tmp_path: Path, name: str, file: str
) -> None:
    _, rows, expected = CASES[name]
    rows = [
        {k: v for k, v in row.items() if v != {}} for row in rows
    ]  # Parquet holds no empty struct
    import_file(store, FILES[file](tmp_path / file, rows))
    assert says(store) == sorted(expected, key=str)


def test_who_wrote_and_who_judged_are_kept(store: Store, tmp_path: Path) -> None:
    import_file(
        store, write_jsonl(tmp_path / "a.jsonl", [ARENA, {**ARENA, "judge": "arena_user_8"}])
    )
    assert {r.source for _, r in store.responses()} == {"model:m-a", "model:m-b"}
    assert {r.name for r in store.raters()} >= {"arena_user_7", "arena_user_8"}
    assert [p.weight for p in store.freeze("v1").pairs()] == [2.0]
    judged = [{**ARENA, "judge": ["gpt-x", "pair"], "winner": "tie"}]
    import_file(store, write_jsonl(tmp_path / "b.jsonl", judged))
    assert "gpt-x, pair" in {r.name for r in store.raters()}
    import_file(store, tmp_path / "a.jsonl", rater="anna", rejects_path=tmp_path / "r.jsonl")
    by = {r.id: r.name for r in store.raters()}
    assert [by[j.rater] for j in store.judgments()] == [
        "arena_user_7", "arena_user_8", "gpt-x, pair", "anna"
    ]  # fmt: skip


def test_conversations_that_part_are_counted(store: Store, tmp_path: Path) -> None:
    both = {"conversation_a": GOOD + LONGER, "conversation_b": POOR + LONGER, "turn": 2}
    rows = [ARENA, {**ARENA, **both}]
    two = {**FIFTY_FIVE, "prompt": '["a", "b"]'}
    parted = {**two, "response_a": '["x", "y"]', "response_b": '["z", null]'}
    for i, some in enumerate((rows, [FIFTY_FIVE, parted])):
        path, rejects = write_jsonl(tmp_path / f"{i}.jsonl", some), tmp_path / "r.jsonl"
        report = import_file(store, path, rejects_path=rejects)
        assert (report.left_out["diverging"], report.left_out["bad"]) == (1, 0)
        assert "1 of conversations that part before the last answer" in str(report)
    same = {**two, "response_a": '["x", "y"]', "response_b": '["x", "z"]'}
    import_file(store, write_jsonl(tmp_path / "s.jsonl", [same]))
    assert says(store)[-1] == ([("u", "a"), ("a", "x"), ("u", "b")], ("y", "z", 1))


def test_rows_that_judge_nothing_are_counted(store: Store, tmp_path: Path) -> None:
    lone = {"message_tree_id": "m", "prompt": {"text": "x", "role": "prompter", "replies": []}}
    unrated = {
        **ULTRA,
        "completions": [{"response": A, "annotations": annotated(helpfulness="N/A")}],
    }
    for i, row in enumerate((lone, unrated)):
        path, rejects = write_jsonl(tmp_path / f"{i}.jsonl", [row]), tmp_path / "r.jsonl"
        assert import_file(store, path, rejects_path=rejects).left_out["unjudged"] == 1


def test_columns_that_are_not_used_are_named(store: Store, tmp_path: Path) -> None:
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [PKU]))
    assert set(report.unused) == {"is_response_0_safe", "is_response_1_safe", "safer_response_id"}
    assert "columns not used: is_response_0_safe" in str(report)

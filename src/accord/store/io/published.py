"""The schemas of public data sets and of other trainers' files, a declaration each.

Columns that a declaration doesn't name are not used, and the report says so. Where a set has several
judgments of a row (PKU-SafeRLHF: better and safer; HelpSteer3: the overall one and each annotator's) the
first named is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.types import Message, Preference, Prompt, Rating, Writing
from accord.store.io.conversations import (
    Completion,
    Turns,
    answered,
    held,
    kind_of,
    listed,
    number,
    words,
)
from accord.store.io.oasst import OASST
from accord.store.io.readers import BadRow
from accord.store.io.schemas import (
    Better,
    Format,
    Part,
    Record,
    Unusable,
    beside,
    compared,
    demonstrated,
    instruction,
    is_missing,
    larger,
    one_hot,
    one_of,
    query,
    question,
    ranked,
    rated,
    score,
    signed,
    text,
    thumbed,
    whole,
)

__all__ = ["PUBLISHED"]

Row = Mapping[str, Any]
STEERLM = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
BOTH_BAD = ("tie (bothbad)", "both_bad", "bothbad")
ARENA: dict[str, Better | None] = {
    "model_a": 0,
    "model_b": 1,
    "tie": None,
    **dict.fromkeys(BOTH_BAD),
}
MODELS = ("model_a", "model_b")
ROUNDS = (("human", "assistant"), ("input", "output"))


def _steerlm(column: str) -> Part:
    """HelpSteer's prompt: the first question, then "<extra_id_1>Assistant\\n…" and "<extra_id_1>User\\n…"."""

    def read(row: Row) -> Turns:
        parts = STEERLM.split(words(row.get(column), column))
        roles = ["user", *(who.lower() for who in parts[1::2])]
        if roles[-1] != "user":
            raise BadRow(column, "ends with the assistant's turn", "a conversation up to that turn")
        return tuple(Message(role=r, content=t) for r, t in zip(roles, parts[::2], strict=True))

    return Part((column,), read)


def _inside(column: str, field: str) -> Part:
    """A prompt that is a field of an object."""

    def read(row: Row) -> Turns:
        holder = held(row.get(column), column, field)
        return question(words(holder.get(field), f"{column}.{field}"), f"{column}.{field}")

    return Part((column,), read)


def _arena(*columns: str) -> Part:
    """Conversations; in MT-Bench both questions are there, and `turn` says after which one was judged."""

    def read(row: Row) -> list[tuple[Turns, Completion]]:
        allowed, sides = "a whole number from 1", [answered((), row.get(c), c) for c in columns]
        if is_missing(row.get("turn")):
            return sides
        judged = number(row["turn"], "turn", allowed)
        if judged < 1 or judged != int(judged):
            raise BadRow("turn", f"is {judged:g}", allowed)
        return [_up_to(int(judged), *side) for side in sides]

    return Part(columns, read, ("turn",))


def _up_to(questions: int, prompt: Turns, answer: Completion) -> tuple[Turns, Completion]:
    """A conversation up to the answer to its first, second, … question."""
    asked = [i for i, m in enumerate(prompt) if m.role == "user"]
    if questions >= len(asked):
        return prompt, answer
    end = asked[questions] - 1
    return answered((), [m.model_dump() for m in prompt[: end + 1]], "turn")


def _zipped(asked: str, *columns: str) -> Part:
    """Questions and, in columns beside them, the answers: lists of texts."""

    def read(row: Row) -> list[tuple[Turns, str]]:
        return [_turn_by_turn(row, asked, c) for c in columns]

    return Part((asked, *columns), read)


def _turn_by_turn(row: Row, asked: str, replies: str) -> tuple[Turns, str]:
    questions, answers = _texts(row, asked), _texts(row, replies)
    if len(questions) != len(answers):
        raise BadRow(
            replies, f"has {len(answers)} answers to {len(questions)} questions", "one each"
        )
    messages: list[Message] = []
    for q, a in zip(questions, answers, strict=True):
        messages += [Message(role="user", content=q), Message(role="assistant", content=a)]
    return tuple(messages[:-1]), messages[-1].content


def _texts(row: Row, column: str) -> list[str]:
    """A list of texts; where a model said nothing it is empty."""
    texts = listed(row.get(column), column)
    if not texts:
        raise BadRow(column, "is an empty list", "a list of texts")
    return [words(x or "" if x is None else x, f"{column}[{i}]") for i, x in enumerate(texts)]


def _summaries() -> Part:
    """OpenAI's summarize_from_feedback: a post of Reddit (or an article) and two summaries, asked for as in
    Stiennon et al. 2020, appendix B."""

    def read(row: Row) -> list[tuple[Turns, str]]:
        info = held(row.get("info"), "info", "post or article")
        given = listed(row.get("summaries"), "summaries")
        summaries = [held(s, f"summaries[{i}]", "text") for i, s in enumerate(given)]
        if len(summaries) != 2:
            raise BadRow("summaries", f"has {len(summaries)} items", "two objects {text}")
        if is_missing(info.get("post")):
            asked = words(info.get("article"), "info.article")
        else:
            heads = (("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"), ("POST: ", "post"))
            asked = "\n\n".join(head + words(info.get(k), f"info.{k}") for head, k in heads)
        prompt = (Message(role="user", content=f"{asked}\n\nTL;DR:"),)
        return [
            (prompt, words(s.get("text"), f"summaries[{i}].text")) for i, s in enumerate(summaries)
        ]

    return Part(("info", "summaries"), read)


def _ultrafeedback(row: Row) -> list[Record]:
    """Four answers, each with a rating from 1 to 5 on each aspect ("N/A" is none)."""
    prompt = Prompt(messages=question(row.get("instruction"), "instruction"))
    records = []
    for i, completion in enumerate(listed(row.get("completions"), "completions")):
        at = f"completions[{i}]"
        completion = held(completion, at, "response, annotations")
        scores = {}
        for aspect, judged in held(completion.get("annotations"), f"{at}.annotations", "…").items():
            where = f"{at}.annotations.{aspect}"
            rating = held(judged, where, "Rating")
            if rating.get("Rating") != "N/A":
                scores[aspect] = score(rating.get("Rating"), f"{where}.Rating", 1, 5)
        if scores:
            answer = words(completion.get("response"), f"{at}.response")
            records.append(
                Record(prompt, (answer,), Rating(scores=scores), _by(completion.get("model")))
            )
    return _some(records)


def _distilabel(row: Row) -> list[Record]:
    """Generations with a rating from 1 to 5 each; where the rater's answer could not be read it is null."""
    prompt = Prompt(messages=question(row.get("instruction"), "instruction"))
    answers, ratings = (listed(row.get(k), k) for k in ("generations", "ratings"))
    if len(answers) != len(ratings):
        raise BadRow("ratings", f"has {len(ratings)} for {len(answers)} generations", "one each")
    models = row.get("generation_models") or row.get("model_names")
    named = models if isinstance(models, list) and len(models) == len(answers) else None
    records = []
    for i, (generation, given) in enumerate(zip(answers, ratings, strict=True)):
        if given is not None:
            rating = Rating(scores={"rating": score(given, f"ratings[{i}]", 1, 5)})
            answer = words(generation, f"generations[{i}]")
            records.append(Record(prompt, (answer,), rating, _by(named and named[i])))
    return _some(records)


def _some(records: list[Record]) -> list[Record]:
    if not records:
        raise Unusable("unjudged")
    return records


def _by(model: Any) -> tuple[str, ...]:
    return () if is_missing(model) else (f"model:{model}",)


def _best_of(row: Row) -> list[Record]:
    """RewardBench 2: each right answer is better than each wrong one."""
    prompt = Prompt(messages=question(row.get("prompt"), "prompt"))
    good, bad = (
        [words(x, f"{c}[{i}]") for i, x in enumerate(listed(row.get(c), c))]
        for c in ("chosen", "rejected")
    )
    return _some([Record(prompt, (a, b), Preference(better=0)) for a in good for b in bad])


def _edited(row: Row) -> list[Record]:
    prompt = Prompt(messages=question(row.get("context"), "context"))
    old, new = (words(row.get(k), k) for k in ("original_response", "edited_response"))
    return [Record(prompt, (old,), Writing(text=new, edits=0))]


def _alpaca(row: Row) -> list[Record]:
    """A demonstration; LLaMA-Factory's older files of pairs have [better, worse] for an output."""
    prompt, given = Prompt(messages=instruction.read(row)), row.get("output")
    if not isinstance(given, list):
        return [Record(prompt, (), Writing(text=words(given, "output")))]
    if len(given) != 2:
        raise BadRow("output", f"is a list of {len(given)}", "text, or [better, worse]")
    texts = tuple(words(x, f"output[{i}]") for i, x in enumerate(given))
    return [Record(prompt, texts, Preference(better=0))]


def _talk(column: str) -> Part:
    """Messages, or rounds of a question and its answer ({human, assistant} of ms-swift, {input, output} of
    Capybara)."""

    def read(row: Row) -> list[tuple[Turns, Completion]]:
        given = row.get(column)
        rounds = listed(given, column) if given else []
        first = rounds[0] if rounds and isinstance(rounds[0], Mapping) else {}
        names = next((n for n in ROUNDS if set(n) <= first.keys()), None)
        return [_of_rounds(rounds, column, names) if names else answered((), given, column)]

    return Part((column,), read)


def _of_rounds(rounds: Sequence[Any], column: str, names: tuple[str, str]) -> tuple[Turns, str]:
    messages: list[Message] = []
    for i, one in enumerate(rounds):
        at = f"{column}[{i}]"
        said_of = held(one, at, ", ".join(names))
        asked, reply = (words(said_of.get(k), f"{at}.{k}") for k in names)
        messages += [Message(role="user", content=asked), Message(role="assistant", content=reply)]
    return tuple(messages[:-1]), messages[-1].content


def _checked(row: Row) -> list[Record]:
    """verl: a prompt, and what checks its answer."""
    checker = held(row.get("reward_model"), "reward_model", "ground_truth")
    truth = checker.get("ground_truth")
    if isinstance(truth, bool) or not isinstance(truth, str | int | float):
        raise BadRow("reward_model.ground_truth", f"is {kind_of(truth)}", "text or a number")
    asked = question(row.get("prompt"), "prompt")
    return [Record(Prompt(messages=asked, tags={"ground_truth": str(truth)}))]


def _pair(prompt: Part, better: str, worse: str) -> Format:
    return compared(beside(prompt, better, worse))


def _cells(keys: Sequence[str], read: Any, *also: str, kind: Any = "judgment") -> Format:
    return Format(tuple(keys), read, also, kind)


PUBLISHED: dict[str, Format] = {
    # public data
    "helpsteer2": rated(beside(_steerlm("prompt"), "response"), HELPSTEER, 0, 4),
    "helpsteer2_preference": compared(
        beside(_steerlm("prompt"), "response_1", "response_2"), signed("preference_strength")
    ),
    "helpsteer3": compared(
        beside(text("context"), "response1", "response2"), signed("overall_preference")
    ),
    "helpsteer3_quality": _pair(text("context"), "good_edited_response", "bad_edited_response"),
    "helpsteer3_edit": _cells(("context", "original_response", "edited_response"), _edited),
    "pku_saferlhf": compared(
        beside(text("prompt"), "response_0", "response_1"),
        one_of("better_response_id", {0: 0, 1: 1}),
        ("response_0_source", "response_1_source"),
    ),
    "nectar": ranked(text("prompt"), "answers", "answer", "rank", "model"),
    "arena": compared(
        _arena("conversation_a", "conversation_b"),
        one_of("winner", ARENA, BOTH_BAD),
        MODELS,
        "judge",
        may_part=True,
    ),
    "arena_55k": compared(
        _zipped("prompt", "response_a", "response_b"),
        one_hot("winner_model_a", "winner_model_b", "winner_tie"),
        MODELS,
        may_part=True,
    ),
    "ultrafeedback": _cells(("instruction", "completions"), _ultrafeedback),
    "distilabel": _cells(
        ("instruction", "generations", "ratings"), _distilabel, "generation_models", "model_names"
    ),
    **OASST,
    "webgpt": compared(
        beside(_inside("question", "full_text"), "answer_0", "answer_1"),
        larger("score_0", "score_1"),
    ),
    "shp": compared(
        beside(text("history"), "human_ref_A", "human_ref_B"), one_of("labels", {1: 0, 0: 1})
    ),
    "tldr": compared(_summaries(), one_of("choice", {0: 0, 1: 1}), rater="worker"),
    "alpaca_farm": compared(
        beside(instruction, "output_1", "output_2"),
        one_of("preference", {1: 0, 2: 1, 1.5: None}),
        ("generator_1", "generator_2"),
    ),
    "reward_bench2": _cells(
        ("prompt", "chosen", "rejected", "num_correct", "num_incorrect"), _best_of,
        kind="comparison",
    ),
    "ultrainteract": _pair(text("trajectory"), "chosen", "rejected"),
    "instruction_response": demonstrated(beside(instruction, "response")),
    "verl": _cells(("data_source", "prompt", "reward_model"), _checked, kind="prompt"),
    "intel_orca": _pair(text("question"), "chosen", "rejected"),
    "context_preference": _pair(text("context"), "chosen", "rejected"),
    "conversation_preference": _pair(text("conversation"), "chosen", "rejected"),
    # LLaMA-Factory
    "alpaca_preference": _pair(instruction, "chosen", "rejected"),
    "alpaca_kto": thumbed(beside(instruction, "output"), "kto_tag"),
    "alpaca": _cells(
        ("instruction", "output"), _alpaca, *instruction.also, kind="demonstration"
    ),
    "sharegpt_preference": _pair(text("conversations"), "chosen", "rejected"),
    "sharegpt_kto": thumbed(whole("conversations"), "kto_tag"),
    "messages_kto": thumbed(whole("messages"), "kto_tag"),
    "sharegpt": demonstrated(whole("conversations")),
    # axolotl
    "messages_preference": _pair(text("messages"), "chosen", "rejected"),
    "argilla_responses": _pair(instruction, "chosen_response", "rejected_response"),
    "icr": _pair(text("input"), "chosen", "rejected"),
    "instruction_kto": thumbed(beside(instruction, "completion")),
    "question_kto": thumbed(beside(text("question"), "completion")),
    # ms-swift
    "swift_preference": compared(whole("messages", "rejected_response")),
    "swift_messages": compared(whole("messages", "rejected_messages")),
    "query_preference": _pair(query, "response", "rejected_response"),
    "query_kto": thumbed(beside(query, "response")),
    "query": demonstrated(beside(query, "response")),
    "rounds": demonstrated(_talk("conversation")),
}  # fmt: skip

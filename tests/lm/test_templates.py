"""Every style of template through what reads it: data, sampling, re-reading, roles, tools, the date."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from accord.core import day
from accord.core.errors import DataError, TemplateError
from accord.core.types import Demonstration, Edge, Group, Message, Prompt, Response
from accord.lm.chat import answer_text, render_exchange, render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.lm.template import find_turn, read_by
from accord.store import Store
from accord.train.loop.data import Limits, demonstration_trees, group_trees
from accord.train.offline.preference import train_preference
from accord.train.offline.sft import train_sft
from tests.lm.templates import R1, STYLES, TOOL, VOCABULARY, Style, asks
from tests.lm.tiny import CHATML, tiny_model, tiny_tokenizer
from tests.train.small import LORA, how

CHATS = "<|im_start|>assistant\n"
PROMPT = Prompt.user("where is my parcel?")
ANSWER = "it is on its way"
WIDE = Limits(max_prompt=200, max_completion=80)
every_style = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())


def talk(*texts: str, system: str = "") -> tuple[Message, ...]:
    """User and assistant in turn."""
    said = [
        Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(texts)
    ]
    return (*((Message(role="system", content=system),) if system else ()), *said)


def model_of(style: Style, tmp: Path) -> LanguageModel:
    model = tiny_model("llama", vocab_size=VOCABULARY)
    tokenizer = style.tokenizer()
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
    return LanguageModel(model, tokenizer, "tiny", tmp, "0" * 64)


@every_style
def test_an_answer_is_scored_through_what_ends_it(style: Style) -> None:
    tokenizer = style.tokenizer()
    done = render_exchange(tokenizer, PROMPT, Response(text=ANSWER))
    assert tokenizer.decode(done.completion) == style.before + ANSWER + style.ends
    assert answer_text(tokenizer, done.completion[:-1]) == (ANSWER, False)
    assert tokenizer.eos_token_id in find_turn(tokenizer).stops


@every_style
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_every_turn_of_a_conversation_is_learnt_or_named(style: Style, system: str) -> None:
    """Whatever a template does with earlier turns, each answer is scored once, in its own words, after
    what the model reads when it answers there."""
    tokenizer = style.tokenizer()
    messages = talk("hi there", "hello you", "where is it?", ANSWER, system=system)
    item = Demonstration(prompt=Prompt(messages=messages[:-1]), response=Response(text=ANSWER))
    if system and style is STYLES["gemma"]:
        with pytest.raises(TemplateError, match=r"System role not supported.*skip_bad"):
            demonstration_trees(tokenizer, [item], WIDE, all_turns=True)
        return
    made = demonstration_trees(tokenizer, [item], WIDE, all_turns=True)
    assert not made.left_out
    scored = [
        tokenizer.decode([t for t, s in zip(tree.completions[0], tree.mask(0), strict=True) if s])
        for tree in made.trees
    ]
    assert "".join(scored) == "".join(style.before + a + style.ends for a in ("hello you", ANSWER))
    last = render_exchange(tokenizer, item.prompt, item.response)
    whole = made.trees[-1].prompt + made.trees[-1].completions[0]
    assert tokenizer.decode(whole) == tokenizer.decode(last.prompt + last.completion)


THOUGHT = "<think>\nhm\n</think>\n\n"


@pytest.mark.parametrize(
    ("template", "opened"),
    [
        (R1, ""),
        (R1.replace(asks("<|Assistant|>"), asks("<|Assistant|><think>\n")), "<think>\n"),
        (STYLES["qwen3"].template, ""),
        (STYLES["qwen3"].template.replace(asks(CHATS), asks(CHATS + "<think>\n")), "<think>\n"),
    ],
    ids=["r1", "r1 opened", "qwen3", "qwen3 opened"],
)
def test_thinking_is_learnt_though_the_template_forgets_or_opens_it(
    template: str, opened: str
) -> None:
    """Every turn in its own words, behind the prompt it answers, where earlier thinking is forgotten."""
    style = STYLES["r1" if "Assistant|>" in template else "qwen3"]
    tokenizer = replace(style, template=template).tokenizer()
    messages = talk("hi there", THOUGHT + "hello you", "where is it?", THOUGHT + ANSWER)
    item = Demonstration(
        prompt=Prompt(messages=messages[:-1]), response=Response(text=messages[-1].content)
    )
    made = demonstration_trees(tokenizer, [item], WIDE, all_turns=True)
    prompts = [Prompt(messages=messages[:n]) for n in (1, 3)]
    assert [tree.prompt for tree in made.trees] == [render_prompt(tokenizer, p) for p in prompts]
    assert "hm" not in tokenizer.decode(made.trees[1].prompt)
    assert [tokenizer.decode(tree.completions[0]) for tree in made.trees] == [
        (THOUGHT + said).removeprefix(opened) + style.ends for said in ("hello you", ANSWER)
    ]
    for text in (
        THOUGHT + ANSWER,
        (THOUGHT + ANSWER).removeprefix(opened),
    ):  # as its model tells it
        done = render_exchange(tokenizer, PROMPT, Response(text=text, finish="length", sampling={}))
        assert tokenizer.decode(done.completion) == (THOUGHT + ANSWER).removeprefix(opened)


def test_an_answer_that_does_not_close_what_its_prompt_opened_says_so() -> None:
    opens = replace(
        STYLES["r1"], template=R1.replace(asks("<|Assistant|>"), asks("<|Assistant|><think>\n"))
    )
    with pytest.raises(TemplateError, match=r"the prompt opens <think>, and .* write the thinking"):
        render_exchange(opens.tokenizer(), PROMPT, Response(text=ANSWER))
    empty = render_exchange(opens.tokenizer(), PROMPT, Response(text="<think></think>" + ANSWER))
    assert opens.tokenizer().decode(empty.completion) == f"</think>{ANSWER}<|eos|>"


@every_style
def test_training_runs(style: Style, tmp_path: Path) -> None:
    asked = Prompt(messages=talk("hi there", "hello you", "where is it?"))
    demos = [Demonstration(prompt=p, response=Response(text=ANSWER)) for p in (PROMPT, asked)]
    lm = model_of(style, tmp_path)
    before = train_sft(
        lm, demos, run_dir=tmp_path / "sft", tune=LORA, optimise_with=how(max_steps=1), limits=WIDE,
        eval_on=demos,
    )  # fmt: skip
    assert not before.left_out
    pairs = Group(
        prompt=asked, responses=(Response(text=ANSWER), Response(text="no")),
        edges=(Edge(better=0, worse=1),),
    )  # fmt: skip
    done = train_preference(
        model_of(style, tmp_path), [pairs], run_dir=tmp_path / "dpo", tune=LORA,
        optimise_with=how(max_steps=1), limits=WIDE,
    )  # fmt: skip
    assert len(done.data.trees) == 1


@every_style
@pytest.mark.parametrize("stop", [[], ["e"]])
def test_what_was_sampled_is_what_is_read_again(
    style: Style, stop: list[str], tmp_path: Path
) -> None:
    """Through a store and back, and whether cut off, ended, or stopped by a string."""
    lm = model_of(style, tmp_path)
    how_ = Sampling(max_new_tokens=12, n=8, stop=stop)
    rows = LocalSampler(lm).tokens([PROMPT], how_)[0]
    responses = [LocalSampler(lm).response(row, how_, i) for i, row in enumerate(rows)]
    with Store(tmp_path / "s.db") as store:
        store.add_prompts([PROMPT])
        store.add_responses(PROMPT, responses)
        kept = {r.text: r for _, r in store.responses()}
        store.verify()
    group = Group(prompt=PROMPT, responses=tuple(kept[r.text] for r in responses))
    tree = group_trees(lm.tokenizer, [group], WIDE).trees[0]
    once = {
        r.text: tuple(row.ids) for r, row in zip(reversed(responses), reversed(rows), strict=True)
    }
    assert tree.completions == tuple(once[r.text] for r in responses)
    again = render_exchange(lm.tokenizer, PROMPT, responses[0], sampled=True)
    assert again.completion == tuple(rows[0].ids)
    assert again.prompt == rows[0].prompt


@every_style
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_sampled_text_is_read_without_what_it_lacks(style: Style, finish: Any) -> None:
    """A server's text: no block of thinking is put before it, and no end behind one that was cut off."""
    tokenizer = style.tokenizer()
    for text in (ANSWER, "<think>\nhm, well", "<think>hm</think>it is"):
        answer = Response(text=text, finish=finish, sampling={"seed": 1})
        done = render_exchange(tokenizer, PROMPT, answer, sampled=True)
        ends = style.ends if finish == "stop" else ""
        before = "" if style is STYLES["qwen3"] else style.before
        assert tokenizer.decode(done.completion) == before + text + ends
        assert render_exchange(tokenizer, PROMPT, answer) == done  # known by its sampling


def test_the_answer_is_what_stands_behind_the_last_opening() -> None:
    style = STYLES["harmony"]
    tokenizer = style.tokenizer()

    def said(text: str) -> str:
        return answer_text(tokenizer, tokenizer.encode(text, add_special_tokens=False))[0]

    final = "<|channel|>final<|message|>"
    assert said(f"{final}final words") == "final words"
    assert said(f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant{final}yes") == "yes"
    assert said("<|channel|>final") == ""  # cut off inside the opening
    assert said("<|channel|>analysis<|message|>hm") == "<|channel|>analysis<|message|>hm"
    assert said("plain") == "plain"


def test_tokens_of_another_text_or_model_are_not_read() -> None:
    tokenizer = STYLES["chatml"].tokenizer()
    ids = tuple(tokenizer.encode(f"{ANSWER}<|im_end|>"))
    split = tuple(t for c in ANSWER for t in tokenizer.encode(c)) + ids[-1:]
    assert split != ids
    for tokens, read in {
        split: split,  # the same text in other tokens: as sampled
        (*ids[:-2], ids[-1]): ids,  # another text
    }.items():
        answer = Response(text=ANSWER, tokens=tokens, sampling={"tokenizer": read_by(tokenizer)})
        assert render_exchange(tokenizer, PROMPT, answer).completion == read
        of_another = answer.model_copy(update={"sampling": {"tokenizer": "0" * 12}})
        assert render_exchange(tokenizer, PROMPT, of_another).completion == ids


CALL = {"type": "function", "function": {"name": "get_time", "arguments": {"zone": "CET"}}}
TOOL_TALK = (
    Message(role="user", content="time?"),
    Message(role="assistant", content="", tool_calls=(CALL,)),
    Message(role="tool", content="12:30", tool_call_id="1"),
)
SHOWS_TOOLS = {
    "chatml",
    "harmony",
    "qwen3",
    "llama3",
    "first llama3",
    "gemma",
    "glm4",
}  # of role tool


@pytest.mark.parametrize("name", STYLES)
def test_a_tools_turn_appears_or_is_named(name: str) -> None:
    tokenizer = STYLES[name].tokenizer()
    said = Message(role="assistant", content="call get_time")
    prompt = Prompt(messages=(TOOL_TALK[0], said, TOOL_TALK[2]))
    if name in SHOWS_TOOLS:
        assert "12:30" in tokenizer.decode(render_prompt(tokenizer, prompt))
    else:
        with pytest.raises(TemplateError, match=r"turn 3 \(tool\).*leaves this out"):
            render_prompt(tokenizer, prompt)


@pytest.mark.parametrize("name", STYLES)
def test_a_tool_call_and_tools_appear_or_are_named(name: str) -> None:
    tokenizer = STYLES[name].tokenizer()
    called, tools = Prompt(messages=TOOL_TALK), Prompt(messages=TOOL_TALK[:1], tools=(TOOL,))
    answer = Response(text="", tool_calls=(CALL,))
    if name == "qwen3":
        assert '{"name": "get_time", "arguments": {"zone": "CET"}}' in tokenizer.decode(
            render_prompt(tokenizer, called)
        )
        done = render_exchange(tokenizer, tools, answer)
        assert '"name": "get_time"' in tokenizer.decode(done.prompt)
        assert tokenizer.decode(done.completion).endswith("</tool_call><|im_end|>")
        return
    with pytest.raises(TemplateError, match="leaves this out"):
        render_prompt(tokenizer, called)
    with pytest.raises(TemplateError, match=r"tools.*leaves this out"):
        render_prompt(tokenizer, tools)
    with pytest.raises(TemplateError, match="tool call"):
        render_exchange(tokenizer, Prompt(messages=TOOL_TALK[:1]), answer)


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_a_dropped_turn_of_any_role_is_named_though_its_words_stand_elsewhere(role: str) -> None:
    template = CHATML.replace("{{ '<|im_start|>' + message", f"{{% if loop.index != 2 or message.role != '{role}' %}}{{{{ '<|im_start|>' + message").replace("{% endfor %}", "{% endif %}{% endfor %}")  # fmt: skip  # noqa: E501
    messages = tuple(Message(role=r, content="twice") for r in ("user", role, "user"))  # type: ignore[arg-type]
    with pytest.raises(TemplateError, match=rf"turn 2 \({role}\)"):
        render_prompt(tiny_tokenizer(template), Prompt(messages=messages))


def test_rows_a_template_refuses_are_counted_where_asked_for() -> None:
    tokenizer = STYLES["zephyr"].tokenizer()
    bad = Prompt(messages=(*talk("time?", "call"), TOOL_TALK[2]))
    items = [Demonstration(prompt=p, response=Response(text=ANSWER)) for p in (PROMPT, bad)]
    with pytest.raises(TemplateError, match=rf"prompt {bad.id} \('12:30'\) turn 3 \(tool\)"):
        demonstration_trees(tokenizer, items, WIDE, all_turns=False)
    limits = WIDE.model_copy(update={"skip_bad": True})
    for all_turns in (False, True):
        made = demonstration_trees(tokenizer, items, limits, all_turns=all_turns)
        assert [x.prompt for x in made.items] == [PROMPT]
        assert made.left_out == {"turn 3 (tool): the template leaves this out": 1}
    with pytest.raises(DataError, match=r"nothing is left.*leaves this out \(1\)"):
        demonstration_trees(tokenizer, items[1:], limits, all_turns=True).for_training()


def test_a_run_keeps_its_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        at = datetime(2026, 3, 1, 23, 59)

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return cls.at

    monkeypatch.setattr(day, "datetime", Clock)
    tokenizer = STYLES["llama3"].tokenizer()

    def read(folder: Path | None) -> str:
        if folder is None:
            return tokenizer.decode(render_prompt(tokenizer, PROMPT))
        with day.dated(folder):
            return read(None)

    assert "01 Mar 2026" in read(tmp_path / "a")
    Clock.at = datetime(2026, 3, 2, 0, 1)
    assert "01 Mar 2026" in read(tmp_path / "a")
    assert "02 Mar 2026" in read(tmp_path / "b")
    assert "02 Mar 2026" in read(None)  # no run, no cache of yesterday
    with day.dated(tmp_path / "a"):  # a stage within a run
        assert "01 Mar 2026" in read(tmp_path / "b")
    with day.dated(tmp_path / "c"):  # a template without a date leaves nothing behind
        render_prompt(tiny_tokenizer(), PROMPT)
    assert not (tmp_path / "c").exists()

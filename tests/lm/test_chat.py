"""Rendering: where the prompt ends and what the assistant is scored on, in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from accord.core.errors import DataError, TemplateError
from accord.core.types import Message, Prompt, Response
from accord.lm.chat import (
    Rewritten,
    answer_text,
    render_conversation,
    render_exchange,
    render_prompt,
    stop_ids,
)
from accord.lm.template import default_template, find_turn
from tests.lm.tiny import CHATML, SPECIAL, tiny_tokenizer

END = SPECIAL.index("<|im_end|>")
BOS = SPECIAL.index("<bos>")

HEAD = "{% for m in messages %}"
TAIL = "{% endfor %}"
SPACE = (  # the generation prompt ends in a space, which vocabularies put in front of words
    HEAD + "{% if m.role == 'user' %}User: {{ m.content }}\n{% elif m.role == 'system' %}"
    "{{ m.content }}\n{% else %}Assistant: {{ m.content }}{{ eos_token }}\n{% endif %}"
    + TAIL
    + "{% if add_generation_prompt %}Assistant: {% endif %}"
)
LLAMA2 = (  # bos in the template, a space on both sides of the answer, no generation prompt
    HEAD + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles!') }}{% endif %}" + TAIL
)
STRIPS = CHATML.replace("message['content']", "message['content'] | trim")
NO_STOP = (
    HEAD
    + "{{ m.role + ': ' + m.content + '\n' }}"
    + TAIL
    + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
DROPS_SYSTEM = CHATML.replace(
    "{{ '<|im_start|>' + message", "{% if message.role != 'system' %}{{ '<|im_start|>' + message"
).replace("{% endfor %}", "{% endif %}{% endfor %}")
# forgets the thinking of earlier turns, and writes an empty block before an answer without one
THINKS = (
    HEAD + "{% set c = m.content %}{% if m.role == 'assistant' %}"
    "{% if not loop.last %}{% set c = c.split('</think>')[-1].lstrip() %}"
    "{% elif '</think>' not in c %}{% set c = '<think></think>' + c %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}"
    + TAIL
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

PROMPT = Prompt.user("where is my parcel?")
ANSWER = Response(text="it is on its way")


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def test_chatml_closed_form() -> None:
    tokenizer = tiny_tokenizer()
    done = render_exchange(tokenizer, PROMPT, ANSWER)
    head = "<|im_start|>user\nwhere is my parcel?<|im_end|>\n<|im_start|>assistant\n"
    assert done.prompt == encode(tokenizer, head) == render_prompt(tokenizer, PROMPT)
    # the newline after <|im_end|> is the template's, not the model's
    assert done.completion == (*encode(tokenizer, "it is on its way"), END)
    assert not done.truncated
    assert not done.repaired


def test_llama2_keeps_the_spaces_and_one_bos() -> None:
    tokenizer = tiny_tokenizer(LLAMA2, bos_token="<bos>")
    done = render_exchange(tokenizer, PROMPT, ANSWER)
    assert done.prompt == (BOS, *encode(tokenizer, "[INST] where is my parcel? [/INST]"))
    assert done.completion == (*encode(tokenizer, " it is on its way "), END)
    assert (done.prompt + done.completion).count(BOS) == 1
    assert answer_text(tokenizer, done.completion) == ("it is on its way", False)


def test_a_token_across_the_boundary_is_repaired() -> None:
    tokenizer = tiny_tokenizer(SPACE)
    joint = encode(tokenizer, "User: where is my parcel?\nAssistant: it is on its way")
    head = encode(tokenizer, "User: where is my parcel?\nAssistant: ")
    assert joint[: len(head)] != head  # " it" is one token: the trap is there
    done = render_exchange(tokenizer, PROMPT, ANSWER)
    assert done.repaired
    assert done.prompt == head == render_prompt(tokenizer, PROMPT)
    assert done.completion == (*encode(tokenizer, "it is on its way"), END)


def metaspace_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Like sentencepiece: a text that is tokenised on its own begins with a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["</s>"], show_progress=False)
    tokenizer.train_from_iterator(["bot:yes bot:yes I:no", "it is bot:yes"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    fast.chat_template = template
    return fast


def test_a_boundary_beyond_repair_shows_its_tokens() -> None:
    template = (
        HEAD
        + "{{ 'I:' if m.role == 'user' else ' bot:' }}{{ m.content }}"
        + TAIL
        + "{% if add_generation_prompt %}{{ ' bot:' }}{% endif %}"
    )
    with pytest.raises(TemplateError, match=r"spans the boundary.*bot:yes"):
        render_exchange(metaspace_tokenizer(template), Prompt.user("no"), Response(text="yes"))


def test_a_template_that_trims_scores_the_trimmed_answer() -> None:
    tokenizer = tiny_tokenizer(STRIPS)
    padded = render_exchange(tokenizer, PROMPT, Response(text="\n it is on its way \n"))
    assert padded == render_exchange(tokenizer, PROMPT, ANSWER)
    assert answer_text(tokenizer, encode(tokenizer, " hi \n")) == ("hi", False)
    assert answer_text(tiny_tokenizer(), encode(tokenizer, " hi \n")) == (" hi \n", False)


def test_an_answer_without_trimming_keeps_its_white_space() -> None:
    tokenizer = tiny_tokenizer()
    done = render_exchange(tokenizer, PROMPT, Response(text=" hi \n"))
    assert done.completion == (*encode(tokenizer, " hi \n"), END)


def test_no_stop_token_in_the_template_gets_eos_once() -> None:
    tokenizer = tiny_tokenizer(NO_STOP)
    done = render_exchange(tokenizer, PROMPT, ANSWER)
    assert done.completion == (*encode(tokenizer, " it is on its way"), END)


def test_truncation_never_invents_a_stop_token() -> None:
    tokenizer = tiny_tokenizer()
    body = encode(tokenizer, ANSWER.text)
    cut_off = ANSWER.model_copy(update={"finish": "length"})
    done = render_exchange(tokenizer, PROMPT, cut_off)
    assert (done.completion, done.truncated) == (body, True)
    done = render_exchange(tokenizer, PROMPT, ANSWER, max_completion=3)
    assert (done.completion, done.truncated) == (body[:3], True)
    done = render_exchange(tokenizer, PROMPT, ANSWER, max_completion=len(body))
    assert (done.completion, done.truncated) == (body, True)
    done = render_exchange(tokenizer, PROMPT, ANSWER, max_completion=len(body) + 1)
    assert (done.completion, done.truncated) == ((*body, END), False)


def test_a_long_prompt_names_both_lengths() -> None:
    tokenizer = tiny_tokenizer()
    n = len(render_prompt(tokenizer, PROMPT))
    assert render_exchange(tokenizer, PROMPT, ANSWER, max_prompt=n)
    with pytest.raises(DataError, match=f"{n} tokens, longer than max_prompt={n - 1}"):
        render_exchange(tokenizer, PROMPT, ANSWER, max_prompt=n - 1)


def test_a_refused_role_is_named() -> None:
    tokenizer = tiny_tokenizer(LLAMA2, bos_token="<bos>")
    with pytest.raises(TemplateError, match=r"turn 1 \(system\).*Only user and assistant"):
        render_prompt(tokenizer, Prompt.user("hi", system="be kind"))


def test_a_dropped_system_message_is_named() -> None:
    with pytest.raises(TemplateError, match=r"turn 1 \(system\)"):
        render_prompt(tiny_tokenizer(DROPS_SYSTEM), Prompt.user("hi", system="be kind"))


def test_a_stop_token_inside_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match=r"<\|im_end\|>.*ends a turn"):
        render_exchange(tiny_tokenizer(), PROMPT, Response(text="yes<|im_end|>no"))


def test_a_stop_token_that_a_model_wrote_letter_by_letter_is_read_so() -> None:
    tokenizer = tiny_tokenizer()
    text = "yes<|im_end|>no<|im_start|>"
    done = render_exchange(tokenizer, PROMPT, Response(text=text, finish="stop"), sampled=True)
    assert done.prompt == render_prompt(tokenizer, PROMPT)
    assert done.completion[-1] == END
    assert not set(done.completion[:-1]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(done.completion[:-1]) == text
    assert answer_text(tokenizer, done.completion)[0] == text
    cut = render_exchange(tokenizer, PROMPT, Response(text=text, finish="length"), sampled=True)
    assert cut.completion == done.completion[:-1]
    plain = render_exchange(tokenizer, PROMPT, ANSWER, sampled=True)
    assert plain == render_exchange(tokenizer, PROMPT, ANSWER)


def test_a_template_without_generation_prompt_is_refused() -> None:
    template = CHATML.replace("add_generation_prompt", "false")
    with pytest.raises(TemplateError, match="add_generation_prompt has no effect"):
        render_exchange(tiny_tokenizer(template), PROMPT, ANSWER)


def test_thinking_templates_hold_for_exchanges() -> None:
    tokenizer = tiny_tokenizer(THINKS)
    plain = render_exchange(tokenizer, PROMPT, ANSWER)
    assert plain.completion == (*encode(tokenizer, "<think></think>it is on its way"), END)
    assert answer_text(tokenizer, plain.completion) == (ANSWER.text, False)
    thought = render_exchange(tokenizer, PROMPT, Response(text="<think>hm</think>it is"))
    assert thought.completion == (*encode(tokenizer, "<think>hm</think>it is"), END)


def test_a_template_that_rewrites_earlier_turns_names_the_turn() -> None:
    turns = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="<think>hm</think>hello"),
        Message(role="user", content="where?"),
        Message(role="assistant", content="there"),
    ]
    with pytest.raises(TemplateError, match=r"turn 2 \(assistant\)"):
        render_conversation(tiny_tokenizer(THINKS), turns)


def test_a_template_that_rewrites_the_answer_is_refused() -> None:
    template = CHATML.replace("message['content']", "message['content'] | replace('cat', 'dog')")
    tokenizer = tiny_tokenizer(template)
    assert render_exchange(tokenizer, PROMPT, Response(text="a dog")).completion
    with pytest.raises(TemplateError, match="rewrites the answer 'a cat'"):
        render_exchange(tokenizer, PROMPT, Response(text="a cat"))


def test_a_generation_prompt_that_answers_do_not_have_still_samples() -> None:
    template = CHATML.replace("assistant\n' }}{% endif", "assistant\nSure: ' }}{% endif")
    tokenizer = tiny_tokenizer(template)
    assert tokenizer.decode(render_prompt(tokenizer, PROMPT)).endswith("assistant\nSure: ")
    assert find_turn(tokenizer).problem is not None
    assert stop_ids(tokenizer) == (END,)
    with pytest.raises(TemplateError, match="the prompt changes once the answer is there"):
        render_exchange(tokenizer, PROMPT, ANSWER)


@pytest.mark.parametrize("template", [CHATML, LLAMA2, SPACE])
def test_conversation_scores_every_assistant_turn(template: str) -> None:
    tokenizer = tiny_tokenizer(template, bos_token="<bos>")
    turns = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="it is."),
        Message(role="user", content="where?"),
        Message(role="assistant", content="in it"),
    ]
    ids, mask = render_conversation(tokenizer, turns)
    assert len(ids) == len(mask)
    scored = [i for i, m in zip(ids, mask, strict=True) if m]
    pad = " {} " if template is LLAMA2 else "{}"
    first, second = (encode(tokenizer, pad.format(t)) for t in ("it is.", "in it"))
    assert scored == [*first, END, *second, END]
    # the last turn is scored just as the exchange is
    exchange = render_exchange(tokenizer, Prompt(messages=tuple(turns[:3])), Response(text="in it"))
    last = len(mask) - mask[::-1].index(False)
    assert ids[last:] == exchange.completion
    rendered = tokenizer.apply_chat_template(
        [t.model_dump() for t in turns], tokenize=False
    ).rstrip("\n")
    assert tokenizer.decode(ids).startswith(rendered)


def test_turns_that_no_token_ends_are_no_one_sequence() -> None:
    """eos ends each of them where the model answers; inside the conversation another turn follows."""
    tokenizer = tiny_tokenizer(NO_STOP, bos_token="<bos>")
    said = [Message(role="assistant" if i % 2 else "user", content=c) for i, c in enumerate("abcd")]
    with pytest.raises(Rewritten, match=r"turn 2 .* no token ends this turn"):
        render_conversation(tokenizer, said)
    ids, _ = render_conversation(tokenizer, said[:2])
    assert ids[-1] == END


def test_conversation_must_end_with_the_assistant() -> None:
    with pytest.raises(DataError, match="assistant's turn"):
        render_conversation(tiny_tokenizer(), PROMPT.messages)


def test_default_template_and_its_bos() -> None:
    tokenizer = tiny_tokenizer(None)
    tokenizer.chat_template = default_template(tokenizer)
    done = render_exchange(tokenizer, Prompt.user("hi", system="Be kind."), ANSWER)
    assert tokenizer.decode(done.prompt) == "Be kind.\n\nUser: hi\n\nAssistant:"
    assert done.completion == (*encode(tokenizer, " it is on its way"), END)
    assert not done.repaired
    with pytest.raises(TemplateError, match=r"turn 2 \(tool\)"):
        render_prompt(
            tokenizer, Prompt(messages=(*PROMPT.messages, Message(role="tool", content="x")))
        )


def test_stop_ids_gather_all_sources() -> None:
    config = SimpleNamespace(eos_token_id=[END, 3])
    assert stop_ids(tiny_tokenizer(), config, None) == (END, 3)
    tokenizer = tiny_tokenizer(CHATML, eos_token="<bos>")  # eos differs from the end of turn
    assert set(stop_ids(tokenizer)) == {END, BOS}
    assert render_exchange(tokenizer, PROMPT, ANSWER).completion[-1] == END


def test_a_changed_template_is_noticed() -> None:
    tokenizer = tiny_tokenizer()
    before = render_prompt(tokenizer, PROMPT)
    tokenizer.chat_template = NO_STOP
    assert render_prompt(tokenizer, PROMPT) != before

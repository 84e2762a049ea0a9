"""What a chat template writes around an assistant's answer, found by rendering.

Two answers are rendered and what surrounds both is taken: `before` (between the generation prompt
and the answer), `after` (up to the end of the text) and the stop token in `after`: the last of the special
tokens that stand side by side behind an answer, or the eos behind those. What a template writes at the end of
the text only (Phi-3's eos) ends no turn, unless nothing else does (gpt-oss). Found once per tokenizer and
kept as long as its template stays the same. The date a template writes is the run's (core.day).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import jinja2
from transformers import PreTrainedTokenizerBase

from accord.core.day import today
from accord.core.errors import TemplateError
from accord.core.hashing import content_hash
from accord.core.types import Message, Tools
from accord.lm.thought import answered, opening

__all__ = [
    "Turn",
    "decode",
    "default_template",
    "encode",
    "find_turn",
    "not_a_prefix",
    "read_by",
    "read_templates",
    "render_text",
    "special_ids",
    "stop_ids",
    "write_templates",
]

# For tokenizers without a template. The answer's leading space belongs to the completion, because
# vocabularies hold " word", and after "Assistant: " a model has to go on without its usual space.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token + '\n\n' }}"
    "{% else %}{{ raise_exception('no such role in the default template') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

PROBES = ("Zq1", "Yw2")  # they share neither a first nor a last character
ASKS_DATE = re.compile(r"""\bstrftime_now\(\s*(?:format\s*=\s*)?(["'])(.*?)\1\s*\)""")
TEMPLATE, MORE = "chat_template.jinja", "additional_chat_templates"
PADDED_PROBE = " \nZq1\n "
REFUSALS = (jinja2.TemplateError, ValueError, TypeError, KeyError, AttributeError)


@dataclass
class Turn:
    """What a template writes around an assistant's answer, and how that ends in tokens."""

    known_by: str  # template, special tokens and day
    before: str  # between the generation prompt and the answer
    after: str  # from the answer to the end of the text
    closing: str  # the part of `after` the model writes: through the stop token, "" without one
    unspoken: str  # `closing` without the stop token
    opening: tuple[int, ...]  # the tokens of `before` where it holds special ones, else ()
    ending: int  # the stop token of `after`, or eos where the template has none
    has_stop: bool  # whether the template writes `ending`
    trims: bool  # whether white space around an answer is dropped
    stops: frozenset[int]
    problem: TemplateError | None = None  # answers can't be rendered, prompts can
    endings: frozenset[int] = frozenset()  # all that may end a sample: `stops` and the configs'
    opened: str = ""  # the block of thinking that a prompt opens for the answer
    read_by: str = ""  # hash of vocabulary, template and special tokens, made when first asked for
    prompts: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


_TURNS: WeakKeyDictionary[Any, Turn] = WeakKeyDictionary()


def find_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    """The tokenizer's turn ending, found once; found again when its template is changed."""
    turn, known_by = _TURNS.get(tokenizer), _known_by(tokenizer)
    if turn is None or turn.known_by != known_by:
        if not tokenizer.chat_template:
            raise TemplateError(
                "the tokenizer has no chat template", mend="load it with accord.load"
            )
        try:
            turn = _new_turn(tokenizer)
        except TemplateError as problem:  # such a model can still be sampled from
            stops = _eos(tokenizer)
            if not stops:
                raise
            turn = Turn(known_by, "", "", "", "", (), min(stops), False, False, stops, problem)
        turn.endings = _TURNS[tokenizer].endings if tokenizer in _TURNS else frozenset()
        _TURNS[tokenizer] = turn
    return turn


def _known_by(tokenizer: PreTrainedTokenizerBase) -> str:
    template = str(tokenizer.chat_template)
    day = f"{today():%F}" if "strftime_now" in template else ""
    return json.dumps([template, sorted(map(str, tokenizer.special_tokens_map.items())), day])


def read_by(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a sample's tokens belong to: a name of vocabulary, template and special tokens."""
    turn = find_turn(tokenizer)
    if not turn.read_by:
        more = [str(tokenizer.chat_template), tokenizer.special_tokens_map]
        turn.read_by = content_hash(
            [tokenizer.get_vocab(), json.loads(json.dumps(more, default=str))]
        )[:12]
    return turn.read_by


def _eos(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return frozenset({int(tokenizer.eos_token_id)} if tokenizer.eos_token_id is not None else ())


def _new_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    user = Message(role="user", content="Hi")
    head = render_text(tokenizer, (user,), generation=True)
    opened = opening(head)

    def rest(answer: str) -> str:
        whole = render_text(
            tokenizer, (user, Message(role="assistant", content=answer)), generation=False
        )
        stem = answered(head, whole, opened)
        if stem is None:
            raise not_a_prefix(head, whole, where="chat template")
        return whole[len(stem) :]

    first, second = rest(PROBES[0]), rest(PROBES[1])
    before, probe, after = first.partition(PROBES[0])
    if not probe or before + PROBES[1] + after != second:
        raise TemplateError("the template does not write the answer", where="chat template")
    trims = before + PROBES[0] + after == rest(PADDED_PROBE)
    if before.strip() and head == render_text(tokenizer, (user,), generation=False):
        raise TemplateError(
            f"add_generation_prompt has no effect, so {before!r} would count as the answer",
            where="chat template",
            mend="make the template write it when add_generation_prompt is set",
        )
    lasting = commonprefix([after, _inside(tokenizer, user, after, head)])  # noqa: RUF071 - by character
    closing, ending = _ending(tokenizer, lasting, after)
    name = str(tokenizer.convert_ids_to_tokens(ending)) if closing else ""
    opens = encode(tokenizer, before)
    return Turn(
        known_by=_known_by(tokenizer),
        before=before,
        after=after,
        closing=closing,
        unspoken=closing.removesuffix(name),
        opening=opens if set(opens) & special_ids(tokenizer) else (),
        ending=ending,
        has_stop=bool(closing),
        trims=trims,
        stops=_eos(tokenizer) | {ending},
        opened=opened,
    )


def _inside(tokenizer: PreTrainedTokenizerBase, user: Message, after: str, head: str) -> str:
    """What is written behind an answer that another question follows; without what opens the question where a
    template asks for an answer whether it is to or not (Llama 3's first)."""
    asked_again = (user, Message(role="assistant", content=PROBES[0]), user)
    try:
        text = render_text(tokenizer, asked_again, generation=False).rpartition(PROBES[0])[2]
    except TemplateError:  # a template for one question
        return after
    if head != render_text(tokenizer, (user,), generation=False):
        return text
    first, again = (encode(tokenizer, t.rpartition(user.content)[0])[::-1] for t in (head, text))
    opens = next((i for i, (a, b) in enumerate(zip(first, again, strict=False)) if a != b), 0)
    return decode(tokenizer, again[opens:][::-1])


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Tokens that no text is read as."""
    special = {int(i) for i in tokenizer.all_special_ids}
    return special | {int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special}


def _ending(tokenizer: PreTrainedTokenizerBase, *behind: str) -> tuple[str, int]:
    """What is written behind an answer through the stop token, and that token, in the first of the texts that
    has one; ("", eos) when none has."""
    special = special_ids(tokenizer)
    for text in behind:
        ids = encode(tokenizer, text)
        at = [i for i, token in enumerate(ids) if token in special]
        if not at:
            continue
        last = next(i for i in at if i + 1 not in at)  # side by side
        last = max([last, *(i for i in at if ids[i] == tokenizer.eos_token_id)])
        end = 0
        for i in at[: at.index(last) + 1]:
            name = str(tokenizer.convert_ids_to_tokens(ids[i]))
            end = text.index(name, end) + len(name)
        return text[:end], ids[last]
    if tokenizer.eos_token_id is None:
        raise TemplateError(
            "no token ends a turn: none in the template, no eos", where="chat template"
        )
    return "", int(tokenizer.eos_token_id)


def default_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The plain template for a tokenizer without one, with bos where the tokenizer adds it."""
    ids = tokenizer.encode("a")
    adds_bos = bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return ("{{ bos_token }}" if adds_bos else "") + DEFAULT_TEMPLATE


def write_templates(folder: Path, template: str | dict[str, str]) -> None:
    """Write a template, or several by name, where transformers looks for them."""
    named = {"default": template} if isinstance(template, str) else template
    for name, text in named.items():
        file = folder / TEMPLATE if name == "default" else folder / MORE / f"{name}.jinja"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def read_templates(folder: Path) -> str | dict[str, str] | None:
    """What `write_templates` wrote; None where there is none."""
    files = {"default": folder / TEMPLATE} | {f.stem: f for f in (folder / MORE).glob("*.jinja")}
    templates = {n: f.read_text(encoding="utf-8") for n, f in files.items() if f.is_file()}
    return templates.get("default") if set(templates) <= {"default"} else templates


def stop_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> tuple[int, ...]:
    """Every token that ends a turn: the template's, the tokenizer's eos, those of the configs."""
    turn = find_turn(tokenizer)
    ids: list[Any] = sorted(turn.stops)
    for config in configs:
        eos = getattr(config, "eos_token_id", None)
        ids += eos if isinstance(eos, (list, tuple)) else [eos]
    known = tuple(dict.fromkeys(int(i) for i in ids if i is not None))
    turn.endings |= set(known)
    return known


def not_a_prefix(head: str, whole: str, *, where: str) -> TemplateError:
    """The error for a prompt that reads otherwise once an answer follows it."""
    at = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(whole))
    return TemplateError(
        f"the prompt changes once the answer is there: {head[at:][:40]!r} becomes "
        f"{whole[at:][:40]!r} at character {at}",
        where=where,
        mend="the template rewrites earlier turns; use one that only appends",
    )


def render_text(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    generation: bool,
    tools: Tools = None,
) -> str:
    """The template's text for messages; a refused conversation names the first refused turn."""
    plain = [m.model_dump() for m in messages]
    try:
        return _applied(tokenizer, plain, tools, generation=generation)
    except REFUSALS as error:
        raise TemplateError(
            f"the chat template refuses: {error}",
            where=_refused(tokenizer, plain, tools),
            mend="leave that turn out, or use a model whose template has the role",
        ) from None


def _applied(
    tokenizer: PreTrainedTokenizerBase,
    plain: list[dict[str, Any]],
    tools: Tools,
    *,
    generation: bool,
) -> str:
    turns: list[dict[str, Any]] = [
        {k: list(v) if isinstance(v, tuple) else v for k, v in turn.items()} for turn in plain
    ]
    offered: list[Any] | None = list(tools) if tools else None
    return str(
        tokenizer.apply_chat_template(
            turns,
            tools=offered,
            chat_template=_in_its_day(tokenizer, offered),
            tokenize=False,
            add_generation_prompt=generation,
        )
    )


def _in_its_day(tokenizer: PreTrainedTokenizerBase, tools: Any) -> str | None:
    """The template with the run's day in place of each date it asks for; None for one that asks for none."""
    if "strftime_now" not in str(tokenizer.chat_template):
        return None
    template = tokenizer.get_chat_template(None, tools)
    return ASKS_DATE.sub(lambda m: json.dumps(today().strftime(m[2])), template)


def _refused(tokenizer: PreTrainedTokenizerBase, plain: list[dict[str, Any]], tools: Tools) -> str:
    """The first turn with which the conversation so far can't be rendered."""
    for n in range(1, len(plain) + 1):
        try:
            _applied(tokenizer, plain[:n], tools, generation=False)
        except REFUSALS:
            return f"turn {n} ({plain[n - 1]['role']})"
    return "the whole conversation"


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokens of rendered text. The template writes bos where it wants it: none is added here."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )

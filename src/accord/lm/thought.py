"""Blocks of thinking that a template opens for its model, or forgets once they are written.

A prompt of DeepSeek-R1's distillates ends in `<think>`, which stands before no answered turn; and of an
answer such templates show what is behind `</think>`. What the model writes is scored, the text as it stands:
behind the opening where the prompt has it.
"""

from __future__ import annotations

import re

__all__ = ["answered", "begun", "opening", "thinks"]

OPENED = re.compile(r"<\w+>\s*\Z")
THOUGHT = re.compile(r"(<\w+>)?.*</(\w+)>\s*", re.DOTALL)


def opening(head: str) -> str:
    """The block that a prompt ends in, or ""."""
    match = OPENED.search(head)
    return match[0] if match else ""


def answered(head: str, whole: str, opened: str) -> str | None:
    """What of a prompt stands before its answer: all, or all but the block it opens; None where it reads
    otherwise."""
    stems = (head, head.removesuffix(opened))
    return next((stem for stem in stems if whole.startswith(stem)), None)


def begun(text: str, opened: str) -> str:
    """A text without the opening that its prompt writes."""
    rest = text.lstrip().removeprefix(opened.strip())
    return text if rest == text.lstrip() else rest.lstrip()


def thinks(answer: str, body: str, opened: str) -> bool:
    """Whether all that is missing of an answer is a block of thinking before the part that is there."""
    dropped = THOUGHT.fullmatch(answer.strip().removesuffix(body.strip()))
    return dropped is not None and f"<{dropped[2]}>" in (dropped[1], opened.strip())

"""The requests of supervised CAI as conversations: the answer is the model's own, then it is asked to
criticise it and to write it again (Bai et al. 2022, section 3.1)."""

from __future__ import annotations

from accord.constitution.principles import Principle
from accord.core.types import Message, Prompt

__all__ = ["VERSION", "critique_request", "revision_request"]

VERSION = 1
SHORT = "{request} Answer in a few sentences."
ALONE = "{request} Reply with the new answer alone."


def critique_request(prompt: Prompt, answer: str, principle: Principle) -> Prompt:
    """The conversation, the answer, and the principle's request for a critique."""
    return Prompt(
        messages=(
            *prompt.messages,
            Message(role="assistant", content=answer),
            Message(role="user", content=SHORT.format(request=principle.critique)),
        )
    )


def revision_request(prompt: Prompt, answer: str, critique: str, principle: Principle) -> Prompt:
    """The same with the critique, and the principle's request for a revision."""
    asked = critique_request(prompt, answer, principle)
    return Prompt(
        messages=(
            *asked.messages,
            Message(role="assistant", content=critique),
            Message(role="user", content=ALONE.format(request=principle.revision)),
        )
    )

"""Whether a template writes all that a conversation says: each part is changed and the change looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from accord.core.errors import TemplateError
from accord.core.types import Message, Tools
from accord.lm.template import render_text

__all__ = ["check_all_shown"]


def check_all_shown(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    text: str,
    *,
    generation: bool,
    tools: Tools = None,
) -> None:
    """TemplateError for a message, a tool call or a tool that the template silently leaves out, and for a
    system or user message that it rewrites. `text` is the conversation as rendered."""
    changed = list(messages)
    marks: dict[str, str] = {}  # what is added, and where
    for at, m in enumerate(messages):
        if m.content.strip():
            marks[f"Zq{at}c"] = f"turn {at + 1} ({m.role})"
            changed[at] = changed[at].model_copy(update={"content": f"{m.content}Zq{at}c"})
        if m.tool_calls:
            marks |= {f"Zq{at}{part}": f"turn {at + 1} (tool call)" for part in "na"}
            calls = tuple(_marked_call(call, f"Zq{at}") for call in m.tool_calls)
            changed[at] = changed[at].model_copy(update={"tool_calls": calls})
    if tools:
        marks["Zqt"] = "tools"
    renamed = tuple(_marked_tool(tool) for tool in tools) if tools else None
    seen = _rendered(tokenizer, changed, generation, renamed)
    for mark, where in marks.items():
        if mark not in seen and not _changes_text(
            tokenizer, messages, changed, mark, text, generation, tools
        ):
            raise TemplateError(
                "the template leaves this out",
                where=where,
                mend="leave it out of the data, or use a model whose template has it",
            )
    for at, m in enumerate(messages):
        if m.role in ("system", "user") and m.content.strip() not in text:
            raise TemplateError(
                "the template drops or rewrites this message",
                where=f"turn {at + 1} ({m.role})",
                mend="leave the message out or use another template",
            )


def _changes_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], changed: Sequence[Message],
    mark: str, text: str, generation: bool, tools: Tools,
) -> bool:  # fmt: skip
    """Whether the text is another with this one change, where the template writes things in its own way."""
    if mark == "Zqt":
        return _rendered(tokenizer, messages, generation, None) != text
    at = int(mark[2:-1])
    part = (
        {"content": changed[at].content}
        if mark.endswith("c")
        else {"tool_calls": changed[at].tool_calls}
    )
    one = [m.model_copy(update=part) if i == at else m for i, m in enumerate(messages)]
    return _rendered(tokenizer, one, generation, tools) != text


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], generation: bool, tools: Tools
) -> str:
    """The text; "" where the template refuses what was changed, which it then has read."""
    try:
        return render_text(tokenizer, messages, generation=generation, tools=tools)
    except TemplateError:
        return ""


def _marked_call(call: dict[str, Any], mark: str) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    more = {**arguments, f"{mark}a": 1} if isinstance(arguments, dict) else f"{arguments}{mark}a"
    return {**call, "function": {"name": f"{function['name']}{mark}n", "arguments": more}}


def _marked_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if isinstance(function := tool.get("function"), dict):
        return {**tool, "function": {**function, "name": f"{function.get('name')}Zqt"}}
    return {**tool, "name": f"{tool.get('name')}Zqt"}

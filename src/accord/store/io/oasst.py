"""OpenAssistant's message trees: each set of ranked replies to one conversation is a ranking.

    oasst       one message a row: message_id, parent_id, text, role, rank (0 is best)
    oasst_tree  one tree a row: {"prompt": {"text", "role", "replies": [{…, "replies": […]}]}}

Deleted messages and replies that nobody ranked are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from accord.core.types import Message, Prompt, Ranking
from accord.store.io.conversations import held, kind_of, listed, number, words
from accord.store.io.readers import BadRow
from accord.store.io.schemas import Format, Record, Unusable, is_missing, thumb

__all__ = ["OASST"]

ROLES = {"prompter": "user", "assistant": "assistant"}
Row = Mapping[str, Any]


def trees(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(place of its first message, tree) of messages that name their parents; a BadRow where one can't be
    put in its place."""
    nodes: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows:
        id = row.get("message_id")
        if not isinstance(id, str) or id in nodes:
            what = "appears twice" if isinstance(id, str) else f"is {kind_of(id)}"
            yield place, BadRow("message_id", what, "an id of its own for each message")
        else:
            nodes[id] = place, {**row, "replies": []}
    for id, (place, node) in nodes.items():
        parent = _parent(node)
        if not _root(id, nodes):
            what = f"{parent!r} does not lead to the beginning of a conversation in this file"
            yield place, BadRow("parent_id", what, "whole trees")
        elif parent is not None:
            nodes[parent][1]["replies"].append(node)
    yield from ((p, {"prompt": n}) for p, n in nodes.values() if _parent(n) is None)


def _root(id: str, nodes: Mapping[str, tuple[str, Row]]) -> bool:
    """Whether the parents of a message end at one that has none."""
    passed: set[Any] = set()
    at: Any = id
    while at is not None and at in nodes and at not in passed:
        passed.add(at)
        at = _parent(nodes[at][1])
    return at is None


def _parent(node: Row) -> Any:
    parent = node.get("parent_id")
    return None if is_missing(parent) else parent  # a CSV has no null


def read_tree(row: Row) -> list[Record]:
    rankings = list(_rankings(_of(row.get("prompt"), "prompt"), (), "prompt"))
    if not rankings:
        raise Unusable("unjudged")
    return rankings


def _rankings(node: Row, before: tuple[Message, ...], at: str) -> Iterator[Record]:
    """The ranked replies to this message, and to each below it."""
    role = node.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow(f"{at}.role", f"{role!r} is unknown", ", ".join(ROLES))
    messages = (*before, Message(role=ROLES[role], content=words(node.get("text"), f"{at}.text")))
    replies = [
        (_of(reply, f"{at}.replies[{i}]"), f"{at}.replies[{i}]")
        for i, reply in enumerate(listed(node.get("replies") or [], f"{at}.replies"))
    ]
    kept = [(r, where) for r, where in replies if not _is_deleted(r, where)]
    ranks = {
        i: number(r["rank"], f"{where}.rank", "a rank from 0")
        for i, (r, where) in enumerate(kept)
        if r.get("role") == "assistant" and not is_missing(r.get("rank"))
    }
    if any(rank < 0 or rank != int(rank) for rank in ranks.values()):
        raise BadRow(f"{at}.replies", "has a rank that is no whole number", "a rank from 0")
    if len(ranks) > 1 and role == "prompter":
        texts = tuple(words(kept[i][0].get("text"), f"{kept[i][1]}.text") for i in ranks)
        answer = Ranking(ranks=tuple(int(rank) + 1 for rank in ranks.values()))
        yield Record(Prompt(messages=messages), texts, answer)
    for reply, where in kept:
        yield from _rankings(reply, messages, where)


def _of(value: Any, where: str) -> Row:
    return held(value, where, "text, role, replies")


def _is_deleted(node: Row, where: str) -> bool:
    given = node.get("deleted")
    return not is_missing(given) and thumb(given, f"{where}.deleted").up


FACTS = ("parent_id", "rank", "deleted")
OASST = {
    "oasst": Format(
        ("message_id", "message_tree_id", "text", "role"), read_tree, FACTS, "comparison", trees
    ),
    "oasst_tree": Format(("message_tree_id", "prompt"), read_tree, (), "comparison"),
}

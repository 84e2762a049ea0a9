"""Questions sampled while people work: K policies answer the same prompt, blind."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.core.errors import ConfigError, DataError
from accord.core.types import Prompt, Response
from accord.feedback.study.definition import COUNTS, MOST_CATEGORY, Ask, Item, Study
from accord.store.io.formats import convert
from accord.store.io.readers import BadRow, read_rows
from accord.web import tables
from accord.web.site import Site
from accord.web.work.studies import add_items

__all__ = ["check_policies", "top_up"]

Q = tables.study_questions


def check_policies(site: Site, study: Study) -> None:
    """ConfigError when a policy that is named is not served."""
    named = {p for ask in study.questions for p in ask.policies or []}
    named |= set(study.arena.policies) if study.arena else set()
    missing = sorted(named - set(site.policies))
    if missing:
        raise ConfigError(
            f"policy {missing[0]!r} is not being served", where=study.name,
            allowed=", ".join(site.policies) or "none", mend="add --policy NAME=MODEL",
        )  # fmt: skip


def top_up(site: Site, study: Study, folder: Path, draw: random.Random) -> int:
    """Sample questions until every live block has `ahead` untouched ones, or no prompt is left. Returns how
    many are new."""
    new = 0
    for block, ask in enumerate(study.questions):
        if ask.policies:
            new += _fill(site, study, block, ask, folder, draw)
    return new


def _fill(site: Site, study: Study, block: int, ask: Ask, folder: Path, draw: random.Random) -> int:
    mine = (Q.c.study == study.name, Q.c.block == block)
    asked = {row.prompt for row in site.all(sa.select(Q.c.prompt).where(*mine))}
    waiting = site.one(  # a count is always a row
        sa.select(sa.func.count().label("n"))
        .select_from(Q)
        .where(*mine, Q.c.state == "open", Q.c.taken == 0)
    )
    assert waiting
    asked |= {p for name, n, p in site.fruitless if (name, n) == (study.name, block)}
    fresh = [p for p in _prompts(folder / (ask.prompts or "")) if p.id not in asked]
    fresh = fresh[: max(0, ask.ahead - waiting.n)]
    low, high = COUNTS[ask.kind]
    names = list(ask.policies or [])
    k = min(high, len(names))
    if k < low or not fresh:
        return 0
    drawn = [draw.sample(names, k) for _ in fresh]
    answers = {  # one batch per policy
        name: dict(zip(batch, site.policies[name]([fresh[i] for i in batch]), strict=True))
        for name in names
        if (batch := [i for i, chosen in enumerate(drawn) if name in chosen])
    }
    items = []
    for i, prompt in enumerate(fresh):
        shown = {answers[name][i].text: answers[name][i] for name in drawn[i]}
        # the same answer twice compares nothing; what a broken model says may not even be text
        if len(shown) >= max(low, min(2, k)) and not any("\x00" in text for text in shown):
            items.append((f"prompt {prompt.id}", _item(prompt, list(shown.values()))))
        else:
            site.fruitless.add((study.name, block, prompt.id))
    return add_items(site, study, block, items, "live")


def _item(prompt: Prompt, shown: Sequence[Response]) -> Item:
    return Item(
        prompt=[m.model_dump() for m in prompt.messages],
        tools=prompt.model_dump().get("tools"),
        responses=[r.model_dump(mode="json") for r in shown],
        category=prompt.tags.get("category", ""),
    )


def _prompts(path: Path) -> list[Prompt]:
    return list(_read(path, path.stat().st_mtime_ns if path.exists() else 0))


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> tuple[Prompt, ...]:
    prompts = []
    for place, row in read_rows(path):
        try:
            prompts.append(_prompt(row))
        except BadRow as bad:
            where = f"{path}:{place} {bad.field}".rstrip()
            raise DataError(bad.reason, where=where, allowed=bad.allowed) from None
    return tuple(prompts)


def _prompt(row: Any) -> Prompt:
    if isinstance(row, BadRow):
        raise row
    category = row.get("category") or ""
    if not isinstance(category, str) or len(category) > MOST_CATEGORY:
        raise BadRow("category", "is no category", f"a text of up to {MOST_CATEGORY} characters")
    prompt = convert(row, "prompts").prompt
    return prompt.model_copy(update={"tags": {"category": category}}) if category else prompt

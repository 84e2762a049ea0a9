"""What a judge is shown from files: examples with their verdicts, references by prompt. A row a line (JSON).

{"prompt": "…", "responses": ["…", "…"], "verdict": "A"}          an example
{"prompt": "…", "reference": "…"}                                 a reference; a prompt may be messages
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError
from accord.core.refs import StoreRef
from accord.core.types import Prompt, Response
from accord.judges.templates import JudgedExample, JudgedItem, check_template, options_of
from accord.store import Snapshot, Store
from accord.store.opening import which_snapshot

__all__ = ["opened", "read_examples", "read_references"]


RESPONSES = {"compare": (2, 2), "rate": (1, 1), "rank": (2, 9)}  # of an example


@contextlib.contextmanager
def opened(where: str) -> Iterator[tuple[Store, Snapshot]]:
    """The store and the snapshot of STORE@SNAPSHOT."""
    ref = StoreRef.parse(where)
    if not ref.snapshot:
        raise which_snapshot(ref, Path(), "judge")
    with Store(ref.where, create=False) as store:
        yield store, store.snapshot(ref.snapshot)


def read_examples(
    path: str | Path | None, template: str, axes: Collection[str] = ()
) -> list[JudgedExample]:
    """Examples of a template, none without a file; ConfigError names a line whose verdict is no option, that
    has another number of responses, or that is of an axis which is not asked."""
    least, most = RESPONSES[check_template(template).facts["kind"]]
    examples = []
    for where, row in _rows(path):
        prompt = _prompt(row, where)
        responses = row.get("responses")
        if not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
            raise ConfigError("needs a list of texts", where=f"{where} responses")
        if not least <= len(responses) <= most:
            allowed = str(least) if least == most else f"{least} to {most}"
            what = f"has {len(responses)} for template {template}"
            raise ConfigError(what, where=f"{where} responses", allowed=allowed)
        axis = str(row.get("axis", ""))
        if axis and axis not in axes:
            what = f"is {axis!r}, which is not asked"
            raise ConfigError(what, where=f"{where} axis", allowed=", ".join(axes) or "none")
        texts = tuple(Response(text=r) for r in responses)
        item = JudgedItem(prompt, texts, axis, str(row.get("reference", "")))
        verdict, options = row.get("verdict"), options_of(template, item)
        if verdict not in options:
            raise ConfigError(
                f"is {verdict!r}", where=f"{where} verdict", allowed=", ".join(options)
            )
        examples.append(JudgedExample(item, verdict))
    return examples


def read_references(path: str | Path | None) -> dict[str, str]:
    """Reference answers by prompt id, none without a file."""
    references: dict[str, str] = {}
    for where, row in _rows(path):
        reference = row.get("reference")
        if not isinstance(reference, str) or not reference:
            raise ConfigError("needs a text", where=f"{where} reference")
        prompt = _prompt(row, where).id
        if references.setdefault(prompt, reference) != reference:
            raise ConfigError("is another than the prompt has above", where=f"{where} reference")
    return references


def _rows(file: str | Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if file is None:
        return
    path = Path(file)
    if not path.is_file():
        raise ConfigError("no such file", where=str(path))
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ConfigError("is no JSON object", where=f"{path}:{number}")
        yield f"{path}:{number}", row


def _prompt(row: dict[str, Any], where: str) -> Prompt:
    prompt = row.get("prompt")
    if isinstance(prompt, str) and prompt:
        return Prompt.user(prompt)
    try:
        return Prompt.model_validate({"messages": prompt})
    except ValueError:
        raise ConfigError("needs a text, or messages", where=f"{where} prompt") from None

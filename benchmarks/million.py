"""A million judgments: written to a file, imported, frozen, read as a snapshot.

    python -m benchmarks.million

50,000 prompts with two responses each, shown in both orders to ten raters each. Aims: import in 60 s, a
snapshot in 30 s.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accord.core.hashing import canonical_json
from accord.core.seeds import rng
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.store import Store, import_file
from accord.train.loop.memory import device_of_choice, peak
from benchmarks.quiet import alone

RATERS, ORDERS = 10, 2


def rows(judgments: int) -> Iterator[dict[str, Any]]:
    """accord's own rows."""
    draw, at = rng(17, "million"), datetime(2026, 1, 5, 9, tzinfo=UTC)
    raters = [Rater(name=f"rater-{n}", kind="human") for n in range(RATERS)]
    for rater in raters:
        yield {"type": "rater", **rater.model_dump(mode="json")}
    for number in range(judgments // (RATERS * ORDERS)):
        prompt = Prompt.user(f"Question {number}: what would you do about order {number * 7919}?")
        shown = [Response(text=f"Answer {side} to {number}: " + "words " * 20) for side in "ab"]
        yield {"type": "prompt", **prompt.model_dump(mode="json")}
        for response in shown:
            yield {"type": "response", "prompt": prompt.id, **response.model_dump(mode="json")}
        ids = [r.id_for(prompt) for r in shown]
        for order in (ids, ids[::-1]):
            question = Question(prompt=prompt.id, responses=tuple(order), kind="compare")
            yield {"type": "question", **question.model_dump(mode="json")}
            for rater in raters:
                at += timedelta(seconds=1)
                answer = Preference(better=draw.randrange(2))
                made = Judgment(
                    question=question.id, rater=rater.id, answer=answer, at=at.isoformat()
                )
                yield {"type": "judgment", **made.model_dump(mode="json")}


def timed(name: str, run: Callable[[], Any]) -> Any:
    """Run, and say how long it took."""
    began = time.perf_counter()
    found = run()
    print(f"| {name} | {time.perf_counter() - began:.1f} s |", flush=True)
    return found


def main() -> None:
    """One table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--judgments", type=int, default=1_000_000)
    args = parser.parse_args()
    print(alone())
    print(f"\n| {args.judgments:,} judgments | time |\n|---|---|")
    with tempfile.TemporaryDirectory() as name:
        file, place = Path(name) / "judgments.jsonl", Path(name) / "study.db"
        with file.open("w") as out:
            out.writelines(canonical_json(row) + "\n" for row in rows(args.judgments))
        with Store(place) as store:
            report = timed("imported", lambda: import_file(store, file, format="accord"))
            assert report.judgments == args.judgments, report
            timed("frozen", lambda: store.freeze("v1"))
        with Store(place) as store:
            snapshot = timed("read as a snapshot", lambda: store.snapshot("v1"))
            groups = timed("its comparisons", lambda: snapshot.groups(even="keep"))
            assert sum(e.weight for g in groups for e in g.edges) == args.judgments
    print(f"\n{peak(device_of_choice()) / 2**30:.1f} GB held at most")


if __name__ == "__main__":
    main()

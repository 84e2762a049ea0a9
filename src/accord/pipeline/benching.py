"""Rows that `accord reward bench` asks a reward model about."""

from __future__ import annotations

from accord.core.errors import DataError
from accord.core.rundir import user_path
from accord.evals.reward_bench import BenchRow, bench_row
from accord.store.io.readers import BadRow, read_rows

__all__ = ["bench_rows"]


def bench_rows(name: str, tag: str, limit: int | None = None) -> tuple[list[BenchRow], int]:
    """The rows of a RewardBench file, and how many were left out: several right answers, none of Ties."""
    rows: list[BenchRow] = []
    left_out, path = 0, user_path(name)
    for place, row in read_rows(path):
        try:
            if isinstance(row, BadRow):
                raise row
            known = bench_row(row, tag)
        except BadRow as bad:
            where = f"{path}:{place} {bad.field}".rstrip()
            raise DataError(bad.reason, where=where, allowed=bad.allowed) from None
        left_out += known is None
        rows += [known] if known else []
        if len(rows) == limit:
            break
    return rows, left_out

"""A file or folder of results, whichever tool wrote it."""

from __future__ import annotations

import json
from pathlib import Path

from accord.core.errors import DataError
from accord.core.rundir import user_path
from accord.evals.outside.figures import OutsideResults
from accord.evals.outside.inspect_log import is_inspect, read_inspect, unpacked
from accord.evals.outside.lm_eval import is_lm_eval, read_lm_eval

__all__ = ["read_outside"]

FORMS = ("results_*.json", "[0-9]*T[0-9]*_*.json", "*.eval")  # Inspect's logs begin with their time
ALLOWED = "results_*.json of lm-eval, or a log of Inspect (.eval, .json)"


def read_outside(name: str | Path) -> OutsideResults:
    """The results of a file, or of the only one in a folder."""
    path = _file(user_path(name))
    if path.suffix == ".eval":
        return read_inspect(path, unpacked(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read ({error})", where=str(path), allowed=ALLOWED) from None
    if is_lm_eval(document):
        return read_lm_eval(path, document)
    if is_inspect(document):
        return read_inspect(path, document)
    raise DataError("holds no results", where=str(path), allowed=ALLOWED)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError("no such file", where=str(path), allowed=ALLOWED)
    every = sorted(p for form in FORMS for p in path.rglob(form))
    if len(every) == 1:
        return every[0]
    what = f"holds {len(every)} results" if every else "holds no results"
    shown = ", ".join(str(p.relative_to(path)) for p in every[:4])
    raise DataError(what, where=str(path), allowed=shown or ALLOWED, mend="name one file")

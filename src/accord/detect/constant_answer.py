"""One answer to everything: what pays a judge that can be fooled without reading the prompt."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.sharing import by_sharing

__all__ = ["constant_answer"]


@detector("constant_answer", version=2, panel=True)
def constant_answer(
    context: DetectorContext, *, least: int = 20, smallest: float = 0.2, large: float = 0.4
) -> Detector:
    """The share of answers (of `least` characters or more: yes and no may recur) given to another prompt too,
    letter for letter but for spaces."""

    def whole(text: str) -> list[str]:
        plain = " ".join(text.split())
        return [plain] if len(plain) >= least else []

    return by_sharing(
        "constant_answer", lambda r: whole(r.text), says="different prompts get the same answer",
        smallest=smallest, large=large,
    )  # fmt: skip

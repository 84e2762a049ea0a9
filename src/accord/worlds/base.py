"""A world: a task whose truth is known, so that *gold* stands beside what a model learned.

A world is a YAML file; its `form` (help_desk by default) says which class reads it. Everything else in accord
knows worlds by `World` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from accord.core.config import locate, read_yaml
from accord.core.errors import AccordError, ConfigError
from accord.core.measure import Measure
from accord.core.plugins import files_behind
from accord.core.registry import Registry
from accord.core.types import Frozen, Prompt, Response

if TYPE_CHECKING:
    from accord.feedback.simulated import SimulatedRater

__all__ = [
    "Candidate", "Case", "Lesson", "World", "code_behind", "faults", "form", "forms", "open_world", "truth",
    "worth",
]  # fmt: skip

DEFAULT = "help_desk"


class Candidate(Frozen):
    """A response of known kind."""

    kind: str
    text: str


class Case(Frozen):
    """A message, what would answer it, and candidate responses of known quality."""

    prompt: Prompt
    kind: str
    fact: str | None  # what it is about; None: nothing the assistant may decide
    candidates: tuple[Candidate, ...]
    group: str = (
        ""  # what belongs together: other draws of a message, all of a fact; "": its prompt
    )
    part: str = ""  # what is held out together, where that isn't the whole group
    held_out: bool = False  # no training sees it


@dataclass(frozen=True)
class Lesson:
    """What demonstrations are made of: cases, and the answer to any of them, short and padded."""

    cases: Sequence[Case]
    answer: str
    padded: str


class World(Protocol):
    """What a form of world gives."""

    @property
    def path(self) -> Path: ...

    @property
    def cases(self) -> Sequence[Case]:
        """Every message, in the file's order or that of their ids."""
        ...

    @property
    def by_prompt(self) -> dict[str, Case]:
        """The cases by prompt id."""
        ...

    @property
    def measures(self) -> Sequence[Measure]:
        """What `gold` measures, the whole first: its role is `truth`, between 0 and 1."""
        ...

    @property
    def lessons(self) -> Sequence[Lesson]: ...

    @property
    def raters(self) -> Sequence[SimulatedRater]:
        """Simulated raters of its own, for recipes that name none."""
        ...

    def gold(self, case: Case, response: Response) -> dict[str, float]:
        """The true scores of a response: of those of `measures` that apply to it, the first always."""
        ...

    def about(self) -> str:
        """What is in it, in a few words."""
        ...

    def faults(self) -> list[AccordError]:
        """What is wrong with its texts: candidates that do not score as what they are said to be…"""
        ...

    # A world may have `floors(case) -> dict[str, str]`: named answers that take no skill, to be beaten.


forms: Registry = Registry("form of world")
form = forms.register


def open_world(path: Path) -> World:
    """The world of a file; ConfigError with a line for each fault of its form."""
    import accord.worlds.assistant
    import accord.worlds.help_desk
    import accord.worlds.open_book  # noqa: F401 - they register the house's own

    data, lines = read_yaml(path)
    name = data.pop("form", DEFAULT)
    if not isinstance(name, str):
        raise ConfigError("is no name", where=locate(str(path), "form", lines))
    world: World = forms.entry(name, locate(str(path), "form", lines)).function(path, data, lines)
    return world


def code_behind(path: Path) -> dict[str, str]:
    """Hashes of the plain files that registered the form of a world."""
    return files_behind({"form": read_yaml(path)[0].get("form", DEFAULT)})


def truth(world: World, case: Case, response: Response) -> float:
    """The one true score of a response."""
    return world.gold(case, response)[world.measures[0].name]


def worth(world: World, case: Case, response: Response, measure: str = "") -> tuple[float, float]:
    """What a response is worth by one of the world's measures, more being better, and its truth. What is
    better low and does not apply was not done: 0. By a measure that is none of the world's, or is better high
    and does not apply, the truth."""
    known = world.gold(case, response)
    main = known[world.measures[0].name]
    low = any(m.name == measure and m.better == "less" for m in world.measures)
    return (-known.get(measure, 0.0) if low else known.get(measure, main)), main


def faults(path: Path) -> list[AccordError]:
    """All that is wrong with a world's file."""
    try:
        return open_world(path).faults()
    except AccordError as error:
        return list(error.each)

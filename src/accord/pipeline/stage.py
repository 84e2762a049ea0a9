"""What a kind of stage is: its keys as a strict schema, and one decorator that says everything else.

    @stage("word_count", reads={"data": Data}, run=count, report=section)
    class WordCount(StageConfig):
        data: str
        least: Count = 1

Functions may be named by a reference, "package.module:function", which is imported when it is needed: recipes
are read and checked without torch. docs/extending.md shows a whole kind in one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from accord.core.artifact import Artifact, Figures, Policy
from accord.core.config import Strict
from accord.core.errors import ConfigError
from accord.core.measure import Measure, by_name
from accord.core.plugins import load_installed, registers

__all__ = ["BASE", "Count", "Share", "Stage", "StageConfig", "gives", "kind_of", "kinds", "stage"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Ref = Callable[..., Any] | str
BASE = "base"  # the recipe's model, as a policy


class StageConfig(Strict):
    """The keys of a kind. `later` are keys that came after stages had been run: while unset they are not
    part of a stage's key, so that those stay done."""

    reads: ClassVar[Mapping[str, type[Artifact]]] = {}  # set by the decorator
    later: ClassVar[tuple[str, ...]] = ()
    kind: str

    def named(self, key: str) -> list[str]:
        """The stages that one of `reads` names."""
        value = getattr(self, key, None)
        return list(value) if isinstance(value, list) else [value] if value else []

    def parents(self) -> tuple[str, ...]:
        """Names of the stages this one reads."""
        return tuple(name for key in self.reads for name in self.named(key))

    def hashed(self) -> dict[str, Any]:
        """What of it decides the stage's key."""
        plain, was = self.model_dump(mode="json"), {new: old for old, new in self.renamed.items()}
        return {was.get(k, k): v for k, v in plain.items() if k not in self.later or v is not None}

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """Hashes of what it reads beside stages and its file, of a recipe in this folder."""
        return {}

    def check_names(self, place: Callable[[str], str]) -> None:
        """Raise ConfigError for a registered name or hyperparameter that is wrong."""

    def look(self, path: Path) -> list[str]:
        """What its file would bring, for `--check`; raises as the stage itself would."""
        return []

    def row_of(self, path: Path, prompt: str) -> str:
        """Where in its file a prompt (its id) first stands: `file:line `, or "" where it isn't found."""
        return ""

    def moved(self, facts: Mapping[str, Any], folder: Path) -> bool:
        """Whether what a finished stage left (its facts) is no longer where this says."""
        return False


@dataclass(frozen=True)
class Stage:
    """A kind of stage.

    reads: config key -> what the stages it names must give. gives: what it leaves.
    version: raise it when the outputs change for the same config: old ones are then made again.
    run(ctx) -> StageResult: does the work.
    work(ctx, known) -> Work: what it will do, for `accord plan memory`; none: not counted.
    writes(ctx, known, policy, most) -> lengths: of a policy, how long its answers are likely to be (tokens);
        none: as long as those of its `init`.
    report(done) -> Section: what the report says of it.
    measures: declarations of the figures it leaves, or a function that gives them; a figure whose declaration
        depends on the run carries it.
    file: a key that names a file it reads. inputs of the config: whatever else is part of its key.
    each: a key that lists stages; one stage is made for each of them.
    uses_model: whether it loads a model. One that does not has the recipe's seed as it is.
    free: it asks, judges and spends nothing and takes seconds, so `accord plan` may run it.
    """

    kind: str
    config: type[StageConfig]
    run: Ref
    version: int = 1
    reads: Mapping[str, type[Artifact]] = field(default_factory=dict)
    gives: type[Artifact] = Figures
    work: Ref | None = None
    writes: Ref | None = None
    report: Ref | None = None
    measures: Sequence[Measure] | Ref = ()
    file: str | None = None
    each: str | None = None
    uses_model: bool = True
    free: bool = False

    def function(self, name: str) -> Callable[..., Any] | None:
        """One of its functions, imported now where it is a reference; None where it has none."""
        ref: Ref | None = getattr(self, name)
        if not isinstance(ref, str):
            return ref
        module, _, attribute = ref.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), attribute)
        return function

    def declared(self) -> dict[str, Measure]:
        """The measures it declares, by name."""
        given = self.measures
        return by_name(given if isinstance(given, list | tuple) else self.call("measures"))

    def call(self, name: str, *args: Any) -> Any:
        """Call one of its functions; None where it has none."""
        function = self.function(name)
        return function(*args) if function else None


_KINDS: dict[str, Stage] = {}
C = TypeVar("C", bound=type[StageConfig])


def stage(kind: str, **facts: Any) -> Callable[[C], C]:
    """Decorator of a config class: register a kind of stage. `facts` are the fields of `Stage`."""

    def decorate(config: C) -> C:
        declared, before = Stage(kind, config, **facts), _KINDS.get(kind)
        for key in declared.reads:
            if key not in declared.config.model_fields:
                raise ConfigError(
                    f"reads {key!r}, which is no key of it", where=f"stage kind {kind}"
                )
        theirs = before.config.__module__ if before else None
        if not registers(config.__module__, "stage kind", kind, theirs):
            raise ConfigError("is registered twice", where=f"stage kind {kind}")
        _KINDS[kind] = declared
        config.reads = declared.reads
        return config

    return decorate


def kinds() -> dict[str, Stage]:
    """All kinds there are, the house's own first."""
    import accord.pipeline.stages  # noqa: F401 - its modules register theirs

    load_installed()
    return dict(_KINDS)


def kind_of(kind: Any, where: str = "") -> Stage:
    """A kind by its name (or by a config of it); ConfigError lists the kinds there are."""
    name = kind.kind if isinstance(kind, StageConfig) else kind
    known = kinds()
    if not isinstance(name, str) or name not in known:
        mend = (
            ""
            if not name
            else "a kind of your own: plugins: [FILE.py] in the recipe, or --plugin FILE.py"
        )
        raise ConfigError(
            f"unknown kind {name!r}" if name else "required key kind is missing",
            where=where, allowed=", ".join(known), mend=mend,
        )  # fmt: skip
    return known[name]


def gives(kind: Any) -> type[Artifact]:
    """What stages of a kind give; `base` gives a policy."""
    return Policy if kind == BASE else kind_of(kind).gives

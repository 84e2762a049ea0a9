"""Extension by function: a decorator registers a factory, its signature is its config schema.

    @preference_loss("cauchy", needs_reference=True)
    def cauchy(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor: ...

`registry.make("cauchy", beta=0.2)` checks the keyword-only parameters against their annotations and
returns the function with them bound. Packages register theirs through the entry point `accord.plugins`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from accord.core.errors import ConfigError

__all__ = ["Entry", "NonNegative", "Positive", "Registry", "UnitInterval", "explain"]

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def explain(error: ValidationError, schema: type[BaseModel], where: str) -> ConfigError:
    """The first pydantic error as one line: the key, what it got, what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    place = f"{where}.{key}" if where and key else where or key
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(schema_keys(schema, first["loc"][:-1])) or "nothing"
        return ConfigError(f"unknown key {first['loc'][-1]!r}", where=place, allowed=allowed)
    if first["type"] == "missing":
        return ConfigError("required key is missing", where=place, mend="add it")
    context = first.get("ctx", {})
    allowed = ", ".join(f"{_BOUNDS[k]} {v:g}" for k, v in context.items() if k in _BOUNDS)
    if not allowed and "expected" in context:
        allowed = str(context["expected"])
    got = repr(first["input"])
    what = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{what} (got {got[:80]})", where=place, allowed=allowed)


def schema_keys(schema: Any, loc: tuple[Any, ...]) -> list[str]:
    """The field names of the model reached from `schema` by following `loc`."""
    for part in loc:
        is_model = isinstance(schema, type) and issubclass(schema, BaseModel)
        if is_model and part in schema.model_fields:
            schema = schema.model_fields[part].annotation
        models = [a for a in typing.get_args(schema) if isinstance(a, type)]
        schema = next((m for m in models if issubclass(m, BaseModel)), schema)
    return list(schema.model_fields) if hasattr(schema, "model_fields") else []


@dataclass(frozen=True)
class Entry:
    """A registered factory, the schema made from its signature, and facts about it."""

    name: str
    function: Callable[..., Any]
    schema: type[BaseModel]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def known(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """The facts for these hyperparameters: one may be a function of them."""
        return {k: v(hyper) if callable(v) else v for k, v in self.facts.items()}

    def check(self, hyper: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """Validated hyperparameters with defaults filled in; ConfigError names the key."""
        try:
            return self.schema.model_validate(dict(hyper)).model_dump()
        except ValidationError as error:
            raise explain(error, self.schema, where or self.name) from None


def _schema_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    return create_model(name, __config__=config, **fields)


class Registry:
    """Factories of one kind (losses, rewards, evaluations…) by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._plugins_loaded = False

    def register(self, name: str, **facts: Any) -> Callable[[Callable[..., Any]], Any]:
        """Decorator: register the function under `name`; keyword-only parameters are its config."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            if name in self._entries:
                raise ConfigError(f"{self.kind} {name!r} is registered twice", where=name)
            self._entries[name] = Entry(name, function, _schema_of(name, function), facts)
            return function

        return decorate

    def names(self) -> list[str]:
        """All registered names, third-party ones included, sorted."""
        self._load_plugins()
        return sorted(self._entries)

    def entry(self, name: str, where: str = "") -> Entry:
        """The entry called `name`; ConfigError lists the names there are."""
        if name not in self._entries:
            self._load_plugins()
        if name not in self._entries:
            raise ConfigError(
                f"unknown {self.kind} {name!r}", where=where, allowed=", ".join(self.names())
            )
        return self._entries[name]

    def make(self, name: str, *, where: str = "", **hyper: Any) -> Callable[..., Any]:
        """The function called `name` with its checked hyperparameters bound."""
        entry = self.entry(name, where)
        return functools.partial(entry.function, **entry.check(hyper, where))

    def configured(
        self, config: Mapping[str, Any], where: str
    ) -> tuple[Entry, functools.partial[Any]]:
        """Entry and bound function of `{name: …, hyperparameters}`, as recipes write it."""
        hyper = dict(config)
        name = hyper.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(
                "required key name is missing", where=where, allowed=", ".join(self.names())
            )
        entry = self.entry(name, f"{where}.name" if where else "name")
        return entry, functools.partial(entry.function, **entry.check(hyper, where))

    def _load_plugins(self) -> None:
        if not self._plugins_loaded:
            self._plugins_loaded = True
            for point in entry_points(group="accord.plugins"):
                point.load()

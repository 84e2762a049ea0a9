"""Extension by function: a decorator registers a factory, its signature is its config schema.

    @preference_loss("cauchy", needs_reference=True)
    def cauchy(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor: ...

`registry.make("cauchy", beta=0.2)` checks the keyword-only parameters against their annotations and
returns the function with them bound. Packages register theirs through the entry point `accord.plugins`, plain
files by their path (`core/plugins.py`).
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from accord.core.errors import ConfigError, Faults
from accord.core.plugins import load_installed, registers

__all__ = ["Entry", "NonNegative", "Positive", "Registry", "UnitInterval", "explain"]

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]

F = TypeVar("F", bound=Callable[..., Any])
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def explain(
    error: ValidationError, schema: type[BaseModel], where: str, data: Any = None
) -> ConfigError:
    """A pydantic error as a line for each fault: the key, what it got, what is allowed. Unknown keys come
    first: a typo is often why another key is missing. `data` is what was validated."""
    faults = sorted(_of_unions(error.errors(), data), key=lambda e: e["type"] != "extra_forbidden")
    typos: set[str] = set()
    explained = [line for e in faults if (line := _line(e, schema, where, data, typos))]
    return explained[0] if len(explained) == 1 else Faults(explained)


def _line(
    fault: Any, schema: type[BaseModel], where: str, data: Any, typos: set[str]
) -> ConfigError | None:
    """One fault as an error; None for a key that is missing since it was mistyped (`typos`)."""
    loc = _keys(fault, data)
    key = ".".join(map(str, loc))
    place = f"{where}.{key}" if where and key else where or key
    if fault["type"] == "extra_forbidden":
        known = schema_keys(schema, fault["loc"][:-1])
        now = getattr(schema, "renamed", {}).get(str(loc[-1])) if len(loc) == 1 else None
        meant = [now] if now else get_close_matches(str(loc[-1]), known, n=1)
        typos |= {".".join(map(str, (*loc[:-1], m))) for m in meant}
        mend = f"it is called {now} now" if now else f"did you mean {meant[0]}?" if meant else ""
        allowed = ", ".join(known) or "nothing"
        return ConfigError(f"unknown key {loc[-1]!r}", where=place, allowed=allowed, mend=mend)
    if fault["type"] == "missing":
        if key in typos:
            return None
        return ConfigError("required key is missing", where=place, mend="add it")
    context = fault.get("ctx", {})
    allowed = ", ".join(f"{_BOUNDS[k]} {v:g}" for k, v in context.items() if k in _BOUNDS)
    if not allowed and "expected" in context:
        allowed = str(context["expected"])
    got = repr(fault["input"])
    what = fault["msg"].removeprefix("Value error, ")
    return ConfigError(f"{what} (got {got[:80]})", where=place, allowed=allowed)


def _keys(fault: Any, data: Any) -> tuple[Any, ...]:
    """Where a fault is, in the user's own keys: pydantic puts names of a union's branches among them."""
    if data is None:
        return tuple(fault["loc"])
    keys: list[Any] = []
    for n, part in enumerate(fault["loc"]):
        last = n == len(fault["loc"]) - 1 and fault["type"] in ("missing", "extra_forbidden")
        there = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        )
        if there:
            data = data[part]
        if there or last:
            keys.append(part)
    return tuple(keys)


def _of_unions(faults: Sequence[Any], data: Any) -> list[Any]:
    """Of a value that fits no branch of a union, the faults of the branch that came nearest: one that
    looked inside it, else all of them as one fault."""
    if data is None:
        return list(faults)
    branches: dict[tuple[Any, ...], dict[Any, list[Any]]] = {}
    for fault in faults:
        keys, loc = _keys(fault, data), tuple(fault["loc"])
        at = next((i for i, (a, b) in enumerate(zip(loc, keys, strict=False)) if a != b), len(keys))
        tag = loc[at] if at < len(loc) else None
        branches.setdefault(loc[:at] if tag is not None else loc, {}).setdefault(tag, []).append(
            fault
        )
    kept: list[Any] = []
    for at_key, by_tag in branches.items():
        inside = [fs for fs in by_tag.values() if any(len(f["loc"]) > len(at_key) + 1 for f in fs)]
        if None in by_tag or inside:
            kept += by_tag.get(None, []) + [f for fs in inside for f in fs]
            continue
        first = next(iter(by_tag.values()))[0]
        allowed = dict.fromkeys(
            f["msg"].removeprefix("Input should be ") for fs in by_tag.values() for f in fs
        )
        kept.append({**first, "msg": f"Input should be {' or '.join(allowed)}", "ctx": first.get("ctx", {})}
                    if len(allowed) > 1 else first)  # fmt: skip
    return kept


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
            raise explain(error, self.schema, where or self.name, dict(hyper)) from None


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

    def register(self, name: str, **facts: Any) -> Callable[[F], F]:
        """Decorator: register the function under `name`; keyword-only parameters are its config."""

        def decorate(function: F) -> F:
            before = self._entries.get(name)
            theirs = before.function.__module__ if before else None
            if not registers(function.__module__, self.kind, name, theirs):
                raise ConfigError(f"{self.kind} {name!r} is registered twice", where=name)
            self._entries[name] = Entry(name, function, _schema_of(name, function), facts)
            return function

        return decorate

    def names(self) -> list[str]:
        """All registered names, third-party ones included, sorted."""
        load_installed()
        return sorted(self._entries)

    def entry(self, name: str, where: str = "") -> Entry:
        """The entry called `name`; ConfigError lists the names there are."""
        if name not in self._entries:
            load_installed()
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

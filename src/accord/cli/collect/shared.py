"""What the commands of `accord collect` share: a site by its store, and which packages they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from accord.core.errors import DISTRIBUTION, ConfigError

if TYPE_CHECKING:
    from accord.web.site import Site

__all__ = ["STORE", "StoreAt", "Where", "its_packages", "site_of"]

STORE = "study.db"
StoreAt = Annotated[str, typer.Option("--store", help="A file or URL of the judgment store.")]
Where = Annotated[str, typer.Argument(help="A file or URL of the judgment store.")]


@contextlib.contextmanager
def its_packages() -> Iterator[None]:
    """ConfigError when packages that accord.web needs are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("accord"):
            raise
        raise ConfigError(
            f"needs the package {error.name}", where="accord collect",
            mend=f"pip install '{DISTRIBUTION}[web]'",
        ) from None  # fmt: skip


def site_of(store: str) -> Site:
    """The site over an existing store."""
    from accord.store import Store

    with its_packages():
        from accord.web.site import Site
    return Site(Store(store, create=False))

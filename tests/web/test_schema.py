"""schemathesis on the API's own description: what it allows and forbids is what the server does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from accord.store import Store
from accord.web.app import create_app
from accord.web.guard import tokens
from accord.web.site import Site
from accord.web.work.studies import load_study
from tests.web.conftest import ORIGIN, pairs_study

pytestmark = pytest.mark.slow
# a header always sent can't be taken out (test_api tries that), what this test puts right can't be wrong,
# and that a comparison has two responses is no matter of a schema
BEYOND = [ignored_auth, negative_data_rejection, positive_data_acceptance]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """(the description as schemathesis reads it, headers with a token)."""
    with Store(tmp_path_factory.mktemp("schema") / "study.db") as store:
        site = Site(store, origin=ORIGIN)
        load_study(site, pairs_study())
        token = tokens.add(site, "tents", "test", list(tokens.SCOPES), "test")
        where = {"host": ORIGIN.removeprefix("http://")}
        schema = schemathesis.openapi.from_asgi(
            "/api/openapi.json", create_app(site), headers=where
        )
        yield schema, {**where, "authorization": f"Bearer {token}"}


def operations(schema: Any) -> dict[str, Any]:
    return {one.ok().label: one.ok() for one in schema.get_all_operations()}


@pytest.mark.parametrize("study", ["tents", None])
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(
    "name", ["POST questions", "GET questions", "GET progress", "GET judgments"]
)
def test_the_server_answers_as_described(
    found: tuple[Any, dict[str, str]], name: str, mode: str, study: str | None
) -> None:
    schema, headers = found
    method, path = name.split()
    operation = operations(schema)[f"{method} /api/v1/studies/{{study}}/{path}"]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    heard = []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def ask(case: Any) -> None:
        if study:
            case.path_parameters["study"] = study
        told = case.call_and_validate(
            headers=headers, excluded_checks=BEYOND if study else [ignored_auth]
        )
        heard.append(told.status_code)

    ask()
    assert len(operations(schema)) == 4
    assert 500 not in heard
    if study and mode == "positive":
        assert set(heard) & {200, 422}

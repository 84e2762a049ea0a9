"""Types, hashing, seeds, run directories and the registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from accord.core.errors import AccordError, RunError
from accord.core.hashing import canonical_json, content_hash, tree_hash
from accord.core.registry import Positive, Registry
from accord.core.rundir import MetricsLog, hold, make_dir, read_jsonl, write_json, write_jsonl
from accord.core.seeds import derive_seed, rng
from accord.core.types import (
    Edge,
    Group,
    Judgment,
    Message,
    Metric,
    Preference,
    Prompt,
    Question,
    Response,
    Thumb,
)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_hash_does_not_depend_on_key_order(data: dict[str, object]) -> None:
    backwards = dict(reversed(list(data.items())))
    assert content_hash(data) == content_hash(backwards)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_tree_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = tree_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert tree_hash(tmp_path) != before


def test_ids_are_of_the_content_and_tags_are_not_content() -> None:
    one = Prompt.user("hi", system="s", kind="plain")
    two = Prompt(messages=(Message(role="system", content="s"), Message(role="user", content="hi")))
    assert one.id == two.id
    assert one.id != Prompt.user("hi").id
    response = Response(text="yes", source="person:a")
    assert response.id_for(one) != response.id_for(Prompt.user("hi"))


def test_judgments_are_frozen_and_known_by_content() -> None:
    judgment = Judgment(question="q", rater="r", answer=Preference(better=0), at="2026-01-01")
    assert judgment.id == Judgment.model_validate(judgment.model_dump()).id
    with pytest.raises(ValidationError):
        judgment.at = "later"
    with pytest.raises(ValidationError):
        Judgment.model_validate(judgment.model_dump() | {"extra": 1})


def test_group_gives_its_pairs_with_sources() -> None:
    responses = tuple(Response(text=t) for t in "abc")
    edges = (Edge(better=2, worse=0, p=0.8, sources=("j1",)), Edge(better=1, worse=0))
    pairs = Group(prompt=Prompt.user("q"), responses=responses, edges=edges).pairs()
    assert [(p.chosen.text, p.rejected.text, p.p) for p in pairs] == [
        ("c", "a", 0.8),
        ("b", "a", 1),
    ]
    assert pairs[0].sources == ("j1",)


def test_metric_reads_as_value_interval_n() -> None:
    assert str(Metric(value=0.714, low=0.66, high=0.76, n=312)) == "0.714 [0.66, 0.76] n=312"
    assert str(Metric(value=None, n=0, note="no data")) == "undefined (no data) n=0"


def test_seeds_are_streams_by_name() -> None:
    assert derive_seed(1, "a") == derive_seed(1, "a") != derive_seed(1, "b")
    assert 0 <= derive_seed(2**60, "x", 3) < 2**63
    assert rng(1, "a").random() == rng(1, "a").random()


def test_metrics_log_forgets_what_came_after_the_step(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for step in (1, 2, 3):
        log.add(step, {"loss": step / 2})
    with log.path.open("a") as file:
        file.write('{"step": 4, "los')
    assert [r["step"] for r in MetricsLog(log.path, 2).rows()] == [1, 2]


def test_two_processes_cannot_hold_one_directory(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path("src").resolve())!r})
from pathlib import Path
from accord.core.rundir import hold
with hold(Path({str(tmp_path)!r})):
    pass
"""
    with hold(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is working here" in done.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_directory_that_cannot_be_made_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose another with --runs DIR"):
        make_dir(tmp_path / "file" / "runs")


def test_json_files_round_trip(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"x": 1}, Prompt.user("é")])
    assert read_jsonl(tmp_path / "a.jsonl")[1]["messages"][0]["content"] == "é"
    write_json(tmp_path / "b.json", {"k": 1})
    assert not list(tmp_path.glob(".*tmp"))


def test_registry_makes_a_schema_from_a_signature() -> None:
    registry = Registry("thing")

    @registry.register("double", speed="fast")
    def double(x: float, *, factor: Positive = 2.0) -> float:
        return x * factor

    assert registry.make("double", factor=3)(2.0) == 6.0
    assert registry.entry("double").facts == {"speed": "fast"}
    with pytest.raises(AccordError, match=r"factor: .*allowed: > 0"):
        registry.make("double", factor=-1.0)
    with pytest.raises(AccordError, match="registered twice"):
        registry.register("double")(double)


def test_one_exception_tree() -> None:
    from accord.core import errors

    for name in errors.__all__:
        kind = getattr(errors, name)
        if not isinstance(kind, type):
            continue
        assert issubclass(kind, AccordError)
        assert name in str(errors.__doc__)
    told = AccordError("is bad", where="f:1", allowed="a, b", mend="fix\n it")
    assert str(told) == "f:1: is bad; allowed: a, b; fix it"


@pytest.mark.parametrize("facts", [{"at": "yesterday"}, {"seconds": float("nan")}])
def test_a_judgment_has_a_time_and_finite_seconds(facts: dict[str, object]) -> None:
    said = {"question": "q", "rater": "r", "answer": Thumb(up=True), "at": "2026-11-01T10:00:00Z"}
    Judgment(**said)
    with pytest.raises(ValueError, match=r"ISO 8601|finite"):
        Judgment(**{**said, **facts})


def test_a_changed_copy_has_an_id_of_its_own() -> None:
    asked = Question(prompt="p", responses=("a", "b"), kind="compare")
    assert asked.id  # computed, and kept
    turned = asked.model_copy(update={"responses": ("b", "a")})
    assert turned.id == Question(prompt="p", responses=("b", "a"), kind="compare").id != asked.id
    assert asked.model_copy() == asked

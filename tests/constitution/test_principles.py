"""A constitution as a file: read, refused by line, drawn by weight, compared."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from accord.constitution.principles import (
    Constitution,
    Principle,
    chosen,
    differences,
    read_constitution,
    wrong,
)
from accord.constitution.requests import critique_request, revision_request
from accord.core.errors import ConfigError
from accord.core.types import Prompt
from tests.test_cli import accord, assert_one_line


def principle(id: str, weight: float = 1.0, **more: object) -> Principle:
    return Principle.model_validate({
        "id": id, "text": f"{id} is kept.", "critique": f"Is {id} kept?", "revision": f"Keep {id}.",
        "question": f"Which answer keeps {id}?", "category": "c", "weight": weight, **more,
    })  # fmt: skip


def test_the_house_s_own_has_what_it_should() -> None:
    found = read_constitution()
    assert len(found.principles) >= 16
    wanted = {"harm", "honesty", "helpfulness", "toxicity", "autonomy", "privacy", "over-caution"}
    assert wanted == set(found.categories.values())
    assert wrong(found) == []


def test_principles_are_drawn_by_weight() -> None:
    """Of 6,000 comparisons the shares 1, 2 and 5 of 8 come back (four standard errors); two for one
    comparison are never the same, and a comparison is always asked by the same."""
    given = Constitution(
        name="c", principles=[principle("a"), principle("b", 2.0), principle("d", 5.0)]
    )
    n = 6000
    first = Counter(chosen(given, f"{k}")[0].id for k in range(n))
    for id, share in (("a", 1 / 8), ("b", 2 / 8), ("d", 5 / 8)):
        assert abs(first[id] / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    assert all(len({p.id for p in chosen(given, f"{k}", 2)}) == 2 for k in range(50))
    assert chosen(given, "x", 2) == chosen(given, "x", 2)
    assert chosen(given, "x", 9) == chosen(given, "x", 3)


def test_critique_and_revision_are_one_conversation() -> None:
    prompt, p = Prompt.user("How?"), principle("care")
    asked = revision_request(prompt, "Like so.", "It is rude.", p)
    assert [m.role for m in asked.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert asked.messages[:3] == critique_request(prompt, "Like so.", p).messages
    assert asked.messages[1].content == "Like so."
    assert p.critique in (asked.messages[2].content or "")
    assert p.revision in (asked.messages[4].content or "")


def test_the_critic_and_revision_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    rows = [
        {"critic": "What is rude?", "revision": "Be kind."},
        {"critic": "Why?", "revision": "Say."},
    ]
    path.write_text(json.dumps({"constitutions": rows, "system_chat": []}))
    found = read_constitution(path)
    assert [(p.id, p.critique, p.revision) for p in found.principles] == [
        ("p01", "What is rude?", "Be kind."), ("p02", "Why?", "Say."),
    ]  # fmt: skip
    assert "Be kind." in found.principles[0].question


@pytest.mark.shared_data
def test_a_published_constitution_is_read() -> None:
    from tests.conftest import SHARED_DATA

    found = read_constitution(SHARED_DATA / "hf_constitution" / "constitution_anthropic.json")
    assert len(found.principles) == 16


def test_what_changed_is_told() -> None:
    old = Constitution(name="c", principles=[principle("a"), principle("b"), principle("e")])
    new = Constitution(
        name="c",
        principles=[principle("a", 2.0), principle("b", question="Which answer?", version=2), principle("f")],
    )  # fmt: skip
    told = differences(old, new)
    assert told[:2] == ["+ f: f is kept.", "- e: e is kept."]
    assert "~ a.weight: 1.0 -> 2.0 (its version is the same" in told[2]
    assert told[3] == "~ b.question: 'Which answer keeps b?' -> 'Which answer?'"
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["principles"][0].pop("question"), "c.yaml:4 principles.0.question"),
        (lambda d: d["principles"].append(d["principles"][0]), "two principles are called 'a'"),
        (lambda d: d["principles"][0].update(wieght=2.0), "did you mean weight?"),
        (lambda d: d.update(principles=[]), "principles"),
    ],
)
def test_faults_name_their_place(tmp_path: Path, change: object, words: str) -> None:
    plain = {"name": "c", "version": 1, "principles": [principle("a").model_dump()]}
    change(plain)  # type: ignore[operator]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    with pytest.raises(ConfigError) as fault:
        read_constitution(path)
    assert words in str(fault.value)


def test_in_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = accord(capsys, "constitution", "show")
    assert (code, "no-needless-refusal" in out) == (0, True)
    code, out, _ = accord(capsys, "constitution", "check")
    assert (code, "18 principles" in out, "0 to look at" in out) == (0, True, True)
    path = tmp_path / "mine.yaml"
    given = read_constitution().but(["respect"])
    path.write_text(yaml.safe_dump(given.model_dump(), sort_keys=False))
    code, out, _ = accord(capsys, "constitution", "diff", "default", str(path))
    assert (code, out.startswith("- respect:")) == (0, True)
    code, _, error = accord(capsys, "constitution", "check", "nowhere.yaml")
    assert_one_line(code, error, "no such constitution")

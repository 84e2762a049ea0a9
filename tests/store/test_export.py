"""Export: what goes out comes back in, as far as each format can carry it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.core.errors import ConfigError, DataError
from accord.core.types import Message, Pair, Preference, Prompt, Response, Thumb, Writing
from accord.store import Snapshot, Store, export, import_file, row_formats
from tests.store.words import ANNA, BEN, BOOT, COMPARE, E, ask, every, fill, says

HARD = [
    "emoji 👩‍🚀🥾 and accents é",
    "שלום العربية \u202eabc\u202c",
    "a NUL \x00 inside",
    "lines\r\nof\rall\nkinds\x85\u2028\u2029\x0b\x1f.",
    '"quotes", commas, \\backslashes\\ and =FORMULA()',
    "x" * 100_000,
    '[{"a": 1}]',
    "null",
    "Human: not a turn",
    "  spaces around  ",
]
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".parquet", "")
FLAT = [
    f for f in row_formats.names() if f not in ("accord", "stepwise", "argilla", "label_studio")
]
PAIRS = ("preference", "preference_text", "implicit")


def study(store: Store, texts: list[str]) -> Snapshot:
    """A pair, a thumb and a demonstration with each text in every place."""
    for i, text in enumerate(texts):
        prompt = Prompt(messages=(Message(role="user", content=f"{i} {text}"),))
        a, b = Response(text=text, source="m"), Response(text=f"{text}!", source="m")
        store.add_prompts([prompt])
        store.add_responses(prompt, [a, b])
        store.add_raters([ANNA])
        compare = ask("compare", a, b, prompt=prompt)
        thumb, write = ask("thumb", a, prompt=prompt), ask("write", prompt=prompt)
        store.add_questions([compare, thumb, write])
        store.add_judgments([
            says(ANNA, compare, Preference(better=1)),
            says(ANNA, thumb, Thumb(up=bool(i % 2))),
            says(ANNA, write, Writing(text=text)),
        ])  # fmt: skip
    return store.freeze("out")


def told(snapshot: Snapshot, format: str) -> list[Any]:
    """What of a snapshot a format can carry."""
    if format in PAIRS:
        return sorted((p.prompt.id, p.chosen.text, p.rejected.text) for p in snapshot.pairs())
    if format == "unpaired":
        return sorted((x.prompt.id, x.response.text, x.desirable) for x in snapshot.labelled())
    return sorted((d.prompt.id, d.response.text) for d in snapshot.demonstrations())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("format", FLAT)
def test_what_goes_out_comes_back(store: Store, tmp_path: Path, format: str, suffix: str) -> None:
    out = study(store, HARD)
    path = tmp_path / f"out{suffix}"
    n = export(out, path, format=format).rows
    with Store(tmp_path / "again.db") as again:
        report = import_file(again, path)
        assert (report.rows, report.judgments) == (n, n) == (len(HARD), len(HARD))
        assert report.format == {"preference_text": "preference"}.get(format, format)
        assert told(again.freeze("in"), format) == told(out, format)


CHAR = st.characters(exclude_categories=["Cs"])
WORDS = st.text(CHAR, min_size=1, max_size=30).filter(str.strip)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), WORDS), max_size=3),
    WORDS,
    WORDS,
    WORDS,
)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_conversation_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[Any, str]],
    last: str,
    a: str,
    b: str,
) -> None:
    turns = [*before, ("user", last)]
    prompt = Prompt(messages=tuple(Message(role=r, content=c) for r, c in turns))
    better, worse = Response(text=a), Response(text=b + a)
    folder = tmp_path_factory.mktemp("any")
    with Store(folder / "s.db") as store, Store(folder / "t.db") as again:
        store.add_prompts([prompt])
        store.add_responses(prompt, [better, worse])
        store.add_raters([ANNA])
        question = ask("compare", better, worse, prompt=prompt)
        store.add_questions([question])
        store.add_judgments([says(ANNA, question, Preference(better=0))])
        out = store.freeze("out")
        for format in ("preference", "implicit"):
            export(out, folder / "out.jsonl", format=format)
            import_file(again, folder / "out.jsonl", rater=format)
        (pair,) = again.freeze("in").pairs()
        assert (pair.prompt, pair.chosen.text, pair.rejected.text) == (prompt, a, b + a)


def test_a_pair_s_facts_go_out_with_it(store: Store, tmp_path: Path) -> None:
    answers = [says(ANNA, COMPARE, Preference(better=0)), says(BEN, COMPARE, Preference(better=0))]
    fill(store).add_judgments(answers)
    for format in PAIRS:
        export(store.freeze("v1"), tmp_path / "a.jsonl", format=format)
        row = json.loads((tmp_path / "a.jsonl").read_text())
        assert (row["p"], row["weight"], row["agreement"]) == (1.0, 2.0, 1.0)
        assert row["sources"] == [j.id for j in answers]
    assert row["chosen"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Does the tent leak?"},
        {"role": "assistant", "content": "no"},
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_accord_s_own_format_loses_nothing(store: Store, tmp_path: Path, suffix: str) -> None:
    first = every()
    fill(store).add_judgments(first)
    second = says(ANNA, COMPARE, Preference(better=None), supersedes=first[0].id)
    third = says(ANNA, COMPARE, Preference(better=0), supersedes=second.id)
    store.add_judgments([second, third])
    frozen = store.freeze("v1")
    n = export(frozen, tmp_path / f"a{suffix}", format="accord").rows
    with Store(tmp_path / "again.db") as again:
        report = import_file(again, tmp_path / f"a{suffix}")
        assert (report.rows, report.judgments) == (n, 9)
        assert again.judgments() == store.judgments()
        assert again.freeze("v1").sha256 == frozen.sha256
        assert again.prompts() == store.prompts()
        assert [r for r in store.responses() if r not in again.responses()] == [(BOOT.id, E)]
        assert again.questions() == store.questions()
        assert again.raters() == [ANNA]
        again_before = again.counts()
        assert import_file(again, tmp_path / f"a{suffix}").judgments == 0
        assert again.counts() == again_before
        assert again.verify() == 9
    with Store(tmp_path / "backwards.db") as again:
        if suffix == ".jsonl":
            path = tmp_path / "b.jsonl"
            lines = (tmp_path / "a.jsonl").read_text("utf-8").strip().split("\n")
            path.write_text("\n".join(reversed(lines)), "utf-8")
            assert import_file(again, path).judgments == 9
            assert again.freeze("v1").sha256 == frozen.sha256


def test_a_snapshot_before_a_correction_goes_out_as_it_was(store: Store, tmp_path: Path) -> None:
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(store).add_judgments([first])
    frozen = store.freeze("v1")
    store.add_judgments([says(ANNA, COMPARE, Preference(better=1), supersedes=first.id)])
    export(frozen, tmp_path / "a.jsonl", format="accord")
    with Store(tmp_path / "again.db") as again:
        import_file(again, tmp_path / "a.jsonl")
        assert again.freeze("v1").sha256 == frozen.sha256


def pair_of(store: Store, prompt: Prompt, text: str) -> Snapshot:
    a, b = Response(text=text), Response(text="b")
    store.add_prompts([prompt])
    store.add_responses(prompt, [a, b])
    store.add_raters([ANNA])
    question = ask("compare", a, b, prompt=prompt)
    store.add_questions([question])
    store.add_judgments([says(ANNA, question, Preference(better=0))])
    return store.freeze("v1")


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (Prompt.user("\n\nHuman: a\n\nAssistant: b"), "c"),
        (Prompt.user("a\n\nAssistant: b", system="s"), "c"),
        (Prompt.user("a"), "\n\nAssistant: c"),
        (Prompt(messages=(Message(role="tool", content="3"),)), "c"),
    ],
)
def test_what_has_no_text_form_is_not_written_as_text(
    store: Store, tmp_path: Path, prompt: Prompt, text: str
) -> None:
    frozen = pair_of(store, prompt, text)
    with pytest.raises(DataError, match=f"prompt {prompt.id}: .*; export messages"):
        export(frozen, tmp_path / "a.jsonl", format="preference_text")
    assert not (tmp_path / "a.jsonl").exists()
    export(frozen, tmp_path / "a.jsonl")
    with Store(tmp_path / "again.db") as again:
        import_file(again, tmp_path / "a.jsonl")
        assert told(again.freeze("in"), "preference") == told(frozen, "preference")


WRONG = {
    "unknown format": ("a.jsonl", "dpo", "unknown format 'dpo'; allowed: accord, argilla"),
    "unknown suffix": ("a.xlsx", "preference", "can't write .xlsx files; allowed: .jsonl, .json"),
    "types in CSV": (
        "a.csv",
        "accord",
        "can't hold rows of format accord; allowed: .jsonl, .jsonl.gz",
    ),
    "types in CSV by another name": ("a.jsonl.csv", "accord", "can't hold rows of format accord"),
    "nothing of it": ("a.jsonl", "messages", "holds nothing of format messages"),
    "a folder": ("folder.jsonl", "preference", "can't be written (Is a directory)"),
    "a file for a folder": ("file", "preference", "can't be written ("),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_target_that_cannot_be_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    target, format, words = WRONG[name]
    fill(store).add_judgments([says(ANNA, COMPARE, Preference(better=0))])
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ConfigError, DataError)) as error:
        export(store.freeze("v1"), tmp_path / target, format=format)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert [p for p in sorted(tmp_path.iterdir()) if "-wal" not in p.name] == [
        p for p in before if "-wal" not in p.name
    ]


def test_a_replaced_file_is_whole(store: Store, tmp_path: Path) -> None:
    fill(store).add_judgments([says(ANNA, COMPARE, Preference(better=0))])
    (tmp_path / "a.json").write_text("old")
    export(store.freeze("v1"), tmp_path / "new" / "a.json")
    assert len(json.loads((tmp_path / "new" / "a.json").read_text())) == 1
    export(store.freeze("v1"), tmp_path / "a.json")
    assert len(json.loads((tmp_path / "a.json").read_text())) == 1


DATA = Path(os.environ.get("ACCORD_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
HARMLESS = DATA / "hh_rlhf" / "harmless-base.jsonl.gz"


@pytest.mark.shared_data
@pytest.mark.skipif(not HARMLESS.exists(), reason=f"no {HARMLESS} (set ACCORD_SHARED_DATA)")
def test_the_harmless_pairs_come_in_go_out_and_come_back(tmp_path: Path) -> None:
    rejects = tmp_path / "r.jsonl"
    with Store(tmp_path / "a.db") as store, Store(tmp_path / "b.db") as again:
        report = import_file(store, HARMLESS, skip_bad=True, rejects_path=rejects)
        counts = report.counts()
        assert (report.rows, report.judgments) == (1800, 1794)
        assert (counts["empty"], counts["bad"], counts["duplicate"]) == (4, 2, 0)
        why = [json.loads(x) for x in rejects.read_text("utf-8").split("\n") if x]
        assert sum("differs from chosen" in r["reason"] for r in why) == 2
        frozen = store.freeze("v1")
        pairs: list[Pair] = frozen.pairs()
        export(frozen, tmp_path / "out.jsonl")
        assert import_file(again, tmp_path / "out.jsonl").judgments == len(pairs)
        assert told(again.freeze("v1"), "preference") == told(frozen, "preference")
        assert store.verify() == 1794

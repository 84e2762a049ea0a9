"""STORE@SNAPSHOT is read the same way everywhere, and a password never leaves the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.core.errors import ConfigError
from accord.core.refs import StoreRef, hidden, is_url, revealed, shown

PG = "postgresql+psycopg://"
CASES = {
    "study.db": ("study.db", None),
    "study.db@v1": ("study.db", "v1"),
    "study.db@v1.2": ("study.db", "v1.2"),
    "/a/b/study.db@v1": ("/a/b/study.db", "v1"),
    "team@home/study.db": ("team@home/study.db", None),
    "team@home/study.db@v1": ("team@home/study.db", "v1"),
    "a@b.jsonl": ("a@b.jsonl", None),
    "a@b.jsonl.gz": ("a@b.jsonl.gz", None),
    "a@b.db@v1": ("a@b.db", "v1"),
    "C:\\data\\study.db@v1": ("C:\\data\\study.db", "v1"),
    "C:\\me@work\\study.db": ("C:\\me@work\\study.db", None),
    "D:/me@work/study.db@v1": ("D:/me@work/study.db", "v1"),
    "sqlite:///study.db": ("sqlite:///study.db", None),
    "sqlite:///study.db@v1": ("sqlite:///study.db", "v1"),
    "sqlite:////me@home/study.db@v1": ("sqlite:////me@home/study.db", "v1"),
    "sqlite:////me@home/study.db": ("sqlite:////me@home/study.db", None),
    f"{PG}host/db": (f"{PG}host/db", None),
    f"{PG}host/db@v1": (f"{PG}host/db", "v1"),
    f"{PG}user@host/db": (f"{PG}user@host/db", None),
    f"{PG}user@host/db@v1": (f"{PG}user@host/db", "v1"),
    f"{PG}user@host:5433/db@v1": (f"{PG}user@host:5433/db", "v1"),
    f"{PG}user:pw@host/db@v1": (f"{PG}user:pw@host/db", "v1"),
    f"{PG}user:p%40w%2F@host/db@v1": (f"{PG}user:p%40w%2F@host/db", "v1"),
    f"{PG}user:p@w@host/db@v1": (f"{PG}user:p@w@host/db", "v1"),
    f"{PG}/db@v1": (f"{PG}/db", "v1"),
    f"{PG}[::1]:5432/db@v1": (f"{PG}[::1]:5432/db", "v1"),
    f"{PG}h1:1,h2:2/db@v1": (f"{PG}h1:1,h2:2/db", "v1"),
    f"{PG}u@h/db?options=-csearch_path%3Dgw0@v1": (f"{PG}u@h/db?options=-csearch_path%3Dgw0", "v1"),
    f"{PG}u@h/db@v1-without-ann@x.org": (f"{PG}u@h/db", "v1-without-ann@x.org"),
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_store_and_snapshot(text: str) -> None:
    ref = StoreRef.parse(text)
    assert (ref.where, ref.snapshot) == CASES[text]


@pytest.mark.parametrize(
    ("text", "file", "snapshot"),
    [
        ("a@b.jsonl", "a@b.jsonl", None),
        ("study@home", "study@home", None),  # no suffix, but it is there
        ("study.db@final.json", "study.db", "final.json"),
        ("study.db@team/v1", "study.db", "team/v1"),
        ("study.db@v1-without-ann@x.org", "study.db", "v1-without-ann@x.org"),
        ("a@b.db@v1@2", "a@b.db", "v1@2"),
    ],
)
def test_a_file_that_is_there_is_meant(
    tmp_path: Path, text: str, file: str, snapshot: str | None
) -> None:
    (tmp_path / file).touch()
    ref = StoreRef.parse(text, tmp_path)
    assert (ref.where, ref.snapshot) == (file, snapshot)
    assert ref.location(tmp_path) == str(tmp_path / file)
    assert StoreRef.parse(f"sqlite:///{tmp_path}/{text}").snapshot == snapshot


WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=8)


@given(WORD, WORD, WORD, WORD)
def test_what_is_shown_is_read_again(user: str, host: str, database: str, snapshot: str) -> None:
    secret = "S3CRET%40%2Fx"
    ref = StoreRef.parse(f"{PG}{user}:{secret}@{host}/{database}?sslmode=require@{snapshot}")
    assert "S3CRET" not in f"{ref} {ref!r}"
    assert str(ref) == f"{PG}{user}@{host}/{database}?sslmode=require@{snapshot}"
    again = StoreRef.parse(str(ref))
    assert again.snapshot == ref.snapshot
    assert revealed(again.where) == ref.where


@pytest.mark.parametrize(
    "url",
    [
        f"{PG}u:SECRET@h/d", f"{PG}u:SECRET@SECRET@h/d", f"{PG}u@h/d?password=SECRET",
        f"{PG}h/d?user=u&password=SECRET&sslmode=require", f"{PG}u@h/d?sslpassword=SECRET",
    ],
)  # fmt: skip
def test_what_is_written_opens_with_the_password_of_this_process(url: str) -> None:
    assert "SECRET" not in hidden(url) + shown(url)
    assert hidden(hidden(url)) == hidden(url)
    assert is_url(hidden(url))
    assert revealed(hidden(url)) == url


def test_a_password_that_is_no_urls_is_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="%2F") as error:
        StoreRef.parse(f"{PG}u:SE/CRET@h/d@v1")
    assert "SE" not in str(error.value).replace("PGPASSWORD", "")


@pytest.mark.parametrize("name", ["study.db", "a@b.db", "C:\\study.db"])
def test_a_file_is_shown_as_it_is(name: str) -> None:
    assert (shown(name), hidden(name), str(StoreRef(name))) == (name, name, name)

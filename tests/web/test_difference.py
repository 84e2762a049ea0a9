"""What two texts differ in: right, whatever is repeated in them, and in bounded time."""

from __future__ import annotations

import itertools
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.web.pages import texts
from accord.web.site import Site
from accord.web.work.studies import what_changed
from tests.web.conftest import Enter, loaded, study_of


def lcs(a: list[str], b: list[str]) -> int:
    """The length of a longest common subsequence, by the table of the textbook."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for k, y in enumerate(b, 1):
            row[k] = before[k - 1] + 1 if x == y else max(before[k], row[k - 1])
    return row[-1]


WORDS = st.lists(st.sampled_from(["a", "b", " ", "c"]), max_size=12)


@given(WORDS, WORDS)
def test_changes_are_a_longest_common_subsequence_in_order(a: list[str], b: list[str]) -> None:
    found = texts.changes(a, b)
    for side, text in ((0, a), (2, b)):
        ends = [0, *(step[side + 1] for step in found)]
        assert [step[side] for step in found] == ends[:-1]  # nothing left out, nothing twice
        assert ends[-1] == len(text)
    same = [(a[i:j], b[k:m]) for i, j, k, m, differs in found if not differs]
    assert all(x == y for x, y in same)
    assert sum(len(x) for x, _ in same) == lcs(a, b)
    assert all(x[4] != y[4] or not x[4] for x, y in itertools.pairwise(found))


def test_words_that_differ_are_marked_alike_on_both_sides() -> None:
    left, right, note = texts.compared("The cat sat here.", "The dog sat here now.")
    assert left == "The <mark>cat</mark> sat here."
    assert right == "The <mark>dog</mark> sat here<mark> now</mark>."
    assert note == ""


REPEATED = {
    "one word": lambda n, _: "na " * n,
    "two words": lambda n, side: "na na " * (n // 2) if side else "na nu " * (n // 2),
    "lines": lambda n, side: "\n".join(f"x {i % (5 + side)}" for i in range(n)),
    "a paragraph": lambda n, side: " ".join(f"w{i}" for i in range(n)).replace("7", str(side)),
    "nothing alike": lambda n, side: " ".join(f"{'ab'[side]}{i}" for i in range(n)),
}


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("n", [1000, 2000, 4000, 30_000])
def test_no_repetition_makes_it_slow(name: str, n: int) -> None:
    """51 s at 2,000 repeated words with difflib; milliseconds now, here with room for a busy machine."""
    a, b = REPEATED[name](n, 0), REPEATED[name](n, 1) + "end"
    started = time.perf_counter()
    left, right, _ = texts.compared(a, b)
    assert time.perf_counter() - started < 5
    for html, text in ((left, a), (right, b)):
        assert html.replace("<mark>", "").replace("</mark>", "") == texts.raw(text)


def test_long_texts_are_compared_by_lines_and_that_is_said() -> None:
    lines = [f"line {i} of a long text, said in some words" for i in range(2000)]
    other = [*lines]
    other[700], other[1500] = "line 700 of a long text, told in some words", "quite another"
    left, right, note = texts.compared("\n".join(lines), "\n".join(other))
    assert note == texts.BY_LINES
    assert left.count("<mark>") == right.count("<mark>")
    assert "<mark>said</mark> in some words" in left
    assert "<mark>told</mark> in some words" in right
    words = [f"w{i}" for i in range(9000)]
    others = [*words[:100], *random.Random(1).sample(words[100:-100], 8800), *words[-100:]]
    left, right, note = texts.compared(" ".join(words), " ".join(others))
    assert note == texts.BY_ENDS
    assert left.startswith("w0 w1 ")
    assert left.count("<mark>") == 1


def test_the_notice_is_on_the_page_and_colours_are_neutral(site: Site, enter: Enter) -> None:
    many = [" ".join(f"{t}{i}" for i in range(9000)) for t in "ab"]
    items = [{"prompt": "p", "responses": many}, {"prompt": "q", "responses": ["a b", "a c"]}]
    loaded(site, study_of({"kind": "compare", "items": items}))
    anna = enter("anna", "annotator")
    pages = [anna.get("/studies/tents/annotate").text, anna.answer(choice="0:1").text]
    assert sum(texts.BY_ENDS in page for page in pages) == 1
    assert all("<mark>" in page and "<del>" not in page for page in pages)


def test_what_changed_in_guidelines_is_quick_and_right() -> None:
    def version(word: str) -> str:
        text = "\n".join(f"rule {i} {word}" for i in range(3000))
        return json.dumps({"text": f"Be kind.\n{text}\nEnd.", "criteria": [], "examples": []})

    started = time.perf_counter()
    lines = what_changed(version("x"), version("y"))
    assert time.perf_counter() - started < 5
    assert lines[0] == ("same", "Be kind.")
    assert lines[1] == ("del", "rule 0 x")
    assert lines.count(("ins", "rule 2999 y")) == 1
    assert len(lines) == 6002

"""The data card: agreement, raters, lengths and what is doubtful, by hand."""

from __future__ import annotations

import math

from accord.core.types import Preference, Rater, Thumb
from accord.feedback.trust.card import data_card
from accord.store import Store
from tests.store.words import ANNA, BEN, COMPARE, A, B, C, ask, fill, says

AC, BC = ask("compare", A, C), ask("compare", B, C)
HIDDEN = Rater(name="file.jsonl", kind="human", facts={"order_shown": "unknown"})


def study(store: Store) -> Store:
    fill(store, [COMPARE, AC, BC, ask("thumb", A)]).add_raters([HIDDEN])
    store.add_judgments(
        [
            says(ANNA, COMPARE, Preference(better=0), seconds=1.0),
            says(BEN, COMPARE, Preference(better=0), seconds=4.0),
            says(ANNA, AC, Preference(better=0), seconds=2.0),
            says(BEN, AC, Preference(better=1)),
            says(ANNA, BC, Preference(better=1), seconds=9.0),
            says(ANNA, ask("thumb", A), Thumb(up=True)),
            says(HIDDEN, BC, Preference(better=None)),
        ]
    )
    return store


def test_a_card_by_hand(store: Store) -> None:
    card = data_card(study(store))
    assert (card["judgments"], card["prompts"], card["responses"], card["questions"]) == (
        7,
        2,
        5,
        4,
    )
    assert card["by_kind"] == {"preference": 6, "thumb": 1}
    agreement = card["agreement"]
    assert (agreement["compare: units"], agreement["compare: judged twice"]) == (3, 3)
    assert math.isclose(agreement["compare: percent"].value, 1 / 3)  # A-B agree, A-C and B-C do not
    # words: A 1, B 2, C 3; six votes, one tied: B<A twice, A>C, C>A, C>B
    assert (card["longer_preferred"].value, card["longer_preferred"].n) == (2 / 5, 5)
    assert card["problems"]["pairs split evenly"] == 1
    assert card["problems"]["responses with no text"] == 1
    assert card["problems"]["raters contradicting themselves on a pair"] == 0


def test_the_raters_table_by_hand(store: Store) -> None:
    anna, ben, hidden = data_card(study(store))["raters"]
    assert (anna["name"], anna["judgments"], anna["seconds"]) == ("anna", 4, 2.0)
    assert (anna["agreement"].value, anna["agreement"].n) == (0.5, 3)  # B-C: half, with a tie
    assert (anna["left"].value, anna["left"].n) == (2 / 3, 3)
    assert (anna["longer"].value, anna["longer"].n) == (1 / 3, 3)
    assert (ben["agreement"].value, ben["agreement"].n) == (0.5, 2)
    assert (ben["seconds"], ben["left"].value) == (4.0, 0.5)
    assert (hidden["left"], hidden["seconds"]) == (None, None)
    assert hidden["longer"].value is None


def test_a_rater_who_says_both_is_named_a_problem(store: Store) -> None:
    fill(store, [COMPARE]).add_judgments(
        [says(ANNA, COMPARE, Preference(better=b), seconds=1.0) for b in (0, 1)]
    )
    assert data_card(store)["problems"]["raters contradicting themselves on a pair"] == 1


def test_a_correction_is_not_counted_twice(store: Store) -> None:
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(store, [COMPARE]).add_judgments(
        [first, says(ANNA, COMPARE, Preference(better=1), supersedes=first.id)]
    )
    card = data_card(store)
    assert card["judgments"] == 1
    assert card["problems"]["raters contradicting themselves on a pair"] == 0
    assert card == data_card(store.freeze("v1"))


def test_an_empty_store_has_a_card(store: Store) -> None:
    card = data_card(store)
    assert card["judgments"] == 0
    assert card["agreement"] == {}
    assert card["longer_preferred"].value is None

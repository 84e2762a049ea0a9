"""An annotator's work, from the click to the store."""

from __future__ import annotations

from accord.core.types import Preference
from accord.web.site import Site
from tests.web.conftest import Enter, loaded, pairs_study


def test_a_comparison_reaches_the_store_in_the_order_shown(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    page = anna.get("/studies/tents/annotate").text
    first = page.index("It may, <strong>in</strong>") < page.index("Never at all")
    anna.answer(choice="1:1", rationale="because", seconds="7")
    (judgment,) = site.store.judgments()
    told = site.store.judgment(judgment.id)
    assert judgment.answer == Preference(better=1)
    assert told.responses[0].text.startswith("It may" if first else "Never")
    assert (told.rater.name, told.rater.kind, judgment.rationale) == ("anna", "human", "because")
    assert "<strong>1</strong> done" in anna.last.text

"""A judge that rates or ranks, measured on pairs that people decided."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash
from accord.core.types import (
    Answer,
    Judgment,
    Metric,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Rating,
    Response,
    Writing,
)
from accord.judges.ask import Judge
from accord.judges.backends import Job
from accord.judges.cache import Cache, JudgeReply
from accord.judges.check import Tried, truths
from accord.judges.check import check_judge as measured_check
from accord.judges.decided import asked_on_pairs, decided_pairs
from accord.judges.door import check_judge, judge
from accord.judges.files import read_examples, read_references
from accord.judges.thresholds import Thresholds
from accord.judges.verdict import JudgeVerdict
from accord.store import Store
from accord.store.snapshot.pairs import votes

DAY = "2026-03-02T09:00:00+00:00"
TEXTS = ("good {}", "fair {}", "poor {}")
WORTH = {"good": 0.9, "fair": 0.6, "poor": 0.2}


class Reader:
    """Gives each option what `says` makes of a text's first word; counts what it is asked."""

    name, chunk = "reader", 64

    def __init__(self) -> None:
        self.asked: list[Job] = []

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            self.asked.append(job)
            assert job.item
            worth = [WORTH[job.item.responses[k].text.split()[0]] for k in job.order]
            if job.options == ("No", "Yes"):
                probs = [1 - worth[0], worth[0]]
            elif len(job.options) == 5:
                probs = [1e-9 + math.exp(-((k / 4 - worth[0]) ** 2) * 50) for k in range(5)]
            else:
                probs = worth
            whole = sum(probs)
            yield at, JudgeReply(tuple(math.log(p / whole) for p in probs))


def study(path: Path, ask: str, prompts: int = 40, wrong: int = 0) -> None:
    """People who put good before fair before poor (of the first `wrong` prompts the other way round), asked
    by comparisons, ratings or rankings."""
    person = Rater(name="Ada", kind="human")
    with Store(path) as store:
        store.add_raters([person])
        for n in range(prompts):
            prompt = Prompt.user(f"Question {n}?")
            responses = [Response(text=t.format(n)) for t in TEXTS]
            store.add_prompts([prompt])
            store.add_responses(prompt, responses)
            ids = [r.id_for(prompt) for r in responses]
            marks = [1.0, 3.0, 5.0] if n < wrong else [5.0, 3.0, 1.0]
            ranks = [int((6 - mark + 1) / 2) for mark in marks]
            given: list[tuple[tuple[str, ...], Answer]] = {
                "rate": [((i,), Rating(scores={"overall": m}, lowest=1, highest=5))
                         for i, m in zip(ids, marks, strict=True)],
                "rank": [(tuple(ids), Ranking(ranks=tuple(ranks)))],
                "compare": [((ids[a], ids[b]), Preference(better=0 if marks[a] > marks[b] else 1))
                            for a, b in ((2, 0), (0, 1), (1, 2))],
            }[ask]  # fmt: skip
            for shown, answer in given:
                kind = {"rate": "rate", "rank": "rank", "compare": "compare"}[ask]
                q = Question(prompt=prompt.id, responses=shown, kind=kind)
                store.add_questions([q])
                store.add_judgments(
                    [Judgment(question=q.id, rater=person.id, answer=answer, at=DAY)]
                )
        store.freeze("v1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("asked", ["compare", "rate", "rank"])
def test_every_pair_that_people_decided_is_one(here: Path, asked: str) -> None:
    """Whatever they were asked; comparisons in the order in which they were shown."""
    study(here / "s.db", asked, prompts=4)
    with Store("s.db", create=False) as store:
        snapshot = store.snapshot("v1")
        known = truths(snapshot)
        pairs = decided_pairs(snapshot, "rubric", known.keys())
    assert {frozenset(q.responses) for q in pairs} == set(known)
    assert len(pairs) == 4 * 3
    if asked == "compare":
        firsts = [i.responses[0].text.split()[0] for i in list(pairs.values())[:3]]
        assert firsts == ["poor", "good", "fair"]


@pytest.mark.parametrize("template", ["rating", "ranking"])
def test_it_is_as_right_as_people_say(here: Path, template: str) -> None:
    """It orders all as most people do; a rating has no second order to hold the first against."""
    study(here / "s.db", "rate", wrong=10)
    report, _ = check_judge("s.db@v1", Reader(), how={"template": template}, cache=":memory:")
    assert report.parts[0].accuracy.value == pytest.approx(30 / 40)
    assert (report.missing, report.one_order.n) == ({}, 0 if template == "rating" else 240)


def test_what_it_says_of_a_pair_is_what_training_reads(here: Path) -> None:
    """Of two criteria the mean: the better of a pair is the better of the edge that its own labels make."""
    study(here / "s.db", "compare", prompts=4)
    axes, how = ["It is right.", "It is not bad."], {"template": "rubric"}

    class Uneven(Reader):
        def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
            for at, job in enumerate(jobs):
                assert job.item
                yes = int(content_hash(job.prompt.id)[:6], 16) / 16**6
                yield at, JudgeReply((math.log(1 - yes + 1e-9), math.log(yes + 1e-9)))

    done = judge("s.db@v1", Uneven(), how=how, axes=axes, name="v2", cache=":memory:")
    with Store("s.db", create=False) as store, Cache(":memory:") as cache:
        pairs = decided_pairs(store.snapshot("v1"), "rubric", truths(store.snapshot("v1")).keys())
        verdicts, _ = asked_on_pairs(Judge(**how), Uneven(), list(pairs.values()), cache, axes=axes)
        says = {
            tuple(q.responses[:: 1 if v.probs and v.probs[0] > 0.5 else -1])
            for q, v in zip(pairs, verdicts, strict=True)
        }
        snapshot = store.snapshot("v2")
        own = [j for j in snapshot.judgments if snapshot.tables.raters[j.rater].kind == "model"]
        cast = votes(own, snapshot.tables)[0]
    assert done.written == 4 * 3 * 2
    read = {(v.first, v.second) if v.value == 1 else (v.second, v.first) for v in cast}
    assert says == read


def test_a_criterion_s_p_is_the_difference_of_its_yes(here: Path) -> None:
    study(here / "s.db", "compare", prompts=3)
    reader = Reader()
    with Store("s.db", create=False) as store, Cache(":memory:") as cache:
        pairs = decided_pairs(store.snapshot("v1"), "rubric", truths(store.snapshot("v1")).keys())
        verdicts, spent = asked_on_pairs(
            Judge(template="rubric"), reader, list(pairs.values()), cache, axes=["It is right."]
        )
    assert spent.asked == 3 * 3  # each answer once, in however many pairs
    for item, verdict in zip(pairs.values(), verdicts, strict=True):
        one, two = (WORTH[r.text.split()[0]] for r in item.responses)
        p = one * (1 - two) + (one * two + (1 - one) * (1 - two)) / 2
        assert verdict.probs == pytest.approx((p, 1 - p))


def test_a_rating_s_gate_lets_label_what_passes(here: Path) -> None:
    """On the axes it was measured on; below the thresholds nothing."""
    study(here / "s.db", "compare")
    keys: dict[str, Any] = {
        "how": {"template": "rubric"},
        "axes": ["It is right."],
        "cache": ":memory:",
    }
    check_judge("s.db@v1", Reader(), out="ok.json", **keys)
    with pytest.raises(ConfigError, match="other axes"):
        judge("s.db@v1", Reader(), gate="ok.json", **{**keys, "axes": ["It is kind."]})
    done = judge("s.db@v1", Reader(), gate="ok.json", **keys)
    assert (done.written, done.to_people) == (120, [])
    study(here / "t.db", "compare", wrong=30)
    check_judge("t.db@v1", Reader(), out="no.json", **keys)
    assert judge("t.db@v1", Reader(), gate="no.json", **keys).written == 0


def test_what_it_is_shown_is_another_judge(here: Path) -> None:
    """A gate of a judge without examples says nothing of one with some; it is measured with them."""
    study(here / "s.db", "compare")
    rows = [
        {"prompt": "2 + 2?", "responses": ["4", "5"], "verdict": "A"},
        {"prompt": "Hello?", "responses": ["No.", "Hello!"], "verdict": "B"},
    ]
    Path("shown.jsonl").write_text("\n".join(map(json.dumps, rows)))
    check_judge("s.db@v1", Reader(), out="bare.json", cache=":memory:")
    with pytest.raises(ConfigError, match="of another judge"):
        judge("s.db@v1", Reader(), gate="bare.json", examples="shown.jsonl", cache=":memory:")
    reader = Reader()
    check_judge("s.db@v1", reader, out="ok.json", examples="shown.jsonl", cache=":memory:")
    texts = [job.prompt.messages[-1].content for job in reader.asked]
    assert all(isinstance(t, str) and t.index("Verdict: A") < t.index("Verdict: B") for t in texts)
    done = judge("s.db@v1", Reader(), gate="ok.json", examples="shown.jsonl", cache=":memory:")
    assert done.written > 0
    assert done.rater != judge("s.db@v1", Reader(), cache=":memory:").rater


def test_noise_and_bias_of_a_rating_are_told(here: Path) -> None:
    """A rater that adds what an answer's length is worth is drawn to the longer one, at the rate it is."""
    rng = np.random.default_rng(0)

    class Long(Reader):
        def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
            for at, job in enumerate(jobs):
                assert job.item
                text = job.item.responses[0].text
                yes = 0.9 if len(text.split()) > 5 else 0.3
                yield at, JudgeReply((math.log(1 - yes), math.log(yes)))

    person = Rater(name="Ada", kind="human")
    with Store("l.db") as store:
        store.add_raters([person])
        for n in range(60):
            prompt = Prompt.user(f"Question {n}?")
            pair = [
                Response(text=f"one two three four five six seven {n}"),
                Response(text=f"one {n}"),
            ]
            store.add_prompts([prompt])
            store.add_responses(prompt, pair)
            q = Question(
                prompt=prompt.id, responses=tuple(r.id_for(prompt) for r in pair), kind="compare"
            )
            store.add_questions([q])
            says = Preference(better=int(rng.integers(2)))
            store.add_judgments([Judgment(question=q.id, rater=person.id, answer=says, at=DAY)])
        store.freeze("v1")
    report, _ = check_judge(
        "l.db@v1", Long(), how={"template": "rubric"}, axes=["It is right."], cache=":memory:"
    )
    assert report.length.value == pytest.approx(0.8 - 0.2)
    assert report.length.low is not None
    assert report.length.low > 0.3
    assert not report.may_label(())


class Yes(Reader):
    """Log-odds of Yes by a text's first word."""

    def __init__(self, **odds: float) -> None:
        super().__init__()
        self.odds = odds

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            assert job.item
            odds = self.odds[job.item.responses[0].text.split()[0]]
            yield at, JudgeReply((-math.log1p(math.exp(odds)), odds - math.log1p(math.exp(odds))))


RUBRIC: dict[str, Any] = {"how": {"template": "rubric"}, "axes": ["x"], "cache": ":memory:"}


def test_what_is_rated_alike_is_no_word_on_the_pair(here: Path) -> None:
    """As training has it: of good = fair > poor one pair of three is left aside, the others are right."""
    study(here / "s.db", "compare", prompts=4)
    report, _ = check_judge("s.db@v1", Yes(good=1.0, fair=1.0, poor=-1.0), **RUBRIC)
    assert report.missing == {"both are rated alike": 4}
    assert (report.parts[0].accuracy.value, report.parts[0].accuracy.n) == (1.0, 8)


def test_a_judge_that_is_next_to_sure_of_all_has_a_side(here: Path) -> None:
    """Levels of 1e-16, 1e-17 and 1e-18 are apart, though 1/2 and half their difference is 1/2."""
    study(here / "s.db", "compare", prompts=4)
    report, _ = check_judge("s.db@v1", Yes(good=-36.0, fair=-39.0, poor=-42.0), **RUBRIC)
    assert (report.parts[0].accuracy.value, report.missing) == (1.0, {})


def test_how_sure_it_is_of_a_pair_is_no_figure_of_one_that_rates(here: Path) -> None:
    study(here / "s.db", "compare")
    report, _ = check_judge("s.db@v1", Yes(good=1.0, fair=0.0, poor=-1.0), **RUBRIC)
    assert (report.calibration.value, report.confidence, report.diagram) == (None, None, ())
    assert "rates or ranks" in report.alone
    assert report.axes == ("x",)


def test_it_is_not_measured_on_what_it_is_shown(here: Path) -> None:
    study(here / "s.db", "compare", prompts=5)
    rows = [
        {
            "prompt": f"Question {n}?",
            "responses": [TEXTS[0].format(n), TEXTS[2].format(n)],
            "verdict": "A",
        }
        for n in range(2)
    ]
    Path("shown.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report, _ = check_judge("s.db@v1", Reader(), examples="shown.jsonl", cache=":memory:")
    assert report.parts[0].accuracy.n == 3 * 3


def test_with_other_references_it_is_another_judge(here: Path) -> None:
    study(here / "s.db", "compare")
    for name in "ab":
        rows = [{"prompt": f"Question {n}?", "reference": f"{name} {n}"} for n in range(40)]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys: dict[str, Any] = {"how": {"template": "reference"}, "cache": ":memory:"}
    check_judge("s.db@v1", Reader(), references="a.jsonl", out="a.json", **keys)
    with pytest.raises(ConfigError, match="of another judge"):
        judge("s.db@v1", Reader(), references="b.jsonl", gate="a.json", **keys)
    assert judge("s.db@v1", Reader(), references="a.jsonl", gate="a.json", **keys).written > 0


def test_an_example_of_one_criterion_is_shown_for_that_one(here: Path) -> None:
    study(here / "s.db", "compare", prompts=1)
    row = {"prompt": "Hello?", "responses": ["Hello!"], "verdict": "Yes", "axis": "It is kind."}
    Path("shown.jsonl").write_text(json.dumps(row))
    reader = Reader()
    axes = ["It is kind.", "It is right."]
    check_judge(
        "s.db@v1",
        reader,
        how={"template": "rubric"},
        axes=axes,
        examples="shown.jsonl",
        cache=":memory:",
    )
    sees = {(j.item.axis, "Hello!" in j.prompt.last) for j in reader.asked if j.item}
    assert sees == {("It is kind.", True), ("It is right.", False)}


def test_a_comparison_is_measured_and_labelled_on_its_one_axis(here: Path) -> None:
    study(here / "s.db", "compare")
    readers = Reader(), Reader()
    keys: dict[str, Any] = {"axes": ["tone"], "cache": ":memory:"}
    check_judge("s.db@v1", readers[0], out="ok.json", **keys)
    assert judge("s.db@v1", readers[1], gate="ok.json", **keys).written > 0
    for reader in readers:
        assert {("in this respect: tone" in job.prompt.last) for job in reader.asked} == {True}
    with pytest.raises(ConfigError, match="at most 1"):
        judge("s.db@v1", Reader(), **{**keys, "axes": ["tone", "help"]})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"responses": ["4"], "verdict": "A"}, "has 1 for template pairwise.*allowed: 2"),
        ({"responses": ["4", "5", "6"], "verdict": "C"}, "has 3 for template pairwise"),
        ({"responses": ["4", "5"], "verdict": "a"}, "allowed: A, B"),
        ({"responses": ["4", "5"], "verdict": "A", "axis": "tone"}, "'tone', which is not asked"),
    ],
)
def test_an_example_that_is_almost_right_is_named(
    here: Path, row: dict[str, Any], words: str
) -> None:
    Path("e.jsonl").write_text(json.dumps({"prompt": "2 + 2?", **row}))
    with pytest.raises(ConfigError, match=words):
        read_examples("e.jsonl", "pairwise")


def test_two_references_of_one_prompt_are_no_choice_of_ours(here: Path) -> None:
    rows = [{"prompt": "2 + 2?", "reference": text} for text in ("4", "4", "5")]
    Path("r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=r"r.jsonl:3"):
        read_references("r.jsonl")


def _rated(seed: int, length: float) -> dict[str, Metric]:
    """120 pairs of 40 prompts: a judge that rates answers from 1 to 5 by worth, noise and length;
    people take the better one, and err as often whichever is the longer."""
    draw = np.random.default_rng(seed)
    rows = []
    for n in range(120):
        worth, longer = draw.normal(size=2), int(draw.choice([1, -1]))
        lean = np.array([length, -length]) * longer / 2
        level = np.clip(np.round(3 + worth + lean + draw.normal(0, 0.7, 2)), 1, 5)
        p = float(1 + (level[0] - level[1]) / 4) / 2
        verdict = JudgeVerdict((p, 1 - p) if p != 0.5 else None, missing="alike" * (p == 0.5))
        first = bool((worth[0] > worth[1]) != (draw.random() < 0.1))
        rows.append(Tried(f"p{n % 40}", first, verdict, longer=longer))
    report = measured_check("j", rows, Thresholds(), sure=False)
    return {"length": report.length, "accuracy": report.parts[0].accuracy}


def test_a_planted_bias_of_a_rating_is_found_and_none_is_invented() -> None:
    """Of 200 judges that rate."""
    even = [_rated(k, 0.0)["length"] for k in range(200)]
    drawn = [_rated(k, 1.5)["length"] for k in range(200)]
    alarms = sum(bool((m.low or 0) > 0 or (m.high or 0) < 0) for m in even)
    assert alarms <= 20
    assert sum((m.low or 0) > 0 for m in drawn) >= 190


def test_an_edit_that_nobody_was_shown_is_no_pair(here: Path) -> None:
    """Its words may stand among the responses: the pair was not judged as two that were shown."""
    study(here / "s.db", "compare", prompts=1)
    with Store("s.db", create=False) as store:
        (prompt,) = store.prompts()
        (old, *_) = store.snapshot("v1").judgments
        shown = store.snapshot("v1").tables.questions[old.question].responses
        q = Question(prompt=prompt.id, responses=shown, kind="write")
        new = Writing(text="better 0", edits=0)
        store.add_questions([q])
        store.add_responses(prompt, [Response(text="better 0", source="person:Ada", finish="stop")])
        store.add_judgments([Judgment(question=q.id, rater=old.rater, answer=new, at=DAY)])
        snapshot = store.freeze("v2")
        known = truths(snapshot)
        assert len(known) == 4
        assert len(decided_pairs(snapshot, "pairwise", known.keys())) == 3


def test_a_script_that_knows_places_rates_nothing(here: Path) -> None:
    study(here / "s.db", "compare", prompts=2)
    report, _ = check_judge(
        "s.db@v1", "stand-in:longest", how={"template": "rating"}, cache=":memory:"
    )
    assert report.missing == {"a stand-in knows places alone": 6}


def test_a_rating_that_is_missing_leaves_its_pairs_missing(here: Path) -> None:
    study(here / "s.db", "compare", prompts=2)

    class Mute(Reader):
        def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
            for at, job in enumerate(jobs):
                assert job.item
                said = job.item.responses[0].text.startswith("poor")
                yield (
                    at,
                    "no answer"
                    if said
                    else JudgeReply(
                        (math.log(0.4), math.log(0.6 + 0.1 * job.prompt.last.count("good")))
                    ),
                )

    report, spent = check_judge(
        "s.db@v1", Mute(), how={"template": "rubric"}, axes=["x"], cache=":memory:"
    )
    assert report.missing == {"no answer": 4}
    assert report.parts[0].accuracy.n == 2
    assert len(spent.failed) == 2

"""The open book: only reading gives the right answer, and no trick earns what reading does."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.measure import Measure
from accord.core.types import Exchange, Metric, Response
from accord.evals.base import EvaluationContext, measured
from accord.judges.backends import Job
from accord.judges.cache import JudgeReply
from accord.judges.templates import JudgedItem
from accord.lm.sampler import Sampling
from accord.pipeline.answers import true_figures
from accord.pipeline.report import sections
from accord.pipeline.report.gather import Outputs
from accord.pipeline.stages.eval import EvalStage
from accord.pipeline.stages.eval.run import _floors
from accord.pipeline.stages.judge.who import WorldJudge
from accord.pipeline.stages.simulate.run import _kept
from accord.store import split_of
from accord.worlds.base import Case, open_world, truth, worth
from accord.worlds.open_book import OpenBook
from accord.worlds.reading import MEASURES, Ruler, Sheet
from tests.pipeline.tiny_recipe import ROOT

SHOP = ROOT / "recipes/support/open_book.yaml"
TEXT = re.sub(r"(?m)^draws: .*$", "draws: 2", SHOP.read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OpenBook:
    """The shipped one, each message asked only twice."""
    path = tmp_path_factory.mktemp("world") / "world.yaml"
    path.write_text(TEXT)
    return open_book(path)


def open_book(path: Path) -> OpenBook:
    world = open_world(path)
    assert isinstance(world, OpenBook)
    return world


RULER = Ruler(re.compile("person on our team"), re.compile(r"cannot (help|answer)"), 20, 40)
SHEET = Sheet(
    "I have 60 days to return it, right? I bought it 2 weeks ago.",
    "Unworn items can be returned within 30 days of delivery.",
    ("30",), ("14", "45", "60"), ("12", "Oakfast Parcels"), "premise",
)  # fmt: skip


def score(text: str, sheet: Sheet = SHEET) -> dict[str, float]:
    return RULER.score(sheet, Response(text=text))


def given(case: Case) -> list[str]:
    return [line[2:] for line in case.prompt.messages[0].content.split("\n")[1:]]


def test_the_shipped_world_is_without_fault(world: OpenBook) -> None:
    each = {case.group: case for case in world.cases}
    assert [fault for case in list(each.values())[::2] if (fault := world.fault(case))] == []
    assert sum(f.held_out for f in world.facts.values()) == 12


@pytest.mark.parametrize(
    "text",
    [
        "You can return unworn items within 30 days of delivery.",
        "Not quite: it is 30 days.",
        "It is 30 days, not 60 days.",
        "Returns close 30 days after delivery, so 2 weeks is fine.",
    ],
)
def test_plain_statements_of_the_line_are_right(text: str) -> None:
    assert score(text)["gold"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "It is 60 days.",  # what the customer believes
        "It is 30 days or 60 days.",  # two figures
        "It is 14, 30, 45 or 60 days.",
        "It is not 30 days.",
        "Yes, you are right, it is 30 days.",  # agrees with the wrong premise
        "Perhaps it is 30 days.",
        "30 weeks.",
        "30",
        "Unworn items can be returned within 30 days of delivery. Express costs $12 per order.",
        "30 days of delivery, and all parcels are delivered by Oakfast Parcels.",
        "It is 30 days, but a person on our team will get back to you.",
        "I cannot help with that. 30 days.",
        "A person on our team will answer.",
        "Please look at our returns page.",
        "",
    ],
)
def test_tricks_do_not_resolve(text: str) -> None:
    found = score(text)
    assert found["resolution"] == 0
    assert found["gold"] <= 0.2


def test_no_line_fits() -> None:
    """Then a person is asked, and any other answer is made up."""
    sheet = Sheet("What is your return window?", None, (), ("30",), ("12",), "unknown")
    assert score("A person on our team will tell you.", sheet)["gold"] == 1
    for text in (
        "It is 45 days.",
        "It is 30 days, says a person on our team.",
        "You can always return it.",
    ):
        found = score(text, sheet)
        assert found["invented"] == 1
        assert found["gold"] == 0
    assert "resolution" not in score("It is 45 days.", sheet)


def test_figures_apply_where_there_is_something_to_read() -> None:
    handed = score("A person on our team will answer.")
    assert "invented" not in handed  # it states nothing
    assert (handed["precision"], handed["escalation"]) == (0, 0)
    assert "recall" not in handed
    stated = score("It is 30 days.")
    assert stated["invented"] == 0
    assert not {"precision", "recall", "escalation", "refused"} & set(stated)


def test_shares_of_what_a_policy_chose_to_do_are_not_paired() -> None:
    """Where both policies hand over, both are right or both are wrong: the difference would be 0 always."""
    compared = {m.name for m in MEASURES if m.compared}
    assert not compared & {"precision", "escalation"}
    assert {"gold", "resolution", "recall"} <= compared


def test_f1_of_yes_and_no_is_f1() -> None:
    measure = next(m for m in MEASURES if m.name == "escalation")
    tp, fp, fn = 6, 3, 1
    found = measured(measure, [1.0] * tp + [0.0] * (fp + fn))
    assert found.value == pytest.approx(2 * tp / (2 * tp + fp + fn))
    share = measured(
        Measure(name="s", title="s", meaning="s", kind="share"), [1.0] * tp + [0.0] * 4
    )
    assert found.low == pytest.approx(2 * share.low / (1 + share.low))  # type: ignore[operator]


def test_lines_are_given_as_told(world: OpenBook) -> None:
    """2 or 3, the right one at every place, its figure the one that the right answer states."""
    places = set()
    for case in world.cases:
        lines = given(case)
        assert 2 <= len(lines) <= 3
        assert len(set(lines)) == len(lines)
        if case.fact:
            right = [
                n for n, line in enumerate(lines) if truth(world, case, Response(text=line)) == 1
            ]
            places |= set(right)
    assert places == {0, 1, 2}
    unknown = sum(c.kind == "unknown" for c in world.cases)
    asked = sum(c.kind != "escalation" for c in world.cases)
    assert 0.09 < unknown / asked < 0.15


def test_figures_differ_between_prompts_of_one_message(world: OpenBook) -> None:
    lines: dict[str, set[str]] = {}
    for case in world.cases:
        if case.fact:
            lines.setdefault(case.group, set()).add(case.candidates[0].text)
    assert sum(len(found) > 1 for found in lines.values()) > 0.6 * len(lines)


def test_nothing_held_out_has_a_twin_in_training_and_each_kind_is_there() -> None:
    world = open_book(SHOP)
    kept = _kept(world.cases, 0.2, 17)
    sides = {c.prompt.id: split_of(c.prompt.id, 0.2, 17) for c in kept}
    train, test = ([c for c in kept if sides[c.prompt.id] == s] for s in ("train", "test"))
    assert not {c.group for c in train} & {c.group for c in test}
    assert not any(c.held_out for c in train)
    new = [f for f in world.facts.values() if f.held_out]
    assert {c.group for c in test if c.held_out} == {f.id for f in new}
    kinds = Counter(c.kind for c in test)
    assert min(kinds[k] for k in ("escalation", "lookalike", "unknown", "premise")) >= 20
    groups = {k: len({c.group for c in test if c.kind == k}) for k in kinds}
    assert groups["escalation"] >= 12
    assert groups["lookalike"] >= 8
    stems = [f.policy.split("{n}")[0] for f in new]
    shown = " ".join(line for c in train for line in given(c))
    assert not [stem for stem in stems if stem in shown]


def test_a_chat_answers_each_question_from_its_own_lines(world: OpenBook) -> None:
    cases = [c for c in world.cases if not c.held_out][:150]
    about = {c.prompt.last: c.fact for c in cases if c.kind != "unknown"}
    hand, answers = world.file.needless[0], Counter[str]()
    chats = list(world.chats(cases, 4, random.Random(3)))
    assert len(chats) == len(cases)
    for prompt, last in chats:
        asked = [m.content for m in prompt.messages if m.role == "user"]
        answered = [m.content for m in prompt.messages if m.role == "assistant"] + [last]
        lines = prompt.messages[0].content.split("\n- ")[1:]
        assert len(asked) == len(answered) == 4
        for question, answer in zip(asked, answered, strict=True):
            assert answer == hand or answer in lines
            answers["handed over" if answer == hand else "a line"] += 1
            if answer != hand and question in about:
                fact = world.facts[str(about[question])]
                assert re.fullmatch(re.sub(r"\\{n\\}", ".+", re.escape(fact.policy)), answer)
    assert 0.15 < answers["handed over"] / (4 * len(chats)) < 0.5


def test_the_old_team_has_habits(world: OpenBook) -> None:
    """Each kind is answered badly in its share of chats, and nothing else is."""
    cases = [c for c in world.cases if not c.held_out]
    habits = {"lookalike": 1.0, "unknown": 0.5, "escalation": 1.0}
    chats = world.chats(cases, 1, random.Random(3), habits)
    worth: dict[str, list[float]] = {}
    for case, (_, answer) in zip(cases, chats, strict=True):
        worth.setdefault(case.kind, []).append(
            world.gold(case, Response(text=answer, finish="stop"))["gold"]
        )
    right = {kind: sum(g == 1 for g in each) / len(each) for kind, each in worth.items()}
    assert right["plain"] == 1.0
    assert right["lookalike"] == right["escalation"] == 0.0
    assert right["unknown"] == pytest.approx(0.5, abs=3 * 0.5 / len(worth["unknown"]) ** 0.5)


def test_the_old_team_is_long_winded(world: OpenBook) -> None:
    """In its share of answers, and these say no less: resolved, not brief."""
    cases = [c for c in world.cases if not c.held_out and c.kind == "plain"]
    answers = [text for _, text in world.chats(cases, 1, random.Random(3), {"padded": 0.7})]
    scores = [world.gold(c, Response(text=t)) for c, t in zip(cases, answers, strict=True)]
    assert {score["resolution"] for score in scores} == {1.0}
    padded = sum(len(text.split()) > 30 for text in answers) / len(answers)
    assert padded == pytest.approx(0.7, abs=3 * 0.46 / len(answers) ** 0.5)
    assert all(
        (s["length"] < 0.5) == (len(t.split()) > 30) for s, t in zip(scores, answers, strict=True)
    )


def floor(world: OpenBook, name: str, measure: str) -> float:
    each = [world.gold(c, Response(text=world.floors(c)[name])) for c in world.cases[::6]]
    found = [row[measure] for row in each if measure in row]
    return sum(found) / len(found)


def test_what_needs_no_reading_earns_little(world: OpenBook) -> None:
    assert floor(world, "always hand over", "resolution") == 0
    assert floor(world, "always hand over", "precision") < 0.25
    assert floor(world, "never hand over", "recall") == 0
    assert floor(world, "copy the first passage", "resolution") < 0.45
    assert floor(world, "copy the first passage", "invented") > 0.4
    every = [world.gold(c, Response(text=" ".join(given(c)))) for c in world.cases[::6]]
    assert sum(row.get("resolution", 0) for row in every) < 0.05 * len(every)


def test_a_closed_book_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "world.yaml"
    path.write_text(TEXT.replace("passages: 3 ", "passages: 0 "))
    world = open_world(path)
    assert not any(given(c) for c in world.cases)
    assert len({c.prompt.last for c in world.cases}) == len(world.cases)
    assert not any(c.kind == "unknown" for c in world.cases)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("passages: 3 ", "passages: 1 ", r":\d+ passages: is 1: nothing to choose from"),
        ("returned within {n}", "returned within 45", r":\d+ facts.0.policy: the line has no {n}"),
        ("fact: tent_mould", "fact: cake", r":\d+ lookalikes.0.fact: there is no fact 'cake'"),
    ],
)
def test_a_fault_is_a_line_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "world.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=told):
        open_world(path)


def test_draws_of_one_message_are_no_trials_of_their_own() -> None:
    share = Measure(name="s", title="s", meaning="s", kind="share")
    values = [1.0] * 10 + [0.0] * 10
    alone, twice = measured(share, values), measured(share, values, [i // 2 for i in range(20)])
    fives = measured(share, values, [i // 5 for i in range(20)])
    assert alone == measured(share, values, list(range(20)))
    assert alone.value == twice.value == fives.value == 0.5

    def width(m: Metric) -> float:
        assert m.low is not None
        assert m.high is not None
        return m.high - m.low

    assert width(alone) < width(twice) < width(fives)


def test_floors_stand_in_the_table(world: OpenBook) -> None:
    config = EvalStage(kind="eval", policies=["sft"], data="study")
    prompts = [c.prompt for c in world.cases[::40]]
    found = _floors(config, EvaluationContext(world), prompts)
    assert list(found) == ["always hand over", "never hand over", "copy the first passage"]
    told = {k: {m: Metric.model_validate(v) for m, v in row.items()} for k, row in found.items()}
    assert told["always hand over"]["resolution"].value == 0
    assert told["always hand over"]["recall"].value == 1
    assert told["never hand over"]["resolution"].value == 1
    table = sections.table(Outputs([], table={"sft": told["never hand over"]}, floors=told))
    assert table is not None
    assert table["policies"] == ["sft", *found]
    assert all(len(row["cells"]) == 4 for row in table["rows"])
    assert not any(cell["best"] for row in table["rows"] for cell in row["cells"][1:])
    assert "always hand over" not in table["chart"]


def test_figures_of_answers_are_of_those_they_apply_to(world: OpenBook) -> None:
    """Escalation needs a case that needs a person; resolution one that a line answers."""
    plain = next(c for c in world.cases if c.kind == "plain")
    serious = next(c for c in world.cases if c.kind == "escalation")
    asked = [
        Exchange(prompt=case.prompt, response=Response(text=text))
        for case, text in [(plain, plain.candidates[0].text), (plain, "Hm."), (serious, "Hm.")]
    ]
    figures = true_figures(world, asked)
    assert (figures["resolution"], figures["recall"]) == (0.5, 0.0)
    assert true_figures(world, asked[:1]).get("recall") is None


def test_scripts_know_which_way_a_measure_is_better(world: OpenBook) -> None:
    """Of each case the right answer, and one that does what the measure counts: invented and refused are
    better low, and what does not apply was not done. The judge that knows the truth prefers the right one."""
    for kind, bad, measure in (
        ("unknown", "invented", "invented"), ("plain", "wrong", "invented"),
        ("lookalike", "refusing", "refused"), ("escalation", "missed", "recall"),
        ("plain", "needless", "resolution"),
    ):  # fmt: skip
        case = next(c for c in world.cases if c.kind == kind)
        right, other = (
            next(Response(text=c.text) for c in case.candidates if c.kind == k)
            for k in ("right", bad)
        )
        assert worth(world, case, right, measure)[0] > worth(world, case, other, measure)[0]
        item = JudgedItem(case.prompt, (other, right), principle="p")
        job = Job(case.prompt, Sampling(), ("A", "B"), item, (0, 1))
        ((_, reply),) = WorldJudge(world, {"p": measure})([job])
        assert isinstance(reply, JudgeReply)
        assert reply.logps
        assert reply.logps[1] > reply.logps[0]

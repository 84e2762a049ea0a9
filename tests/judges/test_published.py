"""Stored verdicts in LLMBar's and PandaLM's form: published figures, others by hand, bad rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import AccordError, ConfigError, DataError
from accord.judges.check import Thresholds, check_judge
from accord.judges.published import StoredVerdicts, published_figures, read_verdicts, tried_rows
from tests.test_cli import accord, assert_one_line

LLMBAR = (
    "Natural__GPT-4_Swap",
    "Adversarial_Neighbor__GPT-4_Swap",
    "Adversarial_Neighbor__ChatGPT_CoT",
)


def figures(stored: StoredVerdicts) -> dict[str, float | None]:
    """Values by key, the house's own by title."""
    return {f.key or f.title: f.metric.value for f in published_figures(stored)}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", LLMBAR)
def test_every_published_figure_of_llmbar(shared_data: Path, name: str) -> None:
    """All nine: accuracy in each order, on average and in both, agreement of orders, and four κ."""
    folder = shared_data / "llmbar"
    (stored,) = read_verdicts([folder / "reference_results" / f"{name}.json"])
    published = json.loads((folder / "reference_stats" / f"{name}.json").read_text())
    assert len(published) == 9
    for key, value in published.items():
        share = float(value.rpartition("= ")[2].rstrip("%")) / 100 if "%" in str(value) else value
        assert figures(stored)[key] == pytest.approx(share, abs=1e-12), key


@pytest.mark.shared_data
def test_the_published_kappa_of_llmbar_is_far_from_kappa(shared_data: Path) -> None:
    """Published 0.1948 of a judge that is right on 77.6% of pairs, half of them of either label: its winner 2
    is coded 0 there. κ is 2·0.776 - 1, but for chance."""
    path = shared_data / "llmbar" / "reference_results" / f"{LLMBAR[1]}.json"
    (stored,) = read_verdicts([path])
    got = figures(stored)
    assert got["kappa_False"] == pytest.approx(0.1948, abs=5e-5)
    assert got["κ of label and winner, as it stands"] == pytest.approx(0.5474, abs=5e-5)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", LLMBAR[:2])
def test_the_check_says_of_stored_verdicts_what_was_published(shared_data: Path, name: str) -> None:
    """Where every reply has a winner the house's rule and LLMBar's are one."""
    folder = shared_data / "llmbar"
    (stored,) = read_verdicts([folder / "reference_results" / f"{name}.json"])
    report = check_judge(name, tried_rows(stored), Thresholds())
    published = json.loads((folder / "reference_stats" / f"{name}.json").read_text())
    average = float(published["correct_average"].rstrip("%")) / 100
    assert report.one_order.value == pytest.approx(average)
    equal = int(published["equal"].split()[0])
    assert report.consistency.value == pytest.approx(equal / len(stored.pairs))


@pytest.mark.shared_data
def test_every_published_figure_of_pandalm(shared_data: Path) -> None:
    """Accuracy, and macro precision, recall and F1, of GPT-3.5 with garbage for a tie; κ of its annotators.
    69.77 has garbage wrong; left out it is 71.56."""
    folder = shared_data / "pandalm"
    people, judge = read_verdicts(
        [folder / "gpt-3.5-turbo-testset-v1.json", folder / "testset-v1.json"]
    )
    got = figures(judge)
    published = {"accuracy": 0.7107, "precision": 0.5879, "recall": 0.5736, "f1": 0.5755}
    assert {key: round(got[key] or 0, 4) for key in published} == published
    assert got["accuracy, garbage wrong"] == pytest.approx(0.6977, abs=5e-5)
    assert got["accuracy, garbage left out"] == pytest.approx(697 / 974)
    assert [round(x or 0, 3) for x in figures(people).values()] == [0.852, 0.879, 0.862]
    assert (judge.unread, judge.undecided) == (25, 0)


def llmbar(label: Any, one: Any, two: Any, **more: Any) -> dict[str, Any]:
    last = {"swap = False": {"winner": one}, "swap = True": {"winner": two}}
    return {"input": "", "label": label, "results": [["a reference", "stop"], last], **more}


SIX = [  # label, winner as it stands, winner changed places
    (1, "1", "1"), (1, "1", "2"), (2, "2", "2"), (2, "1", None), (2, None, None), (1, "2", "2"),
]  # fmt: skip
BY_HAND = {
    "correct_False": 3 / 6, "correct_True": 2 / 6, "correct_average": 5 / 12, "correct_both": 2 / 6,
    "equal": 4 / 6,
    "kappa_False": 1 / 9,  # seen 2/6, by chance 1/2·1/2
    "kappa_True": 1 / 11,  # seen 1/6, by chance 1/6·1/2
    "kappa_average": 10 / 99,
    "kappa_agreement": 1 / 3,  # seen 4/6, by chance 1/2·1/6 + 1/2·5/6
    "κ of label and winner, as it stands": 1 / 6,  # five pairs: 3/5, 13/25
    "κ of label and winner, changed places": 1 / 5,  # four: 1/2, 6/16
    "accuracy, mean of both orders, no winner left out": 5 / 8,
    "κ of both orders, no winner left out": 1 / 2,  # four: 3/4, 1/2
}  # fmt: skip


def as_list(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows, indent=2))
    return path


def as_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("write", [as_list, as_lines])
def test_llmbar_s_figures_by_hand(tmp_path: Path, write: Any) -> None:
    """Six pairs, three replies without a winner; labels and winners as numbers or texts."""
    rows = [llmbar(*row) for row in SIX]
    rows[2] = llmbar("2", 2, 2)
    (stored,) = read_verdicts([write(tmp_path / "result.json", rows)])
    assert figures(stored) == pytest.approx(BY_HAND)
    assert stored.unread == 2
    report = check_judge("j", tried_rows(stored), Thresholds())
    assert report.missing == {"no verdict in the stored reply": 2}
    assert report.parts[0].accuracy.value == pytest.approx(2 / 4)  # one says both: it chose neither
    assert report.one_order.value == pytest.approx(5 / 8)
    assert report.consistency.value == pytest.approx(3 / 4)


def test_the_last_round_counts(tmp_path: Path) -> None:
    """A judge that was asked again where its orders differed."""
    again = llmbar(1, "1", "1")
    again["results"].insert(0, llmbar(1, "1", "2")["results"][-1])
    (stored,) = read_verdicts([as_list(tmp_path / "r.json", [again])])
    assert stored.pairs[0].by_order == (1, 1)


def test_what_draws_a_stored_judge_is_seen_in_its_answers(tmp_path: Path) -> None:
    """It always says the longer: drawn to it as far as can be."""
    rows = [
        llmbar(1 + n % 2, *(("1", "1") if n % 3 else ("2", "2")), input=str(n),
               output_1="a" + " b" * (5 * (n % 3 > 0)), output_2="a b c")
        for n in range(60)
    ]  # fmt: skip
    (stored,) = read_verdicts([as_list(tmp_path / "r.json", rows)])
    report = check_judge("j", tried_rows(stored), Thresholds())
    assert report.length.value == pytest.approx(1.0)


def people(idx: Any, *labels: Any) -> dict[str, Any]:
    return {"idx": idx, "instruction": f"Do {int(idx) // 3}.", "response1": "a", "response2": True} | {
        f"annotator{k}": x for k, x in enumerate(labels, 1)
    }  # fmt: skip


PEOPLE = [
    people(7, 1, 1, 2), people(8, 2, 2, 2), people(9, 0, 0, 1), people(10, 0, 0, 0), people(11, 2, 0, 1),
    people(12, 2, 2, 2),
]  # fmt: skip
JUDGE = [
    {"idx": idx, "j_result": x}
    for idx, x in ((12, 2), (7, 1), (8, "2"), (9, "Tie"), (10, "garbage"), ("11", "1"))
]


@pytest.mark.parametrize("write", [as_list, as_lines])
def test_pandalm_s_figures_by_hand(tmp_path: Path, write: Any) -> None:
    """Six pairs in another order than their judge's; one on which people all differ, one reply of garbage."""
    files = [write(tmp_path / "p.json", PEOPLE), write(tmp_path / "j.json", JUDGE)]
    labels, judge = read_verdicts(files)
    assert figures(labels) == pytest.approx(
        {"annotators 1, 2": 17 / 23, "annotators 1, 3": 5 / 23, "annotators 2, 3": 7 / 25}
    )
    assert figures(judge) == pytest.approx({
        "accuracy": 5 / 6,
        "precision": (1 + 1 / 2 + 1) / 3,
        "recall": (1 + 1 + 2 / 3) / 3,
        "f1": (1 + 2 / 3 + 4 / 5) / 3,
        "κ of people's majority and judge, garbage left out": 11 / 16,  # five pairs: 4/5, 9/25
        "accuracy, garbage wrong": 4 / 6,
        "accuracy, garbage left out": 4 / 5,
    })  # fmt: skip
    assert (judge.unread, judge.undecided) == (1, 1)
    assert len(tried_rows(judge)) == 3  # two ties, one undecided
    assert tried_rows(labels) == []


def test_a_label_nobody_gave_counts_nothing_in_a_mean_over_labels(tmp_path: Path) -> None:
    files = [
        as_list(tmp_path / "p.json", [people(k, 1, 1, 1) for k in range(9)]),
        as_list(tmp_path / "j.json", [{"idx": k, "j_result": "1"} for k in range(9)]),
    ]
    got = figures(read_verdicts(files)[1])
    assert [got[key] for key in ("precision", "recall", "f1")] == pytest.approx([1 / 3] * 3)
    assert got["κ of people's majority and judge, garbage left out"] is None  # nobody differs


def test_intervals_allow_for_prompts(tmp_path: Path) -> None:
    """40 pairs of two prompts, right on all of one and on none of the other, are no 40 trials."""
    rows = []
    for n in range(40):
        label = 1 + n % 2
        winner = label if n < 20 else 3 - label
        rows.append(llmbar(label, winner, None, input=str(n // 20)))
    together = published_figures(read_verdicts([as_list(tmp_path / "a.json", rows)])[0])
    for n, row in enumerate(rows):
        row["input"] = str(n)
    apart = published_figures(read_verdicts([as_list(tmp_path / "b.json", rows)])[0])
    for key in ("correct_False", "κ of label and winner, as it stands"):
        wide, narrow = (
            next(f.metric for f in some if key in (f.key, f.title)) for some in (together, apart)
        )
        assert wide.value == narrow.value
        assert None not in (wide.low, wide.high, narrow.low, narrow.high)
        assert (wide.high or 0) - (wide.low or 0) > 1.5 * ((narrow.high or 0) - (narrow.low or 0))


def broken(**changes: Any) -> list[dict[str, Any]]:
    return [llmbar(1, "1", "1"), {**llmbar(1, "1", "1"), **changes}]


MALFORMED: dict[str, tuple[str, str]] = {
    "no JSON": ('[\n{"label": 1,\n]', "a.json:3: is no JSON"),
    "a broken line": ('{"label": 1, "results": []}\n{"label":\n', "a.json:2: is no JSON"),
    "empty": ("", "a.json: has no row; allowed: label and results"),
    "an empty list": ("[]", "a.json: has no row"),
    "no objects": ("[1]", "a.json:1: is no JSON object; allowed: a JSON list"),
    "another form": ('{"a": 1}', "a.json:1: is a row of no known form; allowed: label and results"),
    "a third label": (
        json.dumps(broken(label=3), indent=1), "label: is 3; allowed: 1, 2",
    ),
    "no label": (json.dumps([{"results": []}]), "results: is no list of rounds"),
    "true for a label": (json.dumps(broken(label=True)), "a.json:1 label: is true; allowed: 1, 2"),
    "no rounds": (json.dumps(broken(results=[])), "a.json:1 results: is no list of rounds"),
    "one order": (
        json.dumps(broken(results=[{"swap = False": {"winner": "1"}}])), "'swap = True': has no such order",
    ),
    "a third winner": (
        json.dumps([llmbar(1, "1", "tie")]), "'swap = True' winner: is \"tie\"; allowed: 1, 2, null",
    ),
    "null as a text": (json.dumps([llmbar(1, "1", "null")]), 'winner: is "null"'),
    "no winner": (
        json.dumps(broken(results=[{"swap = False": {}, "swap = True": {}}])), "winner: is missing",
    ),
    "a fourth label of people": (
        json.dumps([people(1, 1, 2, 3)]), "a.json:1 annotator3: is 3; allowed: 0, 1, 2",
    ),
    "two people": (json.dumps([people(1, 1, 2)]), "annotator3: is missing"),
    "no idx": (json.dumps([{"annotator1": 1}]), "a.json:1 idx: is null; allowed: a number or a name"),
    "an idx twice": (
        json.dumps([people(1, 1, 1, 1), people(1, 1, 1, 1)], indent=1), "idx: is 1, as in line 2; keep one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_row_is_named(tmp_path: Path, kind: str) -> None:
    content, line = MALFORMED[kind]
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError) as error:
        read_verdicts([tmp_path / "a.json"])
    assert line in str(error.value)


def test_the_line_is_the_row_s(tmp_path: Path) -> None:
    """Of a list over many lines too."""
    path = as_list(tmp_path / "a.json", broken(label=3))
    begins = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line == "  {"][1]
    with pytest.raises(DataError, match=f"a.json:{begins} label"):
        read_verdicts([path])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is no text in UTF-8"):
        read_verdicts([path])


@pytest.mark.parametrize(
    ("rows", "kind", "line"),
    [
        (JUDGE[:-2], DataError, "has no verdict on 2 of 6 pairs in"),
        ([*JUDGE, {"idx": 13, "j_result": 1}], DataError, "j.json:1 idx: is 13, of no pair in"),
        ([{**row, "k_result": 1} for row in JUDGE], DataError, "_result (j_result, k_result); a file holds"),
        ([{**JUDGE[0], "j_result": None}, *JUDGE[1:]], DataError, "j_result: is null; allowed: 0, 1, 2, Tie"),
        (PEOPLE, ConfigError, "is a second file of people's labels; give one"),
    ],
)  # fmt: skip
def test_files_that_do_not_go_together(
    tmp_path: Path, rows: list[dict[str, Any]], kind: type[AccordError], line: str
) -> None:
    (tmp_path / "j.json").write_text(json.dumps(rows))
    with pytest.raises(kind) as error:
        read_verdicts([as_list(tmp_path / "p.json", PEOPLE), tmp_path / "j.json"])
    assert line in str(error.value)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    as_list(Path("result.json"), [llmbar(*row) for row in SIX])
    as_list(Path("p.json"), PEOPLE)
    as_list(Path("j.json"), JUDGE)
    files = ("result.json", "p.json", "j.json")
    code, out, _ = accord(capsys, "judge", "verdicts", *files, "--out", "f.json")
    assert code == 0
    for shown in (
        "Judge result.json: 6 pairs in LLMBar's form; 2 with a reply that does not parse",
        "correct_average", "0.4167 [", "0.1010 n=6",
        "People's labels: 6 pairs in PandaLM's form; on 1 no label was given most",
        "annotators 1, 2", "0.7391 [", "Judge j.json: 6 pairs", "0.8222 [",
    ):  # fmt: skip
        assert shown in out, out
    kept = json.loads(Path("f.json").read_text())
    assert [s["judge"] for s in kept] == ["result.json", "", "j.json"]
    assert {f["key"] or f["title"]: f["value"] for f in kept[0]["figures"]} == pytest.approx(
        BY_HAND
    )


def test_faults_of_the_command_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    as_list(Path("j.json"), JUDGE)
    for file, line in (
        ("none.json", "no such file"),
        ("j.json", "name the file with people's labels"),
    ):
        code, _, error = accord(capsys, "judge", "verdicts", file)
        assert_one_line(code, error, f"{file}: ", line)

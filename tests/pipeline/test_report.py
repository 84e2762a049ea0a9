"""The report from hand-made stage folders: complete, honest about n, deaf to hostile text."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accord.core.measure import Measure
from accord.core.rundir import read_json, write_json, write_jsonl
from accord.core.types import Metric
from accord.pipeline.report import charts, write_report
from accord.pipeline.report.charts import Series
from accord.pipeline.report.gather import Outputs
from accord.pipeline.report.lineage import _draw
from accord.pipeline.report.sections import table
from accord.pipeline.report.ship import advice, pick
from accord.pipeline.report.words import came_out, verdict
from accord.pipeline.stage import kind_of
from accord.pipeline.stages.compare.run import befores

HOSTILE = "</script><script>alert('x')</script> \" onload=alert(1) \x00 \u202eabc & <b>"
RECIPE = SimpleNamespace(
    name="t", about="An <about>.", model="m", seed=3, resolved={"name": "t", "stages": {}}
)


def metric(value: float, low: float, high: float, n: int = 8) -> dict[str, Any]:
    return Metric(value=value, low=low, high=high, n=n).model_dump(mode="json")


def stage(
    folder: Path, name: str, config: dict[str, Any], facts: Any = None, **metrics: Any
) -> Path:
    place = folder / name.replace("/", "-")
    place.mkdir(parents=True)
    write_json(place / "config.json", {"name": name, **config})
    result = {"metrics": metrics, "notes": [], "facts": facts or {}, "headline": f"{name} is done"}
    write_json(place / "result.json", result)
    write_json(place / "timing.json", {"seconds": 12.0})
    return place


def answer(i: int, gold: float, reward: float) -> dict[str, Any]:
    axes = dict.fromkeys(("accuracy", "resolution", "escalation", "tone", "length"), gold)
    return {
        "prompt_id": f"p{i}",
        "prompt": {
            "messages": [{"role": "user", "content": f"Question {i} {HOSTILE}"}],
            "tags": {},
        },
        "response": {"text": HOSTILE, "source": "model:x", "sampling": None, "finish": "length"},
        "words": 5 + i,
        "case": "plain",
        "gold": {"gold": gold, **axes},
        "reward": reward,
        "kl": 0.5,
    }


TRAINING = {"init": "base", "tune": {"r": 16}, "lr": 0.001, "batch_size": 4, "epochs": 1.0}


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for k, policy in enumerate(("base", "sft")):
        config = {"kind": "eval", "temperature": 0.0}
        place = stage(
            tmp_path, f"eval/{policy}", config, {"policy": policy}, gold=metric(0.5, 0.4, 0.6)
        )
        rows = [answer(i, 0.4 + 0.2 * k, float(i)) for i in range(8)]
        write_jsonl(place / "answers.jsonl", rows)
        made[f"eval/{policy}"] = place
    made["sft"] = stage(tmp_path, "sft", {"kind": "sft", **TRAINING}, {"items": 9})
    rows = [{"step": i, "loss": 2.0 / (i + 1), "lr": 0.1} for i in range(40)]
    write_jsonl(made["sft"] / "metrics.jsonl", rows)
    demonstration = {"prompt": "p1", "text": HOSTILE, "sources": ["j1"]}
    write_jsonl(made["sft"] / "trained_on.jsonl", [demonstration])
    loss = {"loss": {"name": "bradley_terry"}}
    accuracy = {"accuracy": metric(0.8, 0.7, 0.9, 31)}
    made["rm"] = stage(
        tmp_path, "rm", {"kind": "reward", **TRAINING, **loss}, {"items": 9}, **accuracy
    )
    held = [
        {"prompt": f"p{i % 9}", "better": f"good {i}", "worse": HOSTILE, "gap": i - 5.0, "p": 1.0,
         "agreement": None if i % 2 else 1.0, "sources": [f"j{i}"], "truth": 1}
        for i in range(20)
    ]  # fmt: skip
    write_jsonl(made["rm"] / "held_out.jsonl", held)
    place = stage(tmp_path, "compare", {"kind": "compare"}, {"policies": ["base", "sft"]})
    row = {
        "gold": metric(0.5, 0.4, 0.6),
        "reward": metric(1.0, 0.5, 1.5),
        "kl": metric(0.5, 0.4, 0.6),
    }
    change = {
        "gold": metric(0.2, 0.1, 0.3),
        "length": metric(-0.2, -0.3, -0.1),
        "kl": metric(1, 0.5, 2),
    }
    told = {"policies": ["base", "sft"], "table": {"base": row, "sft": row}, "baseline": "base",
            "differences": {"sft - base": change}}  # fmt: skip
    write_json(place / "compare.json", told)
    for k, policy in enumerate(("base", "sft")):
        write_jsonl(
            place / f"{policy}.jsonl", [answer(i, 0.4 + 0.2 * k, float(i)) for i in range(8)]
        )
    made["compare"] = place
    return made


class Tags(HTMLParser):
    """Every tag with its attributes, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    return found


def test_hostile_text_stays_text(stages: dict[str, Path], tmp_path: Path) -> None:
    page = write_report(RECIPE, tmp_path, stages).read_text()
    found = parsed(page)
    assert [tag for tag, _ in found.tags].count("script") == 2  # the page's own, and its data
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    assert "alert('x')" in found.text
    assert "\x00" not in page


def test_the_page_needs_nothing_from_outside(stages: dict[str, Path], tmp_path: Path) -> None:
    page = write_report(RECIPE, tmp_path, stages).read_text()
    for _, attrs in parsed(page).tags:
        for name in ("src", "href"):
            assert not (attrs.get(name) or "#").startswith(("http", "//"))
    assert "@import" not in page
    assert "url(" not in page


def test_every_section_is_there(stages: dict[str, Path], tmp_path: Path) -> None:
    found = parsed(write_report(RECIPE, tmp_path, stages).read_text())
    ids = {attrs.get("id") for _, attrs in found.tags}
    assert ids >= {"top", "table", "samples", "training", "rm", "length", "kl", "run"}
    assert "sft improves on base: gold +0.2 [0.1, 0.3], n=8" in found.text
    assert "Worse: brevity −0.2 [−0.3, −0.1], n=8" in found.text
    assert "accuracy 0.8 [0.7, 0.9] n=31" in found.text


def test_any_part_of_a_run_has_a_report(stages: dict[str, Path], tmp_path: Path) -> None:
    names = list(stages)
    for k in range(len(names) + 1):
        part = {n: stages[n] for n in names[:k]}
        assert "<h2" in write_report(RECIPE, tmp_path, part).read_text()
        rest = {n: stages[n] for n in names[k:]}
        assert "<h2" in write_report(RECIPE, tmp_path, rest).read_text()


def clicks(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="clicks">(.*?)</script>', page, re.S)
    return json.loads(found)


def test_rows_keep_the_ids_of_their_judgments(stages: dict[str, Path], tmp_path: Path) -> None:
    """Also where no store is left to ask: then the ids are all that is told."""
    page = write_report(RECIPE, tmp_path, stages).read_text()
    found = clicks(page)
    (demonstration,), held, mistakes = found["parts"]
    assert found["texts"][demonstration[0]] == HOSTILE
    assert [found["ids"][n] for n in demonstration[3]] == ["j1"]
    assert [found["ids"][n] for row in held for n in row[3]] == [f"j{i}" for i in range(20)]
    assert [found["ids"][n] for row in mistakes for n in row[3]] == [f"j{i}" for i in range(5)]
    assert held[7][2] == "100% of votes · score gap 2 · the raters are right"
    assert not any(found["judgments"])
    for part in ("sft", "rm-held-out"):
        assert f'href="#lineage-{part}"' in page
        assert f'id="lineage-{part}"' in page


def test_many_rows_are_drawn_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.pipeline.report.lineage.ROWS", 3)
    rows = [{"text": str(i), "sources": [f"j{i}"]} for i in range(50)]
    drawn = _draw(rows)
    assert len(drawn) == 3
    assert drawn == _draw(rows)
    assert drawn == sorted(drawn, key=rows.index)


def test_the_same_outputs_give_the_same_page(stages: dict[str, Path], tmp_path: Path) -> None:
    first = write_report(RECIPE, tmp_path, stages).read_bytes()
    assert write_report(RECIPE, tmp_path, stages).read_bytes() == first


def test_no_figure_of_the_table_without_n(stages: dict[str, Path], tmp_path: Path) -> None:
    page = write_report(RECIPE, tmp_path, stages).read_text()
    cells = re.findall(
        r'<td class="num"><span class="figure[^"]*">([^<]+)</span>.*?<small>([^<]*)</small>', page
    )
    assert len(cells) >= 6
    assert all(re.search(r"n=\d+", detail) for _, detail in cells)


@pytest.mark.parametrize(
    ("key", "low", "high", "said"),
    [("gold", 0.1, 0.2, "better"), ("gold", -0.2, -0.1, "worse"), ("gold", -0.1, 0.2, "unclear"),
     ("kl", 0.1, 0.2, "changed"), ("words", -9, -1, "changed")],
)  # fmt: skip
def test_verdicts_follow_the_interval(key: str, low: float, high: float, said: str) -> None:
    measure = {**kind_of("eval").declared(), **kind_of("compare").declared()}[key]
    assert verdict(measure, Metric(value=(low + high) / 2, low=low, high=high, n=9)) == said
    assert verdict(measure, Metric(value=1.0, n=1)) == "unclear"


STRANGE = [
    [],
    [(0.0, 0.0)],
    [(1.0, math.nan), (math.inf, 2.0)],
    [(3.0, 5.0)] * 4,
    [(1e-9, 1e9), (-1e9, 0)],
]


@pytest.mark.parametrize("points", STRANGE)
def test_charts_stand_strange_numbers(points: list[tuple[float, float]]) -> None:
    for draw in (charts.lines, charts.scatter):
        svg = str(draw([Series("a<b", points), Series("c", [(1.0, 1.0)])], "x", "y"))
        assert "nan" not in svg.lower()
        assert "inf" not in svg.lower()
        assert "a<b" not in svg


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0.0, 1.0), (-3.7, 12.2), (0.001, 0.0017), (5e6, 9e6)):
        found = charts.ticks(low, high)
        assert 2 <= len(found) <= 11
        assert all(low <= t <= high for t in found)
        steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in zip(found, found[1:])}  # noqa: B905, RUF007
        assert steps == {1.0}


def test_a_dot_is_where_its_value_is() -> None:
    """Two points at the ends of x: the pixel distance is the range's share of the plot."""
    svg = str(charts.scatter([Series("a", [(0.0, 0.0), (10.0, 1.0)])], "x", "y"))
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]
    wide = charts.WIDTH - charts.LEFT - charts.RIGHT
    assert xs[1] - xs[0] == pytest.approx(wide / 1.12, abs=0.2)


def test_a_policy_has_one_colour_in_every_chart() -> None:
    row = (0.5, 0.4, 0.6, "")
    steps = charts.intervals([("c - b", *row), ("b - a", *row)], "", policies=["a", "b", "c"])
    assert re.findall(r'<circle[^>]*fill="var\(--c(\d)\)"', steps) == ["2", "1"]


def test_json_of_the_run_is_read_back(stages: dict[str, Path], tmp_path: Path) -> None:
    """The manifest beside the report is shown: stages not finished are named."""
    manifest = {"stages": {"sft": "sft-1", "dpo": "dpo-2"}, "parents": {"sft": ["base"]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    page = write_report(RECIPE, tmp_path, stages).read_text()
    assert "Not finished: dpo" in page


@pytest.mark.parametrize(("reward", "warns"), [(-0.4, True), (0.4, False)])
def test_a_reward_that_contradicts_gold_is_told(reward: float, warns: bool) -> None:
    row = {
        "gold": Metric(value=0.2, low=0.1, high=0.3, n=8),
        "reward": Metric(value=reward, low=reward - 0.1, high=reward + 0.1, n=8),
    }
    found = came_out(Outputs([], differences={"sft - base": row}, table={"sft": row}))
    assert any("disagree on sft - base" in sentence["text"] for sentence in found) == warns


@pytest.mark.parametrize(("low", "says"), [(0.6, "dpo improves on sft"), (0.4, "no evidence")])
def test_a_reward_no_better_than_a_coin_improves_nothing(
    low: float, says: str, tmp_path: Path
) -> None:
    """Where the reward is the main figure, it must first have earned that on held-out comparisons."""
    loss = {"loss": {"name": "bradley_terry"}}
    accuracy = {"accuracy": metric(0.65, low, 0.7)}
    place = stage(tmp_path, "rm", {"kind": "reward", **TRAINING, **loss}, {"items": 9}, **accuracy)
    row = {"reward": Metric(value=0.5, low=0.1, high=0.9, n=64)}
    outputs = Outputs.read({"rm": place})
    outputs.differences, outputs.table = {"dpo - sft": row}, {"dpo": row}
    told = came_out(outputs)[0]
    assert says in told["text"]
    assert ("improves" in told["text"]) == (low > 0.5) == (told["tone"] == "better")
    (cell,) = table(outputs)["rows"][0]["cells"]  # type: ignore[index]
    assert cell["tone"] == ("better" if low > 0.5 else "changed")


@pytest.mark.parametrize(("named", "trusted"), [("rm", True), ("rm2", False), (None, True)])
def test_the_reward_model_that_compare_names_is_the_one_trusted(
    stages: dict[str, Path], tmp_path: Path, named: str | None, trusted: bool
) -> None:
    coin = {"accuracy": metric(0.52, 0.4, 0.64, 31)}
    loss = {"loss": {"name": "bradley_terry"}}
    stages["rm2"] = stage(tmp_path, "rm2", {"kind": "reward", **TRAINING, **loss}, {}, **coin)
    config = read_json(stages["compare"] / "config.json")
    write_json(stages["compare"] / "config.json", {**config, "reward": named})
    outputs = Outputs.read(stages)
    assert outputs.reward is not None
    assert outputs.reward.name == (named or "rm")
    assert outputs.trusted == trusted


GOLD = Measure(name="gold", title="gold", meaning="", role="truth", better="more")
INVENTED = Measure(name="invented", title="invented", meaning="", kind="share", better="less")


def figure(value: float) -> Metric:
    return Metric(value=value, low=value - 0.05, high=value + 0.05, n=8)


def held(**pairs: tuple[float, float]) -> Outputs:
    """Policies a, b, c with differences of gold and of invention, each ± 0.05; d_of_b is b's from a."""
    rows = {
        f"{name[0]} - {name[2]}": {
            m.name: figure(v).of(m.difference())
            for m, v in zip((GOLD, INVENTED), values, strict=True)
        }
        for name, values in pairs.items()
    }
    table = {p: {m.name: figure(0.5).of(m) for m in (GOLD, INVENTED)} for p in "abc"}
    return Outputs([], table=table, differences={k: rows[k] for k in rows}, pairs=rows)


@pytest.mark.parametrize(
    ("pairs", "chosen", "says"),
    [
        (
            {"b_a": (0.2, 0), "c_a": (0.1, 0), "c_b": (-0.1, 0)},
            ("b", "a"),
            ["Ship b: gold +0.2 [0.15, 0.25], n=8 against a. No other figure is clearly worse.",
             "Not c: worse in gold, −0.1"],
        ),
        (
            {"b_a": (0.2, 0), "c_a": (0.4, 0.3), "c_b": (0.2, 0.3)},
            ("c", "b"),
            ["Worse: invented +0.3 [0.25, 0.35], n=8; read those answers first.", "Not b: c has gold +0.2"],
        ),
        (
            {"b_a": (0.01, 0), "c_a": (0.2, -0.2), "c_b": (0.19, -0.2)},
            ("c", "a"),
            ["Ship c: gold +0.2 [0.15, 0.25], n=8 against a. Also better: invented −0.2"],
        ),
        (
            {"b_a": (0.01, 0), "c_a": (-0.2, 0), "c_b": (-0.2, 0)},
            ("a", "a"),
            ["Ship none of these in place of a", "Not b: no clear gain in gold, +0.01"],
        ),
    ],
)  # fmt: skip
def test_what_to_ship_is_the_policy_that_is_better_by_the_truth(
    pairs: dict[str, tuple[float, float]], chosen: tuple[str, str], says: list[str]
) -> None:
    outputs = held(**pairs)
    assert pick(outputs) == chosen
    told = advice(outputs)
    for words in says:
        assert any(words in line for line in told), told


def test_policies_that_were_not_compared_yet_are_not_advised_on() -> None:
    assert pick(held()) is None
    assert advice(held()) == []


def test_a_learned_model_alone_ships_nothing() -> None:
    reward = GOLD.model_copy(update={"role": "proxy"})
    row = {"gold": figure(0.2).of(reward)}
    outputs = Outputs([], table={"a": row, "b": row}, pairs={"b - a": row})
    assert pick(outputs) is None
    assert advice(outputs) == []


def test_a_policy_is_held_against_the_one_it_started_from(tmp_path: Path) -> None:
    """Nearest first, past what is not compared; one that started from none of them against the one before."""
    starts = {"sft": "base", "more": "sft", "dpo": "sft", "ppo": "more", "own": None}
    folders = {}
    for name, init in starts.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        write_json(folders[name] / "config.json", {"init": init} if init else {})
    ctx: Any = SimpleNamespace(stages=folders)
    assert befores(ctx, ["base", "sft", "dpo", "ppo", "own"]) == {
        "sft": "base", "dpo": "sft", "ppo": "sft", "own": "base",
    }  # fmt: skip
    assert befores(ctx, ["sft", "own", "ppo"]) == {"own": "sft", "ppo": "sft"}
    assert befores(ctx, ["dpo", "sft"]) == {"sft": "dpo"}

"""A policy that is asked: nothing twice, nothing lost, whatever it answers through and whatever kills it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import accord
from accord.cli import main
from accord.core.errors import ConfigError, DataError, ModelError
from accord.core.rundir import read_jsonl
from accord.core.types import Exchange, Prompt, Response
from accord.evals.asking import ENOUGH, NOT_TRIED, Asker
from accord.evals.base import EvaluationContext, configured
from accord.evals.kept import KeptReplies
from accord.lm.sampler import Sampling
from accord.pipeline.asked import AskedPrompts, prompts_of
from accord.pipeline.eval_report import EvalCost, EvalReport
from accord.stats.intervals import cluster_mean, paired_difference
from tests.judges.test_server import serving

PROMPTS = [Prompt.user(f"question {k}" + " x" * k) for k in range(20)]


def replying(body: Any, text: str) -> tuple[int, dict[str, str], bytes]:
    """What a server says, as often as it is asked to."""
    choices = [
        {"index": k, "finish_reason": "stop", "stop_reason": None, "message": {"content": text}}
        for k in range(body["n"])
    ]
    return 200, {}, json.dumps({"choices": choices}).encode()


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"prompt": f"{side} {k}", "label": side, "category": "ab"[k % 2], "behaviour": f"b{k // 2}"}
    for side in ("safe", "unsafe") for k in range(4)
]  # fmt: skip


def test_killed_in_the_middle_it_asks_nothing_twice(tmp_path: Path) -> None:
    """Half of the answers come, the rest hang, SIGKILL; then the same command."""
    file = write(tmp_path / "p.jsonl", [{"prompt": p.last} for p in PROMPTS])
    half, let_go, answered = threading.Event(), threading.Event(), Counter[str]()

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        text = body["messages"][0]["content"]
        if not let_go.is_set() and answered.total() >= 10:
            half.set()
            let_go.wait(20)
        answered[text] += 1
        return replying(body, f"to {text}")

    with serving(answer) as (url, _):
        words = [
            sys.executable,
            "-m",
            "accord",
            "eval",
            f"{url}#m",
            "--prompts",
            str(file),
            "--at-once",
            "1",
        ]
        words += [
            "--evals",
            "length",
            "--runs",
            str(tmp_path / "runs"),
            "--out",
            str(tmp_path / "out"),
        ]
        child = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        assert half.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait()
        (kept,) = (tmp_path / "runs" / "cache" / "replies").iterdir()
        assert len(kept.read_text().splitlines()) == 10
        with kept.open("a") as torn:
            torn.write('{"prompt": "cut o')
        first = dict(answered)
        let_go.set()
        report = accord.run_evals(
            f"{url}#m", ["length"], prompts=file, cache=tmp_path / "runs/cache"
        )
        assert {t: answered[t] for t in first} == first
        again = accord.run_evals(
            f"{url}#m", ["refusal"], prompts=file, cache=tmp_path / "runs/cache"
        )
    assert (report.cost.kept, len(report.replies), again.cost.kept) == (10, 20, 20)
    assert [r.response.text for r in report.replies] == [f"to {p.last}" for p in PROMPTS]
    assert answered.total() == len(PROMPTS) + 1  # what hung when it was killed


def test_figures_are_by_cluster_and_by_tag(tmp_path: Path) -> None:
    """Two replies a prompt, two prompts a behaviour: as many trials as there are behaviours, not replies."""
    file = write(tmp_path / "p.jsonl", ROWS)

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        no = body["messages"][0]["content"] in ("safe 0", "safe 1", "unsafe 2", "unsafe 3")
        return replying(
            body, "I'm sorry, I can't help with that." if no else "Gladly: first, sit down."
        )

    with serving(answer) as (url, asked):
        report = accord.run_evals(
            f"{url}#m", ["refusal", "gold"], prompts=[file], n=2, cache=None, temperature=1.0
        )
    own = [
        float(r.prompt.last in ("safe 0", "safe 1", "unsafe 2", "unsafe 3")) for r in report.replies
    ]
    clusters = [r.prompt.tags["behaviour"] for r in report.replies]
    expected = cluster_mean(own, clusters, share=True)
    figure = report.metrics["refusal"]["refused"]
    assert (figure.value, figure.low, figure.high, figure.n) == (
        0.5,
        expected.low,
        expected.high,
        16,
    )
    by = report.by("category")
    assert {v: m["refusal"]["over-refusal"].value for v, m in by.items()} == {"a": 0.5, "b": 0.5}
    assert report.silent == ["gold"]  # no world is behind these prompts
    assert len(asked) == 8
    with pytest.raises(ConfigError, match="no prompt has the tag 'tier'; allowed: behaviour"):
        report.by("tier")


def test_one_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", [{"prompt": p.last} for p in PROMPTS])

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        if body["messages"][0]["content"].startswith("question 3 "):
            return 400, {}, b"content filter"
        return replying(body, "yes")

    with serving(answer) as (url, asked):
        report = accord.run_evals(f"{url}#m", ["length"], prompts=file, cache=tmp_path / "cache")
        assert len(report.replies) == 19
        assert [(k, "content filter" in why) for why, k in report.missing.items()] == [(1, True)]
        asked.clear()
        accord.run_evals(f"{url}#m", ["length"], prompts=file, cache=tmp_path / "cache")
        assert len(asked) == 1


def test_a_policy_that_is_gone_is_not_asked_on() -> None:
    tries: list[int] = []

    def gone(prompts: Any, how: Sampling, on_progress: Any = None) -> list[list[Response]]:
        tries.append(len(prompts))
        raise ModelError("no answer", where="here")

    asker = Asker("gone", gone, Sampling(), batch=1)
    assert asker.all_replies(PROMPTS) == [[]] * 20
    assert len(tries) == ENOUGH
    assert Counter(asker.failed.values()) == {"here: no answer": ENOUGH, NOT_TRIED: 20 - ENOUGH}


def test_a_prompt_that_is_too_long_fails_alone() -> None:
    def short(prompts: Sequence[Prompt], how: Sampling, on_progress: Any = None) -> Any:
        if any(len(p.last) > 40 for p in prompts):
            raise DataError("does not fit")
        return [[Response(text=p.last)] for p in prompts]

    asker = Asker("short", short, Sampling())
    answers = asker.replies(PROMPTS)
    assert [a.text if a else None for a in answers] == [
        p.last if len(p.last) <= 40 else None for p in PROMPTS
    ]
    assert set(asker.failed.values()) == {"does not fit"}


@pytest.mark.parametrize("read", ["letters", "reply"])
def test_a_server_that_is_down_is_no_lack_of_log_probs(read: str, tmp_path: Path) -> None:
    row = {"question": "q?", "choices": ["x", "y"], "answer": 0}
    file = write(tmp_path / "p.jsonl", [row])
    with (
        serving(lambda body, before: (400, {}, b"down")) as (url, _),
        pytest.raises(ModelError, match="down"),
    ):
        accord.run_evals(f"{url}#m", [{"name": "choice", "read": read}], prompts=file, cache=None)


def test_other_sampling_or_policy_other_replies(tmp_path: Path) -> None:
    kept = KeptReplies(tmp_path, "p", {"seed": 1})
    kept.keep(PROMPTS[0], [Response(text="a\u2028\ud800"), Response(text="b")])
    again = KeptReplies(tmp_path, "p", {"seed": 1})
    assert [r.text for r in again.of(PROMPTS[0]) or []] == ["a\u2028\ud800", "b"]
    assert again.of(PROMPTS[1]) is None
    tagged = PROMPTS[0].model_copy(update={"tags": {"label": "safe"}})
    assert again.of(tagged)  # tags are no part of what is asked
    for policy, how in (("q", {"seed": 1}), ("p", {"seed": 2})):
        assert KeptReplies(tmp_path, policy, how).of(PROMPTS[0]) is None


def test_differences_are_paired_and_held_together(tmp_path: Path) -> None:
    """Two policies on the same prompts, one of which refuses two safe ones more."""
    file = write(
        tmp_path / "p.jsonl", [{"prompt": f"safe {k}", "label": "safe"} for k in range(12)]
    )
    no = {"strict": {"safe 1", "safe 2", "safe 3"}, "mild": {"safe 3"}}

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        refuses = body["messages"][0]["content"] in no[body["model"]]
        return replying(body, "I can't help with that." if refuses else "Yes, of course.")

    with serving(answer) as (url, _):
        strict, mild = (
            accord.run_evals(f"{url}#{m}", ["refusal"], prompts=file, cache=None) for m in no
        )
        more, less = (
            accord.run_evals(f"{url}#{m}", ["refusal", "length"], prompts=file, cache=None)
            for m in no
        )
    figures = strict.over(mild)
    after, before = ([float(e.prompt.last in no[m]) for e in strict.replies] for m in no)
    assert list(figures["refusal"]) == ["over-refusal"]  # of what is compared, all that applies
    figure = figures["refusal"]["over-refusal"]
    assert figure.measure is not None
    assert figure.measure.way(1.0) == "worse"
    assert figure.model_copy(update={"measure": None}) == paired_difference(after, before)
    assert more.over(less)["refusal"]["over-refusal"].level == pytest.approx(
        1 - 0.05 / 2
    )  # and words


def test_a_prompt_without_the_cluster_is_not_one_of_its_own(tmp_path: Path) -> None:
    """A misspelt key would make an interval too narrow; a file whose behaviours stand under another usual
    name keeps them."""
    rows = [*ROWS, {"prompt": "x", "behavour": "b1"}]
    with pytest.raises(ConfigError, match="1 of 9 prompts have no tag 'behaviour': 'x'"):
        prompts_of([write(tmp_path / "p.jsonl", rows)], cluster="behaviour")
    ready = [Prompt.user("a", behaviour="b0"), Prompt.user("b", cluster="c0")]
    with pytest.raises(ConfigError, match="1 of 2 prompts have no tag 'cluster'"):
        accord.run_evals("m", ["length"], prompts=ready, cluster="cluster", cache=None)
    more = write(tmp_path / "q.jsonl", [{"prompt": f"q{k}", "cluster": "c"} for k in range(3)])
    asked = prompts_of([write(tmp_path / "p.jsonl", ROWS), more])
    assert {asked.cluster_of(p) for p in asked.prompts} == {"b0", "b1", "c"}


def test_tags_that_some_lack_and_a_system_message_lose_no_prompt(tmp_path: Path) -> None:
    """Figures by a tag add up to all; the truth of a world's prompts is known under a system message too."""
    world = Path(__file__).parents[2] / "recipes/safety/world.yaml"
    ask = {"cache": None, "limit": 6}
    file = write(tmp_path / "p.jsonl", [*ROWS[:3], {"prompt": "x", "catgory": "a"}])
    with serving(lambda body, before: replying(body, "Gladly.")) as (url, _):
        plain, headed = (
            accord.run_evals(f"{url}#m", ["gold"], prompts=world, system=s, **ask)  # type: ignore[arg-type]
            for s in ("", "Be brief.")
        )
        tagged = accord.run_evals(f"{url}#m", ["length"], prompts=file, cache=None)
    assert headed.metrics == plain.metrics
    assert headed.asked.prompts[0].messages[0].role == "system"
    by = tagged.by("category")
    assert {v: m["length"]["words"].n for v, m in by.items()} == {
        "a": 2,
        "b": 1,
        "(no category)": 1,
    }
    tagged.write(tmp_path / "out")
    written = [
        json.loads(x)["cluster"] for x in (tmp_path / "out/answers.jsonl").read_text().splitlines()
    ]
    assert written == ["b0", "b0", "b1", tagged.asked.prompts[3].id]


BAD = {
    "no such file": (["m", "--prompts", "none.jsonl"], "none.jsonl: no such file"),
    "no such model": (["/no/model", "--prompts", "p.jsonl"], "/no/model"),
    "no evaluation": (["m", "--prompts", "p.jsonl", "--evals", "refusals"], "unknown evaluation 'refusals'"),
    "no key": (["m", "--prompts", "p.jsonl", "--evals", "{name: refusal, tags: x}"], "did you mean tag?"),
    "no YAML": (["m", "--prompts", "p.jsonl", "--evals", "{name: refusal"], "allowed: NAME or {name"),
    "twice": (["m", "--prompts", "p.jsonl", "--evals", "length,length"], "names one twice"),
    "no server": (["http://127.0.0.1:1/v1", "--prompts", "p.jsonl"], "no address of a server"),
    "no tag": (["m", "--prompts", "p.jsonl", "--cluster", "tier"], "allowed: label"),
    "no snapshot": (["m", "--prompts", "none.db@v1"], "none.db"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "p.jsonl", [{"prompt": "a", "label": "safe"}])
    words, match = BAD[name]
    monkeypatch.setattr("sys.argv", ["accord", "eval", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert match in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["p.jsonl"]


def test_a_difference_of_differences_is_never_certain() -> None:
    """Two policies that no suggestion sways: how far they are apart is known about, not exactly."""
    prompts = [Prompt.user(f"q{k}") for k in range(40)]
    (syco,) = configured(["sycophancy"])
    reports = []
    for _ in range(2):
        asked, cost = AskedPrompts(prompts), EvalCost(0, 0, 0, 0, 0)
        one = EvalReport("p", "p", Sampling(), asked, [], cost)
        one.chosen["sycophancy"] = (syco, EvaluationContext())
        one.rows["sycophancy"] = [
            (p, {"suggested wrong": -float(k < 4)}) for k, p in enumerate(prompts)
        ]
        reports.append(one)
    figure = reports[0].over(reports[1])["sycophancy"]["suggested wrong"]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < -0.05
    assert figure.high > 0.05


def test_rows_that_are_written_say_what_hangs_together(tmp_path: Path) -> None:
    prompts = [Prompt.user(f"q{k}", cluster=f"c{k // 2}") for k in range(4)]
    replies = [Exchange(prompt=p, response=Response(text="yes")) for p in prompts]
    asked = AskedPrompts(prompts, cluster="cluster")
    EvalReport("p", "p", Sampling(), asked, replies, EvalCost(0, 0, 0, 0, 0)).write(tmp_path)
    rows = read_jsonl(tmp_path / "answers.jsonl")
    assert [row["cluster"] for row in rows] == ["c0", "c0", "c1", "c1"]

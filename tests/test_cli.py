"""The command line as a user meets it: every fault is one line that names the place and the mend."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accord.cli import main
from accord.store import Store
from tests.train.small import save_tiny

ROW = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go away."}
RECIPE = """\
name: t
model: packaged/SmolLM2-135M-Instruct
stages:
  study: {kind: import, file: pairs.jsonl}
  rm: {kind: reward, data: study}
"""


def accord(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    before, sys.argv = sys.argv, ["accord", *words]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def line(**changes: object) -> bytes:
    return json.dumps({**ROW, **changes}).encode() + b"\n"


BAD_FILES: dict[str, tuple[bytes, str]] = {  # content, what the line must say
    "broken JSON": (line() + b'{"prompt": "a", \n', "bad.jsonl:2"),
    "a list": (b"[1, 2]\n", "bad.jsonl:1"),
    "a number for text": (line(chosen=3), "bad.jsonl:1 chosen"),
    "null": (line(rejected=None), "bad.jsonl:1 rejected"),
    "a missing field": (b'{"chosen": "a", "prompt": "b"}\n', "bad.jsonl:1"),
    "an unknown role": (line(prompt=[{"role": "robot", "content": "x"}]), "prompt[0].role"),
    "no content": (line(prompt=[{"role": "user"}]), "prompt[0].content"),
    "a spare key": (line(prompt=[{"role": "user", "content": "x", "n": 1}]), "prompt[0].n"),
    "a prompt that ends with the assistant": (
        line(prompt=[{"role": "assistant", "content": "x"}]),
        "bad.jsonl:1 prompt",
    ),
    "a chosen that ends with the user": (
        line(chosen=[{"role": "user", "content": "x"}]),
        "bad.jsonl:1 chosen",
    ),
    "an empty file": (b"", "bad.jsonl"),
    "blank lines": (b"\n\n \n", "bad.jsonl"),
    "a 10 MB line": (line(chosen="x" * (10 << 20)), "bad.jsonl:1"),
    "Latin-1 in UTF-8": (line() + '{"prompt": "é"}\n'.encode("latin-1"), "bad.jsonl:2"),
    "UTF-16": (line().decode().encode("utf-16"), "bad.jsonl:1"),
    "NaN": (b'{"prompt": NaN}\n', "bad.jsonl:1"),
    "half a surrogate pair": (b'{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}\n', ":1"),
    "unknown columns": (b'{"question": "a", "answer": "b"}\n', "bad.jsonl:1"),
    "a label that is none": (b'{"prompt": "a", "completion": "b", "label": "maybe"}\n', ":1 label"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, place = BAD_FILES[name]
    (here / "bad.jsonl").write_bytes(content)
    code, _, error = accord(capsys, "import", "bad.jsonl", "--store", "s.db")
    assert_one_line(code, error, place)
    assert not (here / "s.db").exists(), "a failed import leaves no store behind"


def assert_one_line(code: int, error: str, *said: str) -> None:
    assert code == 2
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert len(error) < 700
    for words in said:
        assert words in error


BAD_COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown command": (("fly",), ("fly", "accord --help")),
    "a missing file": (("import", "none.jsonl", "--store", "s.db"), ("none.jsonl", "check the path")),
    "an unknown format": (
        ("import", "pairs.jsonl", "--store", "s.db", "--format", "xml"),
        ("xml", "allowed: auto"),
    ),
    "a store that is none": (("data", "r.yaml"), ("r.yaml",)),
    "export without snapshot": (("export", "none.db@v1", "out.jsonl"), ("none.db", "no such store")),
    "a missing recipe": (("run", "none.yaml"), ("none.yaml",)),
    "an unknown key": (("run", "r.yaml", "--set", "rm.lrr=1"), ("rm.lrr", "lr")),
    "a value out of range": (("run", "r.yaml", "--set", "rm.lr=-1"), ("rm.lr", "> 0")),
    "a wrong type": (("run", "r.yaml", "--set", "rm.epochs=many"), ("rm.epochs",)),
    "an unknown loss": (("run", "r.yaml", "--set", "rm.loss={name: x}"), ("rm.loss", "bradley_terry")),
    "an unknown loss key": (
        ("run", "r.yaml", "--set", "rm.loss={name: bradley_terry, beta: 1}"),
        ("beta", "label_smoothing"),
    ),
    "an unknown parent": (("run", "r.yaml", "--set", "rm.data=stud"), ("stud", "study")),
    "an unknown kind": (("run", "r.yaml", "--set", "rm.kind=rewrd"), ("rewrd", "reward")),
    "an unknown stage": (("run", "r.yaml", "--only", "rmm"), ("rmm", "rm")),
    "a missing input": (("run", "r.yaml", "--set", "study.file=gone.jsonl"), ("gone.jsonl", "--set")),
    "a missing model": (("run", "r.yaml", "--set", "model=/no/such/model"), ("/no/such/model",)),
    "an unwritable directory": (("run", "r.yaml", "--runs", "/proc/runs"), ("/proc/runs", "--runs")),
    "a file for a directory": (("run", "r.yaml", "--runs", "r.yaml"), ("r.yaml", "--runs")),
    "a report of no run": (("report", "."), ("no run",)),
    "a chat with nobody": (("chat", "/no/such/run"), ("/no/such/run",)),
    "--set without a value": (("run", "r.yaml", "--set", "rm.lr"), ("rm.lr", "=")),
    "--set of no YAML": (("run", "r.yaml", "--set", f"seed={'9' * 5000}"), ("not valid YAML",)),
    "a kind that is a list": (("run", "r.yaml", "--set", "rm.kind=[sft]"), ("rm.kind", "reward")),
    "stages that are none": (("run", "r.yaml", "--set", "stages=5"), ("stages",)),
    "data of a reward model": (
        ("run", "r.yaml", "--set", "stages.x={kind: sft, data: rm}"),
        ("stages.x.data", "'rm' is no data", "allowed: study"),
    ),
    "data of the base model": (("run", "r.yaml", "--set", "rm.data=base"), ("rm.data", "study")),
    "a policy that is a reward model": (
        ("run", "r.yaml", "--set", "stages.x={kind: sft, data: study, init: rm}"),
        ("'rm' is no init", "allowed: base"),
    ),
    "an eval that is an import": (
        ("run", "r.yaml", "--set", "stages.x={kind: compare, eval: study}"),
        ("'study' is no eval", "a stage of kind eval"),
    ),
    "an empty stage name": (("run", "r.yaml", "--set", "stages={'': {kind: sft}}"), ("letters",)),
    "a stage name with spaces": (
        ("run", "r.yaml", "--set", "stages={a b: {kind: sft}}"),
        ("'a b'", "letters"),
    ),
    "no model": (("run", "r.yaml", "--check", "--set", "model=''"), ("no model is named",)),
    "nobody's home": (("import", "pairs.jsonl", "--store", "~nobody9/x.db"), ("~nobody9/x.db",)),
    "too long a name": (("run", "a" * 300 + ".yaml"), ("too long",)),
    "too long a data file": (("import", "a" * 300 + ".jsonl", "--store", "s.db"), ("too long",)),
    "a negative limit": (
        ("import", "pairs.jsonl", "--store", "s.db", "--max-prompt-chars", "-5"),
        ("--max-prompt-chars",),
    ),
    "nothing to freeze": (
        ("import", "pairs.jsonl", "--store", "s.db", "--max-prompt-chars", "1", "--snapshot", "v1"),
        ("pairs.jsonl", "nothing to freeze"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_bad_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = BAD_COMMANDS[name]
    code, _, error = accord(capsys, *words)
    assert_one_line(code, error, *said)


BAD_RECIPES = {
    "not YAML": ("name: [", "r.yaml:1"),
    "a list": ("- 1\n", "r.yaml"),
    "empty": ("", "r.yaml"),
    "no stages": ("name: t\nmodel: m\n", "stages"),
    "no kind": ("name: t\nmodel: m\nstages:\n  a: {lr: 1}\n", "kind"),
    "a key twice": ("name: t\nname: u\nmodel: m\nstages: {}\n", "name"),
    "a circle": (
        "name: t\nmodel: m\nstages:\n  a: {kind: sft, init: b, data: d.jsonl}\n"
        "  b: {kind: sft, init: a, data: d.jsonl}\n",
        "wait for each other",
    ),
    "Latin-1": ("name: é\n".encode("latin-1"), "r.yaml"),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipes(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, place = BAD_RECIPES[name]
    (here / "r.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, error = accord(capsys, "run", "r.yaml")
    assert_one_line(code, error, place)


def test_skip_bad_keeps_the_good_and_tells_where_the_bad_went(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "half.jsonl").write_bytes(line() + b"{broken\n" + line(chosen=""))
    words = ("import", "half.jsonl", "--store", "s.db", "--skip-bad", "--snapshot", "v1")
    code, out, _ = accord(capsys, *words)
    assert code == 0
    assert "1 bad rows" in out
    assert "1 with an empty response" in out
    rejects = [json.loads(x) for x in (here / "half.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [r["place"] for r in rejects] == ["2", "3"]
    assert all(r["reason"] for r in rejects)
    with Store(here / "s.db", create=False) as store:
        assert len(store.snapshot("v1").pairs()) == 1


def test_import_look_export(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accord(capsys, "import", "pairs.jsonl", "--store", "s.db", "--snapshot", "v1")[0] == 0
    code, out, _ = accord(capsys, "data", "s.db")
    assert code == 0
    assert "judgments" in out
    code, out, _ = accord(capsys, "export", "s.db@v1", "out.jsonl", "--format", "preference_text")
    assert code == 0
    assert "1 rows" in out
    row = json.loads((here / "out.jsonl").read_text())
    assert {k: row[k] for k in ROW} == ROW
    code, out, _ = accord(capsys, "data", "s.db", "--judgment", row["sources"][0])
    assert code == 0
    assert "Go away." in out
    code, _, error = accord(capsys, "export", "s.db", "out.jsonl")
    assert_one_line(code, error, "s.db@NAME", "v1")
    code, _, error = accord(capsys, "data", "s.db", "--judgment", "0" * 20)
    assert_one_line(code, error, "no judgment")


def test_check_runs_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = accord(capsys, "run", "r.yaml", "--check")
    assert code == 0
    assert "to do  rm (reward)" in out
    assert "1 rows of format preference" in out
    assert not (here / "runs").exists()


CHECKED: dict[str, tuple[tuple[str, ...], str]] = {
    "a bad row": (("study.file=bad.jsonl",), "bad.jsonl:2"),
    "a missing model": (("model=/no/such/model",), "/no/such/model"),
    "a package that is not there": (("model=packaged/none",), "packaged/none"),
    "a directory without a model": (("model=.",), "holds no model"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_finds(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.jsonl").write_bytes(line() + b"{broken\n")
    sets, said = CHECKED[name]
    words = [word for item in sets for word in ("--set", item)]
    code, _, error = accord(capsys, "run", "r.yaml", "--check", *words)
    assert_one_line(code, error, said)
    assert sorted(p.name for p in here.iterdir()) == ["bad.jsonl", "pairs.jsonl", "r.yaml"]


def test_two_files_of_like_names_are_two_stages(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a").mkdir()
    (here / "a/x.jsonl").write_bytes(line() * 2 + line(chosen="Hi."))
    (here / "a-x.jsonl").write_bytes(line())
    (here / "two.yaml").write_text(
        "name: two\nmodel: packaged/SmolLM2-135M-Instruct\nstages:\n"
        "  p: {kind: reward, data: a/x.jsonl}\n  q: {kind: reward, data: a-x.jsonl}\n"
        "  r: {kind: reward, data: ./a/x.jsonl}\n"
    )
    code, out, error = accord(capsys, "run", "two.yaml", "--check")
    assert code == 0, error
    assert out.count("(import)") == 3
    assert out.count("a/x.jsonl: 3 rows") == 2
    assert out.count("a-x.jsonl: 1 rows") == 1


def test_an_even_split_is_told_when_it_is_left_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = line() + line(chosen=ROW["rejected"], rejected=ROW["chosen"])
    (here / "con.jsonl").write_bytes(both)
    assert accord(capsys, "import", "con.jsonl", "--store", "c.db", "--snapshot", "v1")[0] == 0
    code, _, error = accord(capsys, "export", "c.db@v1", "out.jsonl")
    assert_one_line(code, error, "holds nothing", "left out: 1 pairs split evenly")
    (here / "con.jsonl").write_bytes(both + line(prompt="Bye?"))
    assert accord(capsys, "import", "con.jsonl", "--store", "d.db", "--snapshot", "v1")[0] == 0
    code, out, _ = accord(capsys, "export", "d.db@v1", "out.jsonl")
    assert (code, out) == (0, "1 rows written to out.jsonl\n  left out: 1 pairs split evenly\n")


@pytest.mark.parametrize(
    ("target", "said"), [("s.jsonl", "perhaps the store itself"), (".", "no name for a file")]
)
def test_an_export_never_takes_the_place_of_a_store(
    target: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accord(capsys, "import", "pairs.jsonl", "--store", "s.jsonl", "--snapshot", "v1")[0] == 0
    before = (here / "s.jsonl").read_bytes()
    code, _, error = accord(capsys, "export", "s.jsonl@v1", target)
    assert_one_line(code, error, said)
    assert (here / "s.jsonl").read_bytes() == before


def test_training_on_what_is_not_there_names_stage_and_data(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "sft", "--data", "pairs.jsonl", "--model", "packaged/SmolLM2-135M-Instruct")
    code, _, error = accord(capsys, *words)
    assert_one_line(
        code, error, "stage sft", "holds no demonstrations", "1 judgments", "on: chosen"
    )
    code, _, error = accord(capsys, "train", "sft", "--data", "gone.jsonl", "--model", "m")
    assert_one_line(code, error, "gone.jsonl", "name another as data")


BROKEN: dict[str, tuple[str, str, str]] = {  # file, content, what is said
    "an empty manifest": ("manifest.json", "{}", "manifest.json is not what was written"),
    "a manifest of a list": ("manifest.json", "[]", "not what was written"),
    "an empty recipe": ("recipe.json", "{}", "not what was written"),
    "broken JSON": ("manifest.json", "{", "can't be read"),
    "a stage result of a list": ("study/result.json", "[]", "not what the stage wrote"),
    "a metric that is none": (
        "study/result.json",
        '{"metrics": {"a": 1}, "notes": [], "facts": {}, "headline": ""}',
        "not what the stage wrote",
    ),
}


@pytest.fixture
def run_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    code, _, error = accord(capsys, "run", "r.yaml", "--only", "study")
    assert code == 0, error
    return next((here / "runs").glob("t-*"))


@pytest.mark.parametrize("name", BROKEN)
def test_edited_runs(name: str, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, content, said = BROKEN[name]
    (run_folder / file).write_text(content)
    code, _, error = accord(capsys, "report", str(run_folder))
    assert_one_line(code, error, said)


def test_a_report_is_the_same_from_inside_and_through_a_link(
    run_folder: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (run_folder / "report.html").read_bytes()
    (here / "link").symlink_to(run_folder)
    assert accord(capsys, "report", "link")[0] == 0
    monkeypatch.chdir(run_folder)
    assert accord(capsys, "report", ".")[0] == 0
    assert (run_folder / "report.html").read_bytes() == before
    shutil.rmtree(run_folder.parent / "stages")
    code, _, error = accord(capsys, "report", ".")
    assert_one_line(code, error, "stages are gone", "run the recipe again")
    assert (run_folder / "report.html").read_bytes() == before


FAULTY = """\
name: t
modle: packaged/SmolLM2-135M-Instruct
stages:
  study: {kind: import, file: pairs.jsonl}
  rm: {kind: reward, data: stud, lrr: 1, epochs: -2, loss: {name: dop}}
  dpo: {kind: preference, data: study, tune: {rr: 2}, tokens: many, loss: {beta: 0.1}}
  ppo: {kind: ppo, data: study, rewards: [{name: lerned}, {name: length_penalty, budgt: 4}]}
  more: {kind: sfd, init: dpoo, data: study}
"""
SAID = [
    "r.yaml:2 modle: unknown key 'modle'; allowed: name, seed, model, about",
    "r.yaml:5 stages.rm.lrr: unknown key 'lrr'",
    "r.yaml:5 stages.rm.epochs: Input should be greater than 0 (got -2)",
    "r.yaml:6 stages.dpo.tune.rr: unknown key 'rr'; allowed: r, alpha",
    "r.yaml:6 stages.dpo.tokens: Input should be a valid integer",
    "stages.ppo.rewards[0]",
    "length_penalty",
    "r.yaml:8 stages.more.kind: unknown kind 'sfd'",
    "r.yaml:5 stages.rm.loss.name: unknown reward loss 'dop'",
    "r.yaml:6 stages.dpo.loss: required key name is missing",
    "r.yaml:5 stages.rm.data: there is no stage 'stud'",
]


def test_all_faults_of_a_recipe_in_one_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "r.yaml").write_text(FAULTY)
    code, _, error = accord(capsys, "run", "r.yaml", "--set", "seed=[1", "--set", "x")
    assert code == 2
    assert "Traceback" not in error
    lines = error.splitlines()
    assert all(line.startswith("accord: ") for line in lines)
    assert len(lines) == len(set(lines)) == len(SAID) + 2, error
    for said in SAID:
        assert sum(said in line for line in lines) == 1, (said, error)
    assert "r.yaml:2 modle" in lines[2]
    assert "required key is missing" not in error  # that model is missing the typo explains


def test_one_fault_of_a_stage_hides_no_other_of_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = """\
  dpo: {kind: preference, init: sfd, data: study, loss: {name: dpoo}, lrr: 1}
  ppo: {kind: ppo, init: base, data: studdy, n: 0, rewards: [{name: learned, model: rn}, {name: lerned}]}
  rl: {kind: rloo, data: study, rewards: [{name: pattern}], missing_eos: {treatment: bootstrap}}
"""
    (here / "r.yaml").write_text(RECIPE + stages)
    code, _, error = accord(capsys, "run", "r.yaml")
    said = ["dpo.lrr", "dpo.loss.name", "no stage 'sfd'", "ppo.n", "no stage 'studdy'", "no stage 'rn'",
            "rewards[1].name: unknown reward 'lerned'", "rl: missing_eos.treatment",
            "rewards[0].regex"]  # fmt: skip
    assert code == 2
    assert len(error.splitlines()) == len(said), error
    for words in said:
        assert words in error, (words, error)


def test_references_to_a_faulty_stage_are_no_faults(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "  sft: {kind: sft, data: study, lrr: 1}\n  dpo: {kind: preference, init: sft, data: study}\n"
    (here / "r.yaml").write_text(RECIPE + stages)
    code, _, error = accord(capsys, "run", "r.yaml")
    assert_one_line(code, error, "stages.sft.lrr")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "my recipe.yaml", "--fresh", "--set", "a=1"],
         "finished stages and the last checkpoint are kept, go on with: "
         "accord run 'my recipe.yaml' --set a=1\n"),
        (["import", "a.jsonl"], "run the same command again"),
    ],
)  # fmt: skip
def test_control_c_says_how_to_go_on(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("accord.cli.app", stopped)
    code, _, error = accord(capsys, *words)
    assert code == 130
    assert error.startswith("stopped; ")
    assert said in error


DOOR = {
    "a model": "accord.load('nowhere/at/all')",
    "a store": "accord.Store('none.db', create=False)",
    "a snapshot": "accord.Store('s.db').snapshot('v9')",
    "a file": "accord.import_file(accord.Store('s.db'), 'bad.jsonl')",
    "a reward model": "accord.load_reward_model('.')",
    "a setting": "accord.train_sft(None, [1], run_dir='x', lr=-1.0, epoch=2)",
    "an export": "accord.export_model('nowhere/at/all', 'out')",
    "a method": "accord.train_policy(None, [1], [], run_dir='x', method='pppo')",
    "weights": "accord.load('broken')",
}


@pytest.mark.parametrize("name", DOOR)
def test_from_python_a_fault_is_told_in_its_last_line(name: str, here: Path) -> None:
    (here / "bad.jsonl").write_text('{"prompt": 3}\n')
    (here / "broken").mkdir()
    (here / "broken/config.json").write_text('{"model_type": "llama"')
    code = f"import accord\n{DOOR[name]}\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    told = [n for n, line in enumerate(lines) if line.startswith("accord.core.errors.")]
    assert len(told) == 1, done.stderr
    assert not any(line.startswith(" ") for line in lines[told[0] :]), done.stderr
    assert "During handling" not in done.stderr
    assert "direct cause" not in done.stderr
    assert len(lines) < 16, done.stderr


def test_a_chat_goes_on_after_a_turn_that_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    model = str(save_tiny(here))
    said = "hi " * 900
    monkeypatch.setattr("sys.stdin", io.StringIO(f"hello\n{said}\nagain\n\n"))
    code, out, _ = accord(capsys, "chat", model, "--max-new-tokens", "2")
    assert code == 0
    assert "do not fit" in out.replace("\n", " ")
    assert "this turn is left out" in out.replace("\n", " ")
    assert out.count("╭") == 2  # answers to the turns before and after

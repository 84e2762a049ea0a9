"""What a model is worth as a judge, on pairs that people decided: of LLMBar, of PandaLM, of the support demo.

python -m benchmarks.small_judge --judge packaged/SmolLM2-135M-Instruct --pandalm testset-v1.json \\
    --llmbar Natural.json Adversarial_Neighbor.json --world recipes/support/world.yaml

Of LLMBar the first `--pairs`, of PandaLM so many drawn of those on which two of three people agree, of the
world one pair of so many prompts, judged by its simulated raters. Prints a row of each as Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import accord
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.judges.ask import Judge
from accord.judges.backends import Backend, backend_of
from accord.judges.cache import Cache
from accord.judges.check import CheckReport, truths
from accord.judges.decided import decided_pairs, measured
from accord.judges.thresholds import Thresholds
from accord.store import Snapshot, Store

Pair = tuple[str, str, str, int]  # prompt, answers, the better one
DAY = "2026-01-01T00:00:00+00:00"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--judge", required=True)
    parser.add_argument("--llmbar", nargs="*", type=Path, default=[])
    parser.add_argument("--pandalm", type=Path)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=30)
    args = parser.parse_args()
    print("| pairs | missing | accuracy | κ | both orders say the same | to the first place |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Cache(":memory:") as cache:
        backend = backend_of(args.judge)
        for file in args.llmbar:
            with Store(Path(folder) / f"{file.stem}.db") as store:
                snapshot = _kept(store, _llmbar(file)[: args.pairs])
                _tell(f"LLMBar {file.stem}, the first {args.pairs}", snapshot, backend, cache)
        if args.pandalm:
            with Store(Path(folder) / "pandalm.db") as store:
                drawn = random.Random(17).sample(_pandalm(args.pandalm), args.pairs)
                snapshot = _kept(store, drawn)
                _tell(f"PandaLM, {args.pairs} drawn", snapshot, backend, cache)
        if args.world:
            with Store(_study(args.world, Path(folder)), create=False) as store:
                title = f"the support demo, one pair of {args.prompts} prompts"
                _tell(title, store.snapshot("v1"), backend, cache, args.prompts)


def _llmbar(file: Path) -> list[Pair]:
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [(r["input"], r["output_1"], r["output_2"], r["label"] - 1) for r in rows]


def _pandalm(file: Path) -> list[Pair]:
    pairs = []
    for row in json.loads(file.read_text(encoding="utf-8")):
        said, n = Counter(row[f"annotator{k}"] for k in (1, 2, 3)).most_common(1)[0]
        if n >= 2 and said in (1, 2):
            text = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
            pairs.append((text, row["response1"], row["response2"], said - 1))
    return pairs


def _kept(store: Store, pairs: Iterable[Pair]) -> Snapshot:
    person = Rater(name="label", kind="human")
    store.add_raters([person])
    for text, *answers, better in pairs:
        prompt = Prompt.user(str(text))
        responses = [Response(text=str(a)) for a in answers]
        ids = tuple(r.id_for(prompt) for r in responses)
        question = Question(prompt=prompt.id, responses=ids, kind="compare")
        says = Preference(better=int(better))
        store.add_prompts([prompt])
        store.add_responses(prompt, responses)
        store.add_questions([question])
        store.add_judgments([Judgment(question=question.id, rater=person.id, answer=says, at=DAY)])
    return store.freeze("v1")


def _study(world: Path, folder: Path) -> Path:
    """A simulated study of the world, by the demo's raters."""
    raters = [
        {"name": "Ada", "skill": 16},
        {"name": "Bruno", "skill": 10},
        {"name": "Emre", "skill": 8},
    ]
    study = {
        "kind": "simulate",
        "world": str(world.absolute()),
        "raters": raters,
        "demonstrations": 1,
    }
    model = "packaged/SmolLM2-135M-Instruct"  # trains nothing here
    recipe = {
        "name": "study",
        "about": "A study.",
        "seed": 17,
        "model": model,
        "stages": {"study": study},
    }
    done = accord.run(recipe, runs=folder / "runs")
    return done["study"].folder / "study.db"


def _tell(
    title: str, snapshot: Snapshot, backend: Backend, cache: Cache, prompts: int | None = None
) -> None:
    pairs = decided_pairs(snapshot, "pairwise", truths(snapshot).keys())
    if prompts is not None:
        first = {q.prompt: q for q in reversed(pairs)}
        pairs = {first[p]: pairs[first[p]] for p in sorted(first)[:prompts]}
    report, _, _ = measured(snapshot, Judge(), backend, cache, Thresholds(), asked=pairs)
    print(
        f"| {title} | {_lost(report)} | " + " | ".join(map(_cell, _figures(report))) + " |",
        flush=True,
    )


def _figures(report: CheckReport) -> Sequence[accord.Metric]:
    whole = report.parts[0]
    return whole.accuracy, whole.kappa, report.consistency, report.place


def _cell(metric: accord.Metric) -> str:
    if metric.value is None:
        return str(metric)
    ends = "" if metric.low is None else f" [{metric.low:.3f}, {metric.high:.3f}]"
    return f"{metric.value:.3f}{ends}"


def _lost(report: CheckReport) -> int:
    return sum(report.missing.values())


if __name__ == "__main__":
    main()

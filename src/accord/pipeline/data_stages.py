"""Stages that fill a store and freeze a snapshot: a simulated study, or an import."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accord.core.refs import StoreRef, is_url
from accord.core.rundir import read_json, write_json, write_text
from accord.core.seeds import rng
from accord.core.types import Judgment, Question, Rater, Response, Writing
from accord.evals.support import Case, World, gold
from accord.feedback.simulated import compare, rank
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.kinds import Import, Open, Simulate, StageConfig
from accord.store import ImportReport, Snapshot, Store, import_file, remove, split_of
from accord.store.formats import FORMATS, convert, detect
from accord.store.readers import BadRow, read_rows

__all__ = [
    "START",
    "WORLD",
    "Clock",
    "finish",
    "import_stage",
    "keep_world",
    "look_at",
    "open_stage",
    "row_of",
    "simulate_stage",
    "store_place",
    "world_of",
]

STORE, SNAPSHOT, CARD, WORLD = "study.db", "v1", "card.json", "world.json"
HELD_OUT = 1  # demonstrations per fact on held-out prompts, to measure SFT on
START = datetime(
    2026, 1, 5, 9, 0, tzinfo=UTC
)  # judgments of a simulation need a clock of their own


class Clock:
    """Deterministic times: the hash chain of a simulated study is the same on every machine."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def tick(self, seconds: float) -> str:
        self.now += timedelta(seconds=seconds)
        return self.now.isoformat(timespec="seconds")


def simulate_stage(ctx: StageContext) -> StageResult:
    """Ask the simulated raters about every case; demonstrations come from the shop's old team."""
    config = ctx.config
    assert isinstance(config, Simulate)
    world = World(ctx.path(config.world))
    remove(ctx.folder / STORE)
    with Store(ctx.folder / STORE) as store:
        judgments = _ask(store, world, config, ctx)
        judgments += _demonstrate(store, world, config, ctx)
        store.add_judgments(judgments)
        snapshot = store.freeze(SNAPSHOT)
        keep_world(ctx, world, config.test)
        return finish(ctx, snapshot, config.test)


def _ask(store: Store, world: World, config: Simulate, ctx: StageContext) -> list[Judgment]:
    raters = {r.name: r for r in config.raters}
    store.add_raters([r.rater() for r in raters.values()])
    store.add_prompts([case.prompt for case in world.cases])
    draw, clock = rng(ctx.seed, "simulate"), Clock()
    questions: list[Question] = []
    judgments: list[Judgment] = []
    for number, case in enumerate(world.cases):
        shown = [_response(c.kind, c.text) for c in case.candidates]
        store.add_responses(case.prompt, shown)
        quality = [gold(world, case, r)["gold"] for r in shown]
        ranked = len(shown) > 2 and draw.random() < config.ranked
        sets = [list(range(len(shown)))] if ranked else _all_pairs(len(shown))
        for members in sets:
            for rater in draw.sample(list(raters.values()), min(config.overlap, len(raters))):
                draw.shuffle(members)
                part = [shown[i] for i in members]
                question = Question(
                    prompt=case.prompt.id,
                    responses=tuple(r.id_for(case.prompt) for r in part),
                    kind="rank" if ranked else "compare",
                )
                answer = (rank if ranked else compare)(
                    rater, [quality[i] for i in members], [r.text for r in part], draw
                )
                questions.append(question)
                judgments.append(
                    Judgment(
                        question=question.id,
                        rater=rater.rater().id,
                        answer=answer,
                        at=clock.tick(8 + 20 * draw.random()),
                    )
                )
        if number % 50 == 0:
            ctx.reporter.progress(number, len(world.cases), "asking the raters")
    store.add_questions(questions)
    return judgments


def _response(kind: str, text: str) -> Response:
    return Response(text=text, source=f"person:author-{kind}", finish="stop")


def _all_pairs(k: int) -> list[list[int]]:
    return [[i, j] for i in range(k) for j in range(i + 1, k)]


def _demonstrate(store: Store, world: World, config: Simulate, ctx: StageContext) -> list[Judgment]:
    """Demonstrations as real ones are: from the team's book of canned replies, right on policy, some
    padded, to plain questions only."""
    team = Rater(name="old-team", kind="human", facts={"simulated": True})
    store.add_raters([team])
    draw, clock = rng(ctx.seed, "demonstrations"), Clock()
    judgments: list[Judgment] = []
    for fact in world.facts:
        cases = [c for c in world.cases if c.fact == fact and c.kind in {"plain", "vague"}]
        draw.shuffle(cases)
        sides: dict[str, list[Case]] = {"train": [], "test": []}
        for case in cases:
            sides[split_of(case.prompt.id, config.test, ctx.seed)].append(case)
        chosen = sides["train"][: config.demonstrations] + sides["test"][:HELD_OUT]
        for case in chosen:
            kind = "padded" if draw.random() < config.padded else "answers"
            text = world.facts[fact][kind][0]
            judgments.append(_written(store, case, team, text, clock))
    return judgments


def _written(store: Store, case: Case, team: Rater, text: str, clock: Clock) -> Judgment:
    question = Question(prompt=case.prompt.id, responses=(), kind="write")
    store.add_questions([question])
    return Judgment(
        question=question.id, rater=team.id, answer=Writing(text=text), at=clock.tick(90)
    )


def import_stage(ctx: StageContext) -> StageResult:
    """Import a file and freeze what came in."""
    config = ctx.config
    assert isinstance(config, Import)
    path = ctx.path(config.file)
    remove(ctx.folder / STORE)
    with Store(ctx.folder / STORE) as store:
        report = _bring_in(
            store,
            config,
            path,
            rejects_path=ctx.folder / f"{path.stem}.rejects.jsonl",
            on_progress=lambda done, total: ctx.reporter.progress(done, total, "reading rows"),
        )
        snapshot = store.freeze(SNAPSHOT)
        result = finish(ctx, snapshot, config.test)
        result.facts["import"] = report.counts()
        result.notes += str(report).splitlines()[1:]
        return result


def _bring_in(store: Store, config: Import, path: Path, **more: Any) -> ImportReport:
    return import_file(
        store,
        path,
        format=config.format,
        at=START.isoformat(timespec="seconds"),
        skip_bad=config.skip_bad,
        max_prompt_chars=config.max_prompt_chars,
        max_response_chars=config.max_response_chars,
        limit=config.limit,
        **more,
    )


def look_at(config: StageConfig, path: Path) -> list[str]:
    """What a data stage would bring, for `--check`; raises as the stage itself would. Nothing stays."""
    if isinstance(config, Simulate):
        world = World(path)
        return [f"{len(world.cases)} messages about {len(world.facts)} policies"]
    if not isinstance(config, Import):
        return []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / STORE) as store:
        report = _bring_in(store, config, path, rejects_path=Path(folder) / "rejects.jsonl")
    report.rejects_path = None
    return str(report).splitlines()


def row_of(config: Import, path: Path, prompt: str) -> str:
    """Where in an imported file the first row of a prompt (its id) stands: `file:line `, or "" where it isn't
    found."""
    format = config.format
    for place, row in read_rows(path):
        with contextlib.suppress(BadRow, KeyError):
            if isinstance(row, BadRow):
                continue
            format = detect(row) if format == "auto" else format
            if FORMATS[format].read and convert(row, format).prompt.id == prompt:
                return f"{path}:{place} "
    return ""


def keep_world(ctx: StageContext, world: World, test: float) -> None:
    """A copy of the world in the stage's folder: the stage is done, wherever the recipe goes."""
    write_text(ctx.folder / "world.yaml", world.path.read_text(encoding="utf-8"))
    write_json(ctx.folder / WORLD, {"world": "world.yaml", "test": test})


def world_of(ctx: StageContext, data: str) -> World | None:
    """The world behind a data stage, None for real data."""
    path = ctx.stages[data] / WORLD
    return World(path.parent / read_json(path)["world"]) if path.exists() else None


def open_stage(ctx: StageContext) -> StageResult:
    """Read a snapshot where it is; nothing is copied."""
    config = ctx.config
    assert isinstance(config, Open)
    where = store_place(config, ctx.recipe_folder)
    with Store(where, create=False) as store:
        snapshot = store.snapshot(config.snapshot)
        result = finish(ctx, snapshot, config.test)
    result.facts |= {"snapshot": config.snapshot, "store": where}
    return result


def store_place(config: Open, folder: Path) -> str:
    """Where the store of a recipe in this folder is now: a whole path, or a URL."""
    where = StoreRef(config.store).location(folder)
    return where if is_url(where) else str(Path(where).resolve())


def finish(ctx: StageContext, snapshot: Snapshot, test: float) -> StageResult:
    """The data card, and what the stages that read this one need to know."""
    sides = Counter(split_of(p, test, ctx.seed) for p in snapshot.tables.prompts)
    split = {"train": sides["train"], "test": sides["test"], "seed": ctx.seed, "share": test}
    card = {**snapshot.card(), "split": split, "snapshot": snapshot.name, "sha256": snapshot.sha256}
    write_json(ctx.folder / CARD, card)
    facts = {
        "store": STORE, "snapshot": snapshot.name, "sha256": snapshot.sha256, "test": test, "seed": ctx.seed
    }  # fmt: skip
    headline = (
        f"{len(snapshot)} judgments on {sum(sides.values())} prompts ({sides['test']} held out), "
        f"snapshot {snapshot.sha256[:12]}"
    )
    return StageResult(facts=facts, headline=headline)

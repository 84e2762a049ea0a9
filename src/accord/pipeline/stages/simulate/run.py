"""Simulated raters judge every case of a world; its old team wrote the demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from operator import itemgetter

from accord.core.errors import ConfigError
from accord.core.seeds import derive_seed, rng
from accord.core.types import Judgment, Prompt, Question, Rater, Response, Writing
from accord.feedback.simulated import compare, rank
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import SNAPSHOT, STORE, Clock, finish, keep_world
from accord.pipeline.stages.simulate import SimulateStage
from accord.store import Store, remove, split_of
from accord.worlds.base import Case, World, open_world, truth

__all__ = ["run"]

HELD_OUT = 1  # demonstrations per fact on held-out prompts, to measure SFT on


def run(ctx: StageContext[SimulateStage]) -> StageResult:
    """Ask the simulated raters about every case; demonstrations come from its old team."""
    config = ctx.config
    world = open_world(ctx.path(config.world))
    remove(ctx.folder / STORE)
    with Store(ctx.folder / STORE) as store:
        chosen = {c.prompt.id for c in config.chosen(world)}
        some = _some(world.cases, config.groups, ctx.seed)
        cases = [c for c in _kept(some, config.test, ctx.seed) if c.prompt.id in chosen]
        if config.turns is not None:
            judgments = _chat(store, world, cases, config.turns, ctx)
        else:
            judgments = _ask(store, world, cases, config, ctx)
            judgments += _demonstrate(store, world, {c.prompt.id for c in cases}, config, ctx)
        store.add_judgments(judgments)
        snapshot = store.freeze(SNAPSHOT)
        keep_world(ctx, world, config.test)
        return finish(ctx, snapshot, config.test)


def _some(cases: Sequence[Case], most: int | None, seed: int) -> list[Case]:
    """The cases of so many groups of each kind (the group's name up to "/"), and as large a share of those
    that are held out."""
    if most is None:
        return list(cases)
    strata: dict[str, dict[bool, set[str]]] = {}
    for case in cases:
        kind = strata.setdefault(case.group.partition("/")[0], {True: set(), False: set()})
        kind[case.held_out].add(case.group)
    drawn: set[str] = set()
    for kind in strata.values():
        share = min(1.0, most / (len(kind[False]) or 1))
        for groups in kind.values():
            ordered = sorted(groups, key=lambda g: derive_seed(seed, "groups", g))
            drawn |= {*ordered[: round(share * len(groups))]}
    return [c for c in cases if c.group in drawn]


def _kept(cases: Sequence[Case], test: float, seed: int) -> list[Case]:
    """The prompts that fall on the side of the split where their group is: nothing that is held out has a
    twin among what is learned from. Of the groups of each kind (the group's name up to "/") the same share
    is held out, however few they are; of a group that is held out in parts never the last one."""
    group_of = {name: c.group for c in cases if (name := c.part or c.group) and not c.held_out}
    last = {group: max(1, n - 1) for group, n in Counter(group_of.values()).items()}
    met = Counter[str]()
    strata: dict[str, list[tuple[int, str]]] = {}
    for name in sorted(group_of, key=lambda g: derive_seed(seed, "held out", g)):
        group = group_of[name]
        strata.setdefault(name.partition("/")[0], []).append((met[group], name))
        met[group] += 1
    held: set[str] = set()
    for each in strata.values():
        able = [name for k, name in sorted(each, key=itemgetter(0)) if k < last[group_of[name]]]
        held |= {*able[: round(test * len(each))]}

    def fits(case: Case) -> bool:
        part = case.part or case.group
        if not part:
            return True
        side = "test" if case.held_out or part in held else "train"
        return split_of(case.prompt.id, test, seed) == side

    return [case for case in cases if fits(case)]


def _ask(
    store: Store,
    world: World,
    cases: Sequence[Case],
    config: SimulateStage,
    ctx: StageContext[SimulateStage],
) -> list[Judgment]:
    raters = {r.name: r for r in config.asked(world)}
    store.add_raters([r.rater() for r in raters.values()])
    store.add_prompts([case.prompt for case in cases])
    draw, clock = rng(ctx.seed, "simulate"), Clock()
    questions: list[Question] = []
    judgments: list[Judgment] = []
    for number, case in enumerate(cases):
        shown = [_response(c.kind, c.text) for c in case.candidates]
        store.add_responses(case.prompt, shown)
        if config.compared is not None and draw.random() >= config.compared:
            continue
        quality = [truth(world, case, r) for r in shown]
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
            ctx.reporter.progress(number, len(cases), "asking the raters")
    store.add_questions(questions)
    return judgments


def _response(kind: str, text: str) -> Response:
    return Response(text=text, source=f"person:author-{kind}", finish="stop")


def _all_pairs(k: int) -> list[list[int]]:
    return [[i, j] for i in range(k) for j in range(i + 1, k)]


def _demonstrate(
    store: Store,
    world: World,
    kept: Container[str],
    config: SimulateStage,
    ctx: StageContext[SimulateStage],
) -> list[Judgment]:
    """Demonstrations as real ones are: from the team's book of canned replies, right on policy, some
    padded, to plain questions only."""
    team = Rater(name="old-team", kind="human", facts={"simulated": True})
    store.add_raters([team])
    draw, clock = rng(ctx.seed, "demonstrations"), Clock()
    judgments: list[Judgment] = []
    for lesson in world.lessons:
        cases = [c for c in lesson.cases if c.prompt.id in kept]
        draw.shuffle(cases)
        sides: dict[str, list[Case]] = {"train": [], "test": []}
        for case in cases:
            sides[split_of(case.prompt.id, config.test, ctx.seed)].append(case)
        chosen = sides["train"][: config.demonstrations] + sides["test"][:HELD_OUT]
        for case in chosen:
            text = lesson.padded if draw.random() < config.padded else lesson.answer
            judgments.append(_written(store, case.prompt, team, text, clock))
    return judgments


def _chat(
    store: Store, world: World, cases: Sequence[Case], turns: int, ctx: StageContext[SimulateStage]
) -> list[Judgment]:
    """The old team's chats, each on the side of the split where its messages are."""
    chats = getattr(world, "chats", None)
    if chats is None:
        raise ConfigError(
            f"{world.path} has no chats", where=f"stage {ctx.name} turns",
            mend="leave turns out, or take a world of form open_book",
        )  # fmt: skip
    team = Rater(name="old-team", kind="human", facts={"simulated": True})
    store.add_raters([team])
    draw, clock = rng(ctx.seed, "chats"), Clock()
    judgments: list[Judgment] = []
    for side in ("train", "test"):
        own = [c for c in cases if split_of(c.prompt.id, ctx.config.test, ctx.seed) == side]
        for prompt, text in chats(own, turns, draw, ctx.config.habits or {}):
            if split_of(prompt.id, ctx.config.test, ctx.seed) == side:
                store.add_prompts([prompt])
                judgments.append(_written(store, prompt, team, text, clock))
    return judgments


def _written(store: Store, prompt: Prompt, team: Rater, text: str, clock: Clock) -> Judgment:
    question = Question(prompt=prompt.id, responses=(), kind="write")
    store.add_questions([question])
    return Judgment(
        question=question.id, rater=team.id, answer=Writing(text=text), at=clock.tick(90)
    )

"""`accord redteam`: attack strategies tried on a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.options import RUNS, Plugins, Runs, table_console
from accord.core.errors import ConfigError
from accord.core.rundir import user_path

if TYPE_CHECKING:
    from accord.evals.asking import Asker
    from accord.evals.redteam import Ask, AttackChange, AttackResult, TriedAttack
    from accord.worlds.base import World

__all__ = ["app"]

app = typer.Typer()
Attacker = Annotated[
    str | None,
    typer.Option(help="A model that rewrites each request by the replies: named as POLICY is."),
]
Depth = Annotated[int, typer.Option(min=1, help="Of its attempts, one after the other.")]
Streams = Annotated[int, typer.Option(min=1, help="Of its lines of attack on a request.")]
Calls = Annotated[int | None, typer.Option(min=1, help="Of its calls over all requests.")]
Cases = Annotated[
    Path | None, typer.Option(help="Ask kept successes again (regressions.jsonl) instead.")
]
After = Annotated[
    Path | None,
    typer.Option(help="An earlier red team's folder: try it again on what was held back."),
]
Test = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of behaviours held back from training data.")
]
WorldFile = Annotated[
    Path | None, typer.Option(help="World that knows the truth, where behaviours are a file.")
]
Score = Annotated[
    str,
    typer.Option(
        help="EVALUATION:MEASURE that says what succeeded; the world's harm, else compliance."
    ),
]
Safe = Annotated[
    str | None, typer.Option(help="The safe answer in preference data, where no world has one.")
]
REWRITE = 256  # tokens of what an attacker writes


@app.command()
def redteam(
    policy: Annotated[
        str, typer.Argument(help="RUN[:stage], a model, or http://host:8000/v1#model.")
    ],
    behaviours: Annotated[
        str | None,
        typer.Argument(help="WORLD.yaml, RUN (what it held out), FILE of prompts, STORE@SNAPSHOT."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="NAME or {name: NAME, key: value} (repeatable); all by default."),
    ] = None,
    attacker: Attacker = None,
    depth: Depth = 3,
    streams: Streams = 3,
    calls: Calls = None,
    cases: Cases = None,
    after: After = None,
    test: Test = 0.5,
    per: Annotated[int, typer.Option(min=1, help="Requests of each behaviour.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="So many behaviours.")] = None,
    world: WorldFile = None,
    score: Score = "",
    safe: Safe = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    seed: Annotated[int, typer.Option()] = 17,
    batch_size: Annotated[int, typer.Option(min=1, help="Of a local model.")] = 32,
    at_once: Annotated[
        int, typer.Option(min=1, help="Requests to a server under way together.")
    ] = 16,
    out: Annotated[
        Path, typer.Option(help="Folder for figures, cases and preference data.")
    ] = Path("redteam"),
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Try attack strategies on a policy; keep every success as a case and as preference data. --cases asks
    kept successes again, --after what an earlier red team held back: exit code 1 where one still succeeds, or
    a weakness is not closed."""
    from accord.core.plugins import load_files
    from accord.lm.sampler import sampling_of
    from accord.pipeline import closing, redteaming
    from accord.pipeline.answering import asker_of

    load_files([path.absolute() for path in plugins or []])
    if sum(x is not None for x in (behaviours, cases, after)) != 1:
        what = "names behaviours, --cases or --after, one of them"
        raise ConfigError(what, where="accord redteam")
    earlier = after or (cases.parent if cases else None)
    kept = closing.kept_facts(user_path(earlier)) if earlier else {}
    keys = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    keys = kept.get("sampling", keys) if after else keys
    asked = redteaming.requests_of(behaviours, per, limit) if behaviours else None
    known = _world(world, kept.get("world")) or (asked.world if asked else None)
    some: dict[str, Any]
    some = {"cache": runs / "cache", "batch_size": batch_size, "at_once": at_once}
    asker, _ = asker_of(policy, sampling_of(keys), **some)
    score = score or kept.get("score", "")
    team = redteaming.RedTeam(asker.replies, known, score, safe or redteaming.SAFE)
    facts = {
        "policy": policy, "sampling": keys, "score": score,
        "world": str(known.path.resolve()) if known else None,
    }  # fmt: skip
    if cases:
        _again(redteaming.ask_again(team, user_path(cases)))
    elif after:
        _changed(closing.attack_again(team, user_path(after), facts), asker.failed)
    elif asked:
        facts |= {"requests": len(asked.harmful), "attacker": attacker, "test": test}
        how = sampling_of({"max_new_tokens": REWRITE, "temperature": 1.0, "seed": seed})
        rewrites = _rewriter(asker_of(attacker, how, **some)[0], asker) if attacker else None
        results, tried = redteaming.attack_policy(
            team, asked.harmful, _chosen(strategy or []), out, facts, rewrites,
            redteaming.AttackLoop(depth, streams, calls), benign=asked.benign, test=test,
        )  # fmt: skip
        _tell(results, tried, asker.failed)
        _next(policy, tried, out)


def _world(named: Path | None, then: str | None) -> World | None:
    """The world that is named, else that of an earlier red team."""
    from accord.worlds.base import open_world

    if named:
        return open_world(user_path(named))
    if then and not Path(then).is_file():
        raise ConfigError(
            "the world is not there any more", where=then, mend="name it: --world FILE"
        )
    return open_world(Path(then)) if then else None


def _rewriter(attacker: Asker, policy: Asker) -> Ask:
    """The attacker as it is asked; its failures are told with the policy's."""
    attacker.failed = policy.failed
    return attacker.replies


def _tell(results: list[AttackResult], tried: list[TriedAttack], failed: Mapping[str, str]) -> None:
    rows = [(r.strategy, r.rate, r.over_plain, r.p, "weakness" * r.weakness) for r in results]
    _show(("strategy", "success [95%]", "over plain [95%]", "p, adjusted", ""), rows)
    silent = sum(t.success is None for t in tried)
    _failures(failed)
    print(
        f"{len(tried)} attempts on {len({t.behaviour for t in tried})} behaviours, {silent} without a score"
    )


def _failures(failed: Mapping[str, str]) -> None:
    for reason, n in Counter(failed.values()).items():
        print(f"no reply to {n} attempts: {' '.join(reason.split())[:200]}")


def _next(policy: str, tried: list[TriedAttack], out: Path) -> None:
    """What is kept, and the commands that close what was found."""
    from accord.core.rundir import read_jsonl
    from accord.pipeline.policies import policy_path

    pairs = len(read_jsonl(out / "preferences.jsonl"))
    successes = sum(bool(t.success) for t in tried)
    print(f"{successes} successes in {out}: regressions.jsonl; {pairs} pairs in preferences.jsonl")
    if pairs:
        model = policy if policy.startswith("http") else policy_path(policy)[1]
        train = f"accord train preference --model {model} --data {out}/preferences.jsonl"
        print(f"one more pass: {train} --name closed")
        print(f"is it closed?  accord redteam runs/closed-… --after {out}")


def _changed(changes: list[AttackChange], failed: Mapping[str, str]) -> None:
    rows = [(c.strategy, c.before, c.after, c.change, c.p, c.state) for c in changes]
    _show(("strategy", "before [95%]", "after [95%]", "change [95%]", "p, adjusted", ""), rows)
    _failures(failed)
    if any(c.state in ("open", "weakness") for c in changes):
        raise typer.Exit(1)


def _chosen(texts: list[str]) -> list[str | dict[str, Any]]:
    import yaml

    chosen: list[str | dict[str, Any]] = []
    for text in texts:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        if not isinstance(value, str | dict):
            raise ConfigError(f"is {text!r}", where="--strategy", allowed="NAME or {name: NAME, …}")
        chosen.append(value)
    return chosen


def _show(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.table import Table

    table = Table(*columns, box=None)
    for row in rows:
        cells = [f"{c:.3g}" if isinstance(c, float) else str(c or "") for c in row]
        table.add_row(*cells)
    table_console().print(table, markup=False)


def _again(rows: list[tuple[str, str, bool | None]]) -> None:
    open_ = [(s, b) for s, b, success in rows if success]
    silent = sum(success is None for *_, success in rows)
    print(
        f"{len(rows) - len(open_) - silent} of {len(rows)} cases closed, {silent} without a score"
    )
    for strategy, behaviour in open_:
        print(f"  still succeeds: {strategy} on {behaviour}")
    if open_:
        raise typer.Exit(1)

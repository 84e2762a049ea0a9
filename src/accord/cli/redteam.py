"""`accord redteam`: attack strategies tried on a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.options import RUNS, Plugins, Runs, table_console
from accord.core.errors import ConfigError
from accord.core.rundir import user_path

if TYPE_CHECKING:
    from accord.evals.asking import Asker
    from accord.evals.redteam import Ask, AttackResult, TriedAttack

__all__ = ["app"]

app = typer.Typer()
Attacker = Annotated[
    str | None,
    typer.Option(help="A model that rewrites each request by the replies: named as POLICY is."),
]
Depth = Annotated[int, typer.Option(min=1, help="Of its attempts, one after the other.")]
Streams = Annotated[int, typer.Option(min=1, help="Of its lines of attack on a request.")]
Calls = Annotated[int | None, typer.Option(min=1, help="Of its calls over all requests.")]
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
    cases: Annotated[
        Path | None, typer.Option(help="Ask kept successes again (regressions.jsonl) instead.")
    ] = None,
    per: Annotated[int, typer.Option(min=1, help="Requests of each behaviour.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="So many behaviours.")] = None,
    world: Annotated[
        Path | None, typer.Option(help="World that knows the truth, where behaviours are a file.")
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            help="EVALUATION:MEASURE that says what succeeded; the world's harm, else compliance."
        ),
    ] = "",
    safe: Annotated[
        str | None, typer.Option(help="The safe answer in preference data, where no world has one.")
    ] = None,
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
    """Try attack strategies on a policy; keep every success as a case and as preference data. With --cases,
    ask kept successes again; exit code 1 where one still succeeds."""
    from accord.core.plugins import load_files
    from accord.lm.sampler import sampling_of
    from accord.pipeline import redteaming
    from accord.pipeline.answering import asker_of
    from accord.worlds.base import open_world

    load_files([path.absolute() for path in plugins or []])
    if (behaviours is None) == (cases is None):
        raise ConfigError("names behaviours or --cases, one of them", where="accord redteam")
    keys = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    known = open_world(user_path(world)) if world else None
    requests = None
    if behaviours is not None:
        requests, own = redteaming.requests_of(behaviours, per, limit)
        known = known or own
    some: dict[str, Any]
    some = {"cache": runs / "cache", "batch_size": batch_size, "at_once": at_once}
    asker, _ = asker_of(policy, sampling_of(keys), **some)
    team = redteaming.RedTeam(asker.replies, known, score, safe or redteaming.SAFE)
    if requests is None:
        _again(redteaming.ask_again(team, user_path(cases or Path())))
        return
    facts = {"policy": policy, "sampling": keys, "requests": len(requests), "attacker": attacker}
    how = sampling_of({"max_new_tokens": REWRITE, "temperature": 1.0, "seed": seed})
    rewrites = _rewriter(asker_of(attacker, how, **some)[0], asker) if attacker else None
    results, tried = redteaming.attack_policy(
        team, requests, _chosen(strategy or []), out, facts, rewrites,
        redteaming.AttackLoop(depth, streams, calls),
    )  # fmt: skip
    _tell(results, tried, asker.failed, out)


def _rewriter(attacker: Asker, policy: Asker) -> Ask:
    """The attacker as it is asked; its failures are told with the policy's."""
    attacker.failed = policy.failed
    return attacker.replies


def _tell(
    results: list[AttackResult], tried: list[TriedAttack], failed: Mapping[str, str], out: Path
) -> None:
    _show(results)
    silent = sum(t.success is None for t in tried)
    for reason, n in Counter(failed.values()).items():
        print(f"no reply to {n} attempts: {' '.join(reason.split())[:200]}")
    print(
        f"{len(tried)} attempts on {len({t.behaviour for t in tried})} behaviours, {silent} without a score"
    )
    print(
        f"{sum(bool(t.success) for t in tried)} successes in {out}: regressions.jsonl, preferences.jsonl"
    )


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


def _show(results: list[AttackResult]) -> None:
    from rich.table import Table

    table = Table("strategy", "success [95%]", "over plain [95%]", "p, adjusted", "", box=None)
    for r in results:
        p = "" if r.p is None else f"{r.p:.3g}"
        table.add_row(
            r.strategy, str(r.rate), str(r.over_plain or ""), p, "weakness" if r.weakness else ""
        )
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

"""The command line. Every error a user can cause is one line on stderr and exit code 2."""

from __future__ import annotations

import shlex
import sys
from typing import NoReturn

import typer

from accord.cli import (
    audit,
    chat,
    collect,
    compare,
    constitution,
    data,
    doctor,
    eval,
    frontier,
    judge,
    plan,
    redteam,
    reward,
    run,
    train,
    world,
)
from accord.core.errors import AccordError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Align language models: ask, judge, train, check, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (run, data, chat, eval, compare, audit, doctor, redteam, frontier):
    app.add_typer(commands.app)
for name, group in {
    "train": train,
    "collect": collect,
    "constitution": constitution,
    "judge": judge,
    "reward": reward,
    "plan": plan,
    "world": world,
}.items():
    app.add_typer(group.app, name=name)


def main() -> None:
    """Entry point: AccordError and usage errors become one line on stderr, exit code 2."""
    try:
        code = app(standalone_mode=False)
    except AccordError as error:
        _fail(*map(str, error.each))
    except typer.Exit as error:
        code = error.exit_code
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}; check the path".lstrip(": "))
    except UnicodeEncodeError as error:
        _fail(f"{ascii(error.object)[:80]}: is not UTF-8; rename it")
    except (typer.Abort, KeyboardInterrupt):
        print(f"stopped; {_how_to_go_on(sys.argv[1:])}", file=sys.stderr)
        code = 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()} Try 'accord --help'.")
    sys.exit(code or 0)


GOES_ON = {"demo", "run", "sweep", "train"}


def _how_to_go_on(words: list[str]) -> str:
    """What is kept of a stopped command, and the words that go on from there."""
    if not GOES_ON & set(words[:1]):
        return "run the same command again"
    again = shlex.join(["accord", *(w for w in words if w != "--fresh")])
    return f"finished stages and the last checkpoint are kept, go on with: {again}"


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        print(f"accord: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(AccordError.exit_code)

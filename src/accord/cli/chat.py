"""`accord chat`: a conversation in the terminal with one policy, or two side by side."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from accord.core.errors import ConfigError, DataError, TemplateError
from accord.core.types import Message, Prompt
from accord.pipeline.policies import base_of_run, policy_path

__all__ = ["app"]

app = typer.Typer()


@app.command()
def chat(
    policies: Annotated[list[str], typer.Argument(help="RUN[:stage], a model, or two to compare.")],
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
) -> None:
    """Talk to a policy in the terminal; with two, compare their answers side by side."""
    _loop(policies, max_new_tokens, temperature, system)


def _loop(names: list[str], max_new_tokens: int, temperature: float, system: str | None) -> None:
    """Read turns until an empty line or end of input. Each policy keeps its own conversation."""
    from accord.lm.model.load import load
    from accord.lm.sample import LocalSampler
    from accord.lm.sampler import Sampling

    console = Console(highlight=False)
    if len(names) > 2:
        raise ConfigError("at most two policies can be compared", where="accord chat")
    policies = [policy_path(n) for n in names]
    samplers = [
        LocalSampler(load(where, base=base_of_run(n)))
        for n, (_, where, _) in zip(names, policies, strict=True)
    ]
    system = system or next((s for _, _, s in policies if s), None)
    start = (Message(role="system", content=system),) if system else ()
    talks: list[tuple[Message, ...]] = [start for _ in policies]
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature)
    console.print("[dim]an empty line ends the chat[/]")
    while True:
        try:
            text = console.input("[bold]you[/] ").strip()
        except EOFError:
            return
        if not text:
            return
        panels, asked = [], [(*talk, Message(role="user", content=text)) for talk in talks]
        try:
            answers = [
                sampler([Prompt(messages=turn)], sampling)[0][0]
                for sampler, turn in zip(samplers, asked, strict=True)
            ]
        except (DataError, TemplateError) as error:
            console.print(f"[red]{escape(str(error))}[/] [dim](this turn is left out)[/]")
            continue
        for i, ((label, _, _), answer) in enumerate(zip(policies, answers, strict=True)):
            talks[i] = (*asked[i], Message(role="assistant", content=answer.text))
            cut = " (cut off)" if answer.finish == "length" else ""
            panels.append(Panel(escape(answer.text), title=f"{label}{cut}", title_align="left"))
        console.print(panels[0] if len(panels) == 1 else Columns(panels, equal=True, expand=True))

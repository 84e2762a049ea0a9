"""accord's evaluations as a task of Inspect AI, on any model of its.

    inspect eval accord/evaluation --model accord/RUN:dpo -T prompts=xstest.csv -T evals=refusal,length

Replies are scored one by one; an evaluation that asks for itself asks through Inspect's model. The log-probs
of options are told by accord's own models alone: of others choices are read by `{name: choice, read: reply}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate, solver

from accord.core.errors import ModelError
from accord.core.plugins import load_files
from accord.core.types import Exchange, Prompt, Response
from accord.evals.base import Askable, ChosenEvaluation, EvaluationContext, configured, scored
from accord.inspect.provider import AccordAPI
from accord.pipeline.asked import AskedPrompts, prompts_of, under

__all__ = ["evaluation", "measured_by_accord"]

TURNS = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}
Entries = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


@task
def evaluation(
    prompts: str | list[str],
    evals: str | dict[str, Any] | list[Any] = "length",
    cluster: str = "",
    limit_prompts: int | None = None,
    system: str = "",
    plugins: str | list[str] = "",
) -> Task:
    """Evaluations of accord on prompts as `accord eval` takes them.

    Args:
        prompts: FILE, STORE@SNAPSHOT, WORLD.yaml or RUN, one or several.
        evals: NAME, or {name: NAME, key: value}, one or several.
        cluster: the tag whose values hang together.
        limit_prompts: the first so many prompts.
        system: a system message for prompts that have none.
        plugins: Python files that register things of one's own.
    """
    load_files([Path(p) for p in _several(plugins)])
    chosen = configured(_several(evals), "evals")
    asked = prompts_of([str(p) for p in _several(prompts)], cluster=cluster, limit=limit_prompts)
    asked = under(system, asked)
    some = any(not e.asks for e in chosen)
    better = {
        _key(e, m.name): m.better == "more"
        for e in chosen
        for m in e.measures(EvaluationContext(asked.world))
        if m.better
    }
    return Task(
        dataset=MemoryDataset([_sample(p, asked) for p in asked.prompts], name="accord"),
        solver=generate() if some else nothing(),
        scorer=measured_by_accord(chosen, asked),
        metadata={"better": better},
    )


def _several(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return list(value) if isinstance(value, list | tuple) else [value]


def _sample(prompt: Prompt, asked: AskedPrompts) -> Sample:
    turns = [TURNS[m.role](content=m.content) for m in prompt.messages]
    metadata = {**prompt.tags, "cluster": asked.cluster_of(prompt)}
    return Sample(id=prompt.id, input=turns, metadata=metadata)


@solver
def nothing() -> Any:
    """No reply: the evaluations ask for themselves."""

    async def solve(state: TaskState, generate: Any) -> TaskState:
        return state

    return solve


def _key(one: ChosenEvaluation, measure: str) -> str:
    return f"{one.name} {measure}"


@scorer(metrics={"*": [mean(), stderr(cluster="cluster")]})
def measured_by_accord(chosen: Sequence[ChosenEvaluation], asked: AskedPrompts) -> Scorer:
    """All measures of a sample by name, NaN for one that does not apply to it."""
    known = {p.id: p for p in asked.prompts}

    async def score(state: TaskState, target: Target) -> Score:
        prompt, model = known[str(state.sample_id)], get_model()
        cut = state.output.stop_reason == "max_tokens" if state.output.choices else False
        reply = Response(
            text=state.output.completion,
            source=f"model:{model}",
            finish="length" if cut else "stop",
        )
        context = EvaluationContext(asked.world, ThroughInspect(model))

        def every() -> dict[str, float]:
            values: dict[str, float] = {}
            for one in chosen:
                given: Any = [prompt if one.asks else Exchange(prompt=prompt, response=reply)]
                rows = scored(one, context, given)
                own = rows[0] if rows else {}
                for m in one.measures(context):
                    values[_key(one, m.name)] = own.get(m.name, math.nan)
            return values

        return Score(value=await anyio.to_thread.run_sync(every), answer=reply.text)

    return score


class ThroughInspect(Askable):
    """Inspect's model as accord's evaluations ask it, from a thread beside its loop."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def replies(self, prompts: Sequence[Prompt]) -> list[Response | None]:
        """See `Askable`."""
        return [anyio.from_thread.run(self._reply, p) for p in prompts]

    def samples(
        self, prompts: Sequence[Prompt], n: int, temperature: float
    ) -> list[list[Response]]:
        """See `Askable`."""
        return [
            [anyio.from_thread.run(self._reply, p, temperature, k) for k in range(n)]
            for p in prompts
        ]

    async def _reply(
        self, prompt: Prompt, temperature: float | None = None, seed: int | None = None
    ) -> Response:
        turns = [TURNS[m.role](content=m.content) for m in prompt.messages]
        how = GenerateConfig(temperature=temperature, seed=seed)
        output = await self.model.generate(turns, config=how)
        return Response(text=output.completion, source=f"model:{self.model}")

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...] | None]:
        """See `Askable`; ModelError of a model that is not accord's."""
        api = self.model.api
        if not isinstance(api, AccordAPI):
            what = "tells no log-probs of choices through Inspect"
            raise ModelError(what, where=str(self.model), mend="read what it writes: {read: reply}")
        with api.batches.alone:
            own = under(api.system, AskedPrompts(list(prompts))).prompts
            logps: list[tuple[float, ...] | None] = api.asker.option_logps(own, options)
        return logps

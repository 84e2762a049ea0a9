"""distilabel judging prompts through an OpenAI-compatible server: figures of one run as JSON.

Imports nothing of accord, so that it runs in an environment of its own (distilabel[openai]==1.5.3 requests):

    python benchmarks/distilabel_worker.py step --prompts FILE --url URL --batch 50

`step` is its Task alone, batch after batch, without a pipeline's processes around it; `pipeline` is all
of it, as its documentation shows it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import Task


class Verdict(Task):
    """A prompt that is there already; the letter it is answered with."""

    @property
    def inputs(self) -> list[str]:
        return ["talk"]

    @property
    def outputs(self) -> list[str]:
        return ["verdict", "model_name"]

    def format_input(self, input: dict[str, Any]) -> list[dict[str, str]]:
        talk: list[dict[str, str]] = input["talk"]
        return talk

    def format_output(self, output: str | None, input: Any = None) -> dict[str, Any]:
        return {"verdict": output}


def task(args: argparse.Namespace, **more: Any) -> Verdict:
    """The Task with accord's settings: 16 tokens, temperature 0, log-probs of the 20 likeliest."""
    llm = OpenAILLM(
        model="stand-in", base_url=args.url, api_key="none",
        generation_kwargs={"max_new_tokens": 16, "temperature": 0.0, "logprobs": True, "top_logprobs": 20},
    )  # fmt: skip
    return Verdict(llm=llm, input_batch_size=args.batch, add_raw_input=False, **more)


def in_steps(args: argparse.Namespace, rows: list[dict[str, Any]]) -> Callable[[], Any]:
    """All rows through the Task, which is loaded."""
    judge = task(args, name="judge", pipeline=Pipeline(name="unused"))
    judge.load()
    batches = [rows[at : at + args.batch] for at in range(0, len(rows), args.batch)]
    return lambda: [row for some in batches for done in judge.process(some) for row in done]


def in_a_pipeline(args: argparse.Namespace, rows: list[dict[str, Any]]) -> Callable[[], Any]:
    """All rows through a pipeline."""
    with Pipeline(name="judging") as pipeline:
        LoadDataFromDicts(data=rows, batch_size=args.batch) >> task(args)
    return lambda: list(pipeline.run(use_cache=False)["default"]["train"])


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["step", "pipeline"])
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--batch", type=int, default=50)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with open(args.prompts) as file:
        rows = [{"talk": talk} for talk in json.load(file)]
    judge = (in_steps if args.way == "step" else in_a_pipeline)(args, rows)
    began = time.perf_counter(), time.process_time()
    done = judge()
    clock, own = time.perf_counter() - began[0], time.process_time() - began[1]
    children = sum(os.times()[2:4])
    judged = sum(row["verdict"] == "A" for row in done)
    print(json.dumps({"clock": clock, "own": own + children, "judged": judged}))


if __name__ == "__main__":
    main()

"""Judging pairs in both orders: through a stand-in server on loopback, or by a model here, pairs a second.

python -m benchmarks.judging --pairs 10000
python -m benchmarks.judging --pairs 8 --local packaged/SmolLM2-135M-Instruct

Locally, a pair's two orders as one tree are held against transformers' own forward over padded batches of the
same prompts, longest first, with the last position's logits alone (`--every-logit`: also as it comes), on a
copy of the model that accord's kernels have not touched: in turn, `--rounds` times each, medians of the
process's own seconds on one thread (other processes' are none of them) beside those of the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

from accord.core.types import Prompt, Response
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import SamplerBackend, ServerBackend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedItem, ask_of
from accord.lm.chat import render_prompt
from accord.lm.model.load import load
from accord.lm.options import ScoringSampler
from accord.lm.remote import ServerSampler
from accord.worlds.base import open_world

WORDS = ["tent", "jacket", "refund", "days", "order", "parcel", "boots", "return", "wash", "size"]


def pairs(n: int, seed: int = 0) -> list[JudgedItem]:
    """Made-up pairs: a prompt of 10 to 60 words, answers of 10 to 80."""
    draw = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    return [
        JudgedItem(
            Prompt.user(f"{k} {text(10, 60)}"),
            tuple(Response(text=f"{s} {text(10, 80)}") for s in "xy"),
        )
        for k in range(n)
    ]


def shop(path: str, n: int, seed: int = 0) -> list[JudgedItem]:
    """Messages of a world, each with two of its answers, drawn."""
    cases = list(open_world(Path(path)).cases)
    random.Random(seed).shuffle(cases)
    return [
        JudgedItem(c.prompt, tuple(Response(text=a.text) for a in c.candidates[:2]))
        for c in cases[:n]
    ]


def serve(port: Any, asked: Any = None) -> None:
    """Answers everything alike, as fast as it can, on connections that stay open; tells its port, and counts
    what it was asked."""
    top = [{"token": "A", "logprob": -0.4}, {"token": "B", "logprob": -1.2}]
    choice = {
        "index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }  # fmt: skip
    told = {"choices": [choice], "usage": {"prompt_tokens": 300, "completion_tokens": 1}}
    body = json.dumps(told).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError
        ):  # who asked has gone
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(
                    int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")
                )
                await reader.readexactly(length)
                if asked is not None:
                    asked.value += 1
                writer.write(reply)
                await writer.drain()
        writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def plain(lm: Any, items: list[JudgedItem], batch: int, **keep: int) -> list[float]:
    """P(first wins), both orders averaged, by transformers alone; `keep` says of how many positions it makes
    logits."""
    import torch

    asks = [ask_of("pairwise", item, order).prompt for item in items for order in ((0, 1), (1, 0))]
    ids = [list(render_prompt(lm.tokenizer, prompt)) for prompt in asks]
    options = [lm.tokenizer.encode(o)[0] for o in "AB"]
    first = [0.0] * len(ids)
    by_length = sorted(range(len(ids)), key=lambda k: -len(ids[k]))
    for at in range(0, len(ids), batch):
        some = by_length[at : at + batch]
        longest = len(ids[some[0]])
        rows = [[0] * (longest - len(ids[k])) + ids[k] for k in some]
        mask = [[0] * (longest - len(ids[k])) + [1] * len(ids[k]) for k in some]
        with torch.no_grad():
            told = lm.model(torch.tensor(rows), attention_mask=torch.tensor(mask), **keep)
        p = told.logits[:, -1].log_softmax(-1)[:, options].softmax(-1)[:, 0]
        for k, value in zip(some, p.tolist(), strict=True):
            first[k] = value
    return [(first[2 * k] + 1 - first[2 * k + 1]) / 2 for k in range(len(items))]


def short(name: str, layers: int) -> Any:
    """A model, or its first layers alone."""
    lm = load(name)
    if layers:
        lm.model.model.layers = lm.model.model.layers[:layers]
        lm.model.config.num_hidden_layers = layers
    return lm


def local(args: argparse.Namespace, items: list[JudgedItem]) -> None:
    """A model here, over trees and over plain batches, in turn."""
    import torch

    torch.set_num_threads(1)
    name, n = args.local, len(items)
    lm, own = short(name, args.layers), short(name, args.layers)
    backend = SamplerBackend(ScoringSampler(lm), name)

    def trees() -> list[float]:
        with Cache(":memory:") as cache:
            verdicts, _ = judge_items(Judge(least=0.0), backend, items, cache)
        return [v.probs[0] if v.probs else math.nan for v in verdicts]

    ways = {
        "trees": trees,
        **{
            f"plain, {b} at once": partial(plain, own, items, b, logits_to_keep=1)
            for b in args.at_once
        },
    }
    if args.every_logit:
        b = args.at_once[-1]
        ways[f"plain, {b} at once, every logit"] = partial(plain, own, items, b)
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    said: dict[str, list[float]] = {}
    trees()  # kernels are met, the engine proves itself
    for _ in range(args.rounds):
        for way, judge in ways.items():
            began = time.process_time(), time.perf_counter()
            said[way] = judge()
            ended = time.process_time(), time.perf_counter()
            took[way].append((ended[0] - began[0], ended[1] - began[1]))
            print(f"{way}: {took[way][-1][0]:.2f} s", flush=True)
    middle = {
        way: [statistics.median(x) for x in zip(*each, strict=True)] for way, each in took.items()
    }
    for way, (own, clock) in middle.items():
        apart = max(abs(a - b) for a, b in zip(said[way], said["trees"], strict=True))
        times = own / middle["trees"][0]
        print(
            f"{way}: {n / own:.2f} pairs a second of its own ({own:.2f} s, {clock:.1f} s by the clock), "
            f"{times:.2f} times the trees' seconds, p at most {apart:.1e} from theirs"
        )


def main() -> None:
    """All pairs once, both orders, then again out of the cache."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--local", default="")
    parser.add_argument(
        "--layers", type=int, default=0, help="of the model, its first so many alone"
    )
    parser.add_argument("--world", default="", help="pairs of its answers, not made-up ones")
    parser.add_argument("--at-once", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--every-logit", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    n = arguments.pairs
    if arguments.local:
        items = shop(arguments.world, n) if arguments.world else pairs(n)
        local(arguments, items)
        return
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    backend, items = ServerBackend(ServerSampler(url, "stand-in", at_once=16)), pairs(n)
    with Cache(":memory:") as cache:
        for name in ("asked", "from the cache"):
            began = time.perf_counter()
            verdicts, spent = judge_items(Judge(), backend, items, cache)
            took = time.perf_counter() - began
            lost = sum(v.probs is None for v in verdicts)
            told = f"{n} pairs in {took:.1f} s, {n / took:.0f} a second"
            print(f"{name}: {told}, {spent.asked} requests, {lost} missing")
    process.terminate()


if __name__ == "__main__":
    main()

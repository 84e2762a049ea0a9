"""Judging pairs in both orders through a stand-in server on loopback: pairs a second.

python -m benchmarks.judging --pairs 10000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import time
from typing import Any

from accord.core.types import Prompt, Response
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import ServerBackend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedItem
from accord.lm.remote import ServerSampler

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


def serve(port: Any) -> None:
    """Answers everything alike, as fast as it can, on connections that stay open; tells its port."""
    top = [{"token": "A", "logprob": -0.4}, {"token": "B", "logprob": -1.2}]
    choice = {
        "index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }  # fmt: skip
    told = {"choices": [choice], "usage": {"prompt_tokens": 300, "completion_tokens": 1}}
    body = json.dumps(told).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # who asked has gone
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(
                    int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")
                )
                await reader.readexactly(length)
                writer.write(reply)
                await writer.drain()
        writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def main() -> None:
    """All pairs once, both orders, then again out of the cache."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10_000)
    n = parser.parse_args().pairs
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

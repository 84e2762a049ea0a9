"""Connections: each costs memory before it says who it is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["LONGEST_HEAD", "MOST", "Bounded"]

MOST = 500  # at a time
LONGEST_HEAD = 16 << 10  # bytes of a request line and its headers
MOST_LINES = 100  # of a head: parsed, a line of five bytes takes two hundred
UNSENT = 16 << 10  # bytes of answers kept for who doesn't read them
UNREAD = 16 << 10  # bytes of a request taken in until somebody asks for them


class Bounded(H11Protocol):
    """HTTP/1.1 for so many at a time: one more takes the place of who has asked nothing for longest."""

    opened = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNSENT)
        transport.max_size = UNREAD  # type: ignore[attr-defined]  # asyncio's own reads 256 KiB at once
        self.opened = time.monotonic()
        there: list[Any] = [c for c in self.connections if not c.transport.is_closing()]
        if len(there) > MOST:
            oldest = min(
                filter(_idle, there), key=lambda c: c.opened
            )  # at the least this one is idle
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        if _idle(self):
            head = (self.conn.trailing_data[0] + data).partition(b"\r\n\r\n")[0]
            if head.count(b"\n") > MOST_LINES:
                self.send_400_response("Too many headers.")
                return
        super().data_received(data)
        if not _idle(self) and len(self.cycle.body) >= UNREAD:
            self.flow.pause_reading()  # until the app asks for more


def _idle(connection: Any) -> bool:
    return connection.cycle is None or connection.cycle.response_complete

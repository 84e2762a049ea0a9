"""Connections to a server that are kept open: a handshake for each request would cost more than a verdict."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping
from email.message import Message
from urllib.parse import urlsplit

__all__ = ["Connections"]

Answer = tuple[int, bytes, "Message[str, str]"]
Idle = dict[tuple[str, str], list[http.client.HTTPConnection]]


class _AtOnce:
    """Headers and body leave together: apart, a server is woken twice for each request. Each has a body."""

    _head = b""

    def send(self, data: bytes) -> None:
        if not self._head and data.endswith(b"\r\n\r\n"):
            self._head = data
        else:
            whole, self._head = self._head + data, b""
            super().send(whole)  # type: ignore[misc]


class _Plain(_AtOnce, http.client.HTTPConnection):  # type: ignore[misc]
    pass


class _Secure(_AtOnce, http.client.HTTPSConnection):  # type: ignore[misc]
    pass


GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Connections:
    """Idle connections by server. Behind a proxy each request opens its own, as urllib does it."""

    def __init__(self) -> None:
        self._idle: Idle = {}
        self._proxied: dict[tuple[str, str], bool] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._idle)

    def post(self, address: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
        """Status, body and headers, whatever the status; OSError or HTTPException where none came. A kept
        connection that the server has closed meanwhile is replaced, once: it took no request."""
        parts = urlsplit(address)
        key = (parts.scheme, parts.netloc)
        if key not in self._proxied:  # once a server: the whole environment is read for it
            self._proxied[key] = bool(
                urllib.request.getproxies().get(parts.scheme)
            ) and not urllib.request.proxy_bypass(parts.hostname or "")
        if self._proxied[key]:
            return _through_proxy(address, body, headers, timeout)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with self._lock:
            kept = self._idle.get(key, [])
            connection = kept.pop() if kept else None
        if connection is not None:
            with contextlib.suppress(*GONE):
                return self._asked(key, connection, path, body, headers, timeout)
        kind = _Secure if parts.scheme == "https" else _Plain
        return self._asked(key, kind(parts.netloc, timeout=timeout), path, body, headers, timeout)

    def _asked(
        self,
        key: tuple[str, str],
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
    ) -> Answer:
        try:
            if connection.sock:
                connection.sock.settimeout(timeout)
            connection.request("POST", path, body, dict(headers))
            reply = connection.getresponse()
            read = reply.read()
        except BaseException:
            connection.close()
            raise
        if reply.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.setdefault(key, []).append(connection)
        return reply.status, read, reply.headers


def _close(idle: Idle) -> None:
    for some in idle.values():
        for connection in some:
            connection.close()


def _through_proxy(address: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    request = urllib.request.Request(address, body, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers

"""A real server in this process, for browsers and for many raters at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from accord.web.app import create_app
from accord.web.site import Site


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    """The origin of a server that runs until the block ends; the site takes it as its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    site.origin = f"http://localhost:{port}"
    config = uvicorn.Config(
        create_app(site), host="127.0.0.1", port=port, log_level="warning", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield site.origin
    finally:
        server.should_exit = True
        thread.join(10)

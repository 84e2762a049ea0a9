"""Putting a site together and serving it."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from accord.core.errors import ConfigError
from accord.feedback.study.definition import read_study
from accord.lm.kernels import allocator
from accord.store import Store
from accord.web.app import create_app
from accord.web.guard import accounts
from accord.web.guard.connections import LONGEST_HEAD, Bounded
from accord.web.site import Answerer, Network, Site
from accord.web.work.jobs import working
from accord.web.work.live import check_policies
from accord.web.work.scoring import load_scorers
from accord.web.work.studies import load_study

__all__ = ["serve_study"]

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def serve_study(
    path: Path, store: str, host: str, port: int, origin: str | None, sets: list[str],
    policies: Mapping[str, Answerer] | None = None, hook_hosts: Sequence[str] = (),
    proxies: Sequence[str] = (),
) -> None:  # fmt: skip
    """Load the study into the store and serve until stopped. The first start makes an administrator."""
    import uvicorn

    if origin is None and host not in LOOPBACK:
        raise ConfigError(
            "plain http beyond this machine would show passwords", where=f"--host {host}",
            mend="put a TLS proxy before it and give its address with --origin https://…",
        )  # fmt: skip
    named = _origin(origin) if origin else f"http://localhost:{port}"
    trusted = tuple(_network(p) for p in proxies or ("127.0.0.1", "::1"))
    study = read_study(path, sets)
    if not policies:  # a model is faster with what it keeps
        allocator.give_back_freed_memory()
    with contextlib.closing(_listening(host, port)) as door, Store(store) as opened:
        site = Site(
            opened, origin=named, proxied=origin is not None, proxies=trusted,
            policies=policies or {}, hooks_allowed=tuple(hook_hosts),
            scorers=load_scorers(study),
        )  # fmt: skip
        check_policies(site, study)
        new = load_study(site, study)
        counts = opened.counts()["judgments"]
        print(f"study {study.name}: {new} new questions, {counts} judgments in {opened.name}")
        if password := accounts.first_account(site):
            print(f"first sign-in: name admin, password {password} (shown once; change it there)")
        print(f"serving at {site.origin}", flush=True)
        with working(site, study):
            config = uvicorn.Config(
                create_app(site), log_level="warning", server_header=False, timeout_keep_alive=60,
                proxy_headers=False,  # see security.address_of
                http=Bounded, loop="asyncio", h11_max_incomplete_event_size=LONGEST_HEAD,
            )  # fmt: skip
            uvicorn.Server(config).run(sockets=[door])


def _origin(text: str) -> str:
    """`scheme://host[:port]` as a browser sends it; ConfigError for anything else."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    bare = not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
    if (
        parts.scheme not in ("http", "https")
        or not re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:]+", host)
        or not bare
    ):
        raise ConfigError(
            f"{text!r} is not how a browser names a server", where="--origin",
            allowed="https://HOST or https://HOST:PORT (a host in letters, digits, - and ., else as xn--…)",
        )  # fmt: skip
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(
            "plain http beyond this machine would show passwords", where=f"--origin {text}",
            mend="put a TLS proxy before it and give its address with https://",
        )  # fmt: skip
    usual = {"http": 80, "https": 443}[parts.scheme]
    at = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{at}" + (f":{port}" if port not in (None, usual) else "")


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no address", where="--trusted-proxy", allowed="10.0.0.7 or 10.0.0.0/8"
        ) from None


def _listening(host: str, port: int) -> socket.socket:
    """The socket to serve at, taken before anything else is done; ConfigError where it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
        door.listen()  # two may be bound to one address, and only one may listen
    except OSError as error:
        door.close()
        raise ConfigError(
            f"can't be listened at ({error.strerror or error})", where=f"{host}:{port}",
            mend="stop what runs there, or choose another --port",
        ) from None  # fmt: skip
    return door

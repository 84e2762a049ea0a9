"""One benchmark at a time: on two cores a second busy process slows torch many times over."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "accord-benchmark.lock"
_held = []


def alone() -> str:
    """Waits for other benchmarks and holds the machine until the process ends. Gives `hardware` and the load
    that was there."""
    lock = LOCK.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another benchmark is running: waiting for its end", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    return f"{hardware()}; load {os.getloadavg()[0]:.2f} before"


def hardware() -> str:
    """Processor, cores and versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return f"{cpu}, {os.cpu_count()} cores; {', '.join(_versions())}"


def _versions() -> list[str]:
    found = []
    for package in ("torch", "transformers", "numpy", "trl", "peft"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found

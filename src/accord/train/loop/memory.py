"""How much memory a micro-batch takes, said before training and checked after it.

Legend: T tokens of a micro-batch.

What a step holds: what is in use already (weights, libraries), a gradient and two AdamW moments for each
trainable parameter, what autograd keeps for each token, and the head's working space. Only the third
is unknown, and it is measured: two small forward passes, counting the bytes autograd keeps.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor, nn

from accord.core.errors import RunError
from accord.core.rundir import read_json, write_json
from accord.lm.kernels.allocator import release_freed_memory
from accord.lm.trees.tree import Tree
from accord.lm.trees.vocab_head import chunk_bytes
from accord.train.loop import dist

__all__ = [
    "SHARE",
    "MicroBatch",
    "Plan",
    "TokenBudget",
    "budget",
    "device_of_choice",
    "kept_bytes",
    "measuring",
    "micro_batch",
    "overhead",
    "peak",
    "plan",
    "reset_peak",
]

MicroBatch = int | Literal["auto"]

FILE = "memory.json"
MOST = 8192  # tokens: larger micro-batches are no faster, on CPU nor on a GPU
LEAST = 256
SHARE = 0.8  # of what is free
# kept bytes against the growth of the process: the allocator's holes and what backward holds for a moment
OVERHEAD = {"cpu": 1.5, "cuda": 1.25}


@dataclass(frozen=True)
class Plan:
    """Bytes of a training step at `tokens` a micro-batch, and what is free."""

    tokens: int
    in_use: int
    gradients: int
    moments: int
    activations: int
    head: int
    available: int

    @property
    def total(self) -> int:
        """Expected peak (bytes)."""
        return self.in_use + self.gradients + self.moments + self.activations + self.head

    def __str__(self) -> str:
        parts = {
            "in use": self.in_use,
            "gradients": self.gradients,
            "AdamW": self.moments,
            f"activations of {self.tokens} tokens": self.activations,
            "head": self.head,
        }
        sizes = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
        return f"memory: about {_gb(self.total)} of {_gb(self.in_use + self.available)} ({sizes})"


def _gb(size: float) -> str:
    return f"{size / 2**30:.2f} GB"


def _status(field: str) -> int | None:
    """A size from Linux's /proc/self/status, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return int(kilobytes) * 1024 if kilobytes else None


def device_of_choice() -> torch.device:
    """Where models are loaded unless something else is asked for."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def in_use(device: torch.device) -> int:
    """Bytes the process holds on the device's memory now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _status("VmRSS") or int(psutil.Process().memory_info().rss)


def available(device: torch.device) -> int:
    """Bytes it could still get: free memory, within a container's limit where there is one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, limit - used)


def reset_peak(device: torch.device) -> None:
    """Begin measuring the peak anew (on Linux and CUDA; elsewhere it is the process's whole life)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak(device: torch.device) -> int:
    """The most bytes held since `reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def measuring() -> Iterator[Callable[[], int]]:
    """Gives up what is freed and begins measuring anew; the most bytes held since."""
    device = device_of_choice()
    release_freed_memory()  # what the work before held
    reset_peak(device)
    yield lambda: peak(device)


def kept_bytes(run: Callable[[], Tensor], parameters: Sequence[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of what `run` computes, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an operation that keeps its own output would never be freed

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = run()
    del result
    return sum(kept.values())


def plan(
    module: nn.Module,
    values: Callable[[Sequence[Tree]], Tensor],
    trees: Sequence[Tree],
    tokens: MicroBatch,
    batch_size: int,
    device: torch.device,
) -> Plan:
    """The plan of a step over `batch_size` of the trees. `values` is the step's forward pass. "auto"
    takes as many tokens a micro-batch as SHARE of the free memory holds, and no more than a batch has."""
    release_freed_memory()
    held, free = in_use(device), available(device)
    parameters = list(module.parameters())
    sizes = sorted((tree.tokens for tree in trees), reverse=True)
    order = sorted(trees, key=lambda tree: tree.tokens)
    one = order[len(order) // 2]
    other = abs(one.prompt[0] - 1)  # a token there is
    two = Tree((other, *one.prompt[1:]), one.completions, one.scored)  # shares nothing
    once = kept_bytes(lambda: values([one]), parameters)
    twice = kept_bytes(lambda: values([one, two]), parameters)
    per_token = max(1.0, (twice - once) / one.tokens) * overhead(device)
    gradients = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    head = 3 * chunk_bytes(device)
    room = SHARE * free - 3 * gradients - head
    tokens, largest = micro_batch(tokens, per_token, room, sizes, batch_size)
    return Plan(
        tokens=tokens,
        in_use=held,
        gradients=gradients,
        moments=2 * gradients,
        activations=int(per_token * largest),
        head=head,
        available=free,
    )


def overhead(device: torch.device) -> float:
    """What the process grows by for a byte that autograd keeps."""
    return OVERHEAD.get(device.type, 1.5)


def micro_batch(
    tokens: MicroBatch, per_token: float, room: float, sizes: Sequence[int], batch_size: int
) -> tuple[int, int]:
    """The budget of a micro-batch (tokens), and the largest one there will be. `sizes` of the trees
    fall; "auto" takes what `room` (bytes) holds at `per_token` bytes each."""
    batch = sum(sizes[:batch_size])
    if tokens == "auto":
        tokens = int(min(max(LEAST, room / per_token), MOST, max(LEAST, batch)))
    return tokens, max(sizes[0], min(tokens, batch))  # a tree is not cut


@dataclass
class TokenBudget:
    """A stage's plan, and how it was kept: told before training, checked after it."""

    plan: Plan
    folder: Path
    device: torch.device
    tell: Callable[[str], None]

    def settle(self) -> None:
        """Measure the peak, keep it beside the plan (no result: it differs run by run), tell both."""
        measured, total = peak(self.device), self.plan.total
        if dist.first():
            write_json(
                self.folder / FILE, {**asdict(self.plan), "total": total, "measured": measured}
            )
        self.tell(
            f"peak memory {_gb(measured)}, {_gb(total)} was estimated "
            f"({self.plan.tokens} tokens a micro-batch)"
        )


def budget(
    module: nn.Module,
    values: Callable[[Sequence[Tree]], Tensor],
    trees: Sequence[Tree],
    tokens: MicroBatch,
    batch_size: int,
    device: torch.device,
    folder: Path,
    tell: Callable[[str], None] | None = None,
) -> TokenBudget:
    """Plan a stage, say what it will take, and begin to measure. A resumed run keeps the micro-batch that
    "auto" chose at first: another would round otherwise, and not end with the same bytes."""
    if tokens == "auto":
        tokens = _chosen_before(folder) or tokens
    planned = plan(module, values, trees, tokens, batch_size, device)
    folder.mkdir(parents=True, exist_ok=True)
    if dist.first():
        write_json(folder / FILE, {**asdict(planned), "total": planned.total})
    tell = tell or (lambda text: None)
    short = planned.total > planned.in_use + planned.available
    tell(f"{planned}{'; more than is free: lower tokens, or tune fewer layers' if short else ''}")
    release_freed_memory()
    reset_peak(device)
    return TokenBudget(planned, folder, device, tell)


def _chosen_before(folder: Path) -> int | None:
    try:
        return int(read_json(folder / FILE)["tokens"])
    except (RunError, KeyError, TypeError, ValueError):
        return None

"""Modules that moved after 0.2 are found under their old names too: plug-ins written for it go on to run, and
a DeprecationWarning names the new one. To go with 0.4.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

__all__ = ["MOVED"]

_ROOMS = """
lm lm.model adapters card chain check export find hub load lora packaged roles scalar_head
lm lm.trees tree tree_attention flex engine score vocab_head
lm lm.kernels allocator fused half linear lora_linear packed>laid_out products
lm lm server>remote
store store.db database schema rows store proof fitting
store store.snapshot pairs
store store.io conversations exporting folders formats import_report importing native oasst published
store store.io readers schemas suspects foreign
feedback feedback.study assignment
feedback feedback.trust aggregate ballots quality ranking reliability gold>gold_questions
train train.loop checkpoint data memory optimise saved trackers trainee
train train.offline axes edges family fit pairs preference process rankings
train train.offline reference reward scored sft sweep unpaired
train train.online actors assembled experience held_out on_policy policy rollout scorers served surrogate
train train.online group>groups
train train.online.methods ppo
store feedback.trust summary>card
web web.guard accounts audit names security throttle tokens
web web.pages admin>settings annotate answers arena export guidelines home quiz review>disputes texts
web web.work drafts hooks judgments leases live quality queue scoring studies
. api api_policy>evaluating api_run>run
"""  # old room, new room, modules (old>new where the name is another too); . is accord itself


def _pairs() -> Iterator[tuple[str, str]]:
    for line in _ROOMS.split("\n")[1:-1]:
        old, new, *names = line.split()
        for was, _, now in (name.partition(">") for name in names):
            yield f"accord.{old}.{was}".replace("...", "."), f"accord.{new}.{now or was}"


MOVED = dict(_pairs())


class _Moved(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is {new} now", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        spec.loader_state = module.__spec__  # the import system puts the old name's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__
        module.__spec__ = module.__spec__.loader_state


if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
    sys.meta_path.append(_Moved())  # last: what is there is found before

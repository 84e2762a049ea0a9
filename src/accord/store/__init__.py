"""Where judgments live: `Store`, snapshots, import and export."""

from accord.store.database import remove
from accord.store.exporting import EXPORTS, export
from accord.store.importing import FORMATS, ImportReport, import_file
from accord.store.opening import copy_store, opened_or_new, opened_snapshot
from accord.store.snapshot import Items, Snapshot, part_of, split_of
from accord.store.store import Lineage, Store

__all__ = [
    "EXPORTS",
    "FORMATS",
    "ImportReport",
    "Items",
    "Lineage",
    "Snapshot",
    "Store",
    "copy_store",
    "export",
    "import_file",
    "opened_or_new",
    "opened_snapshot",
    "part_of",
    "remove",
    "split_of",
]

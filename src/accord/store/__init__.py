"""Where judgments live: `Store`, snapshots, import and export."""

from accord.store.database import remove
from accord.store.exporting import EXPORTS, export
from accord.store.importing import FORMATS, ImportReport, import_file
from accord.store.opening import opened_or_new
from accord.store.snapshot import Items, Snapshot, part_of, split_of
from accord.store.store import Lineage, Store
from accord.store.summary import summarise

__all__ = [
    "EXPORTS",
    "FORMATS",
    "ImportReport",
    "Items",
    "Lineage",
    "Snapshot",
    "Store",
    "export",
    "import_file",
    "opened_or_new",
    "part_of",
    "remove",
    "split_of",
    "summarise",
]

"""Where judgments live: `Store`, snapshots, import and export."""

from accord.store.db.database import remove
from accord.store.db.store import Lineage, Store
from accord.store.io.exporting import export, row_format, row_formats
from accord.store.io.importing import FORMATS, ImportReport, import_file
from accord.store.opening import copy_store, opened_or_new, opened_snapshot
from accord.store.snapshot.frozen import Items, Snapshot, part_of, split_of

__all__ = [
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
    "row_format",
    "row_formats",
    "split_of",
]

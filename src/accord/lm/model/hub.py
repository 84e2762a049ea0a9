"""A hub id becomes a local directory: the hub's cache on this disk first, then the network.

A machine without a network must say so in seconds, not hang: one small request with a short
timeout decides whether the hub can be reached before anything is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["find_on_hub"]

TIMEOUT_S = 5.0
# a repository may hold the same weights several times: other frameworks, exports, older formats
NEVER = ["*.gguf", "*.onnx", "onnx/*", "*.h5", "*.msgpack", "*.tflite", "original/*", "*.pth"]


def find_on_hub(name: str, *, download: bool = True) -> tuple[Path | None, str]:
    """(directory, "") when found; (None, what went wrong) when not. Without `download`, (None, "") for
    a model that the hub has and this disk has not."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if _complete(cached):
            return cached, ""
    except HFValidationError:
        return None, "it is not a valid hub id"
    except LocalEntryNotFoundError:
        pass
    try:
        info = HfApi().model_info(name, timeout=TIMEOUT_S)
        files = [s.rfilename for s in info.siblings or []]
        if not download:
            return None, ""
        safe = any(f.endswith(".safetensors") for f in files)
        folder = snapshot_download(
            name,
            revision=info.sha,
            etag_timeout=TIMEOUT_S,
            ignore_patterns=[*NEVER, "*.bin"] if safe else NEVER,
        )
    except GatedRepoError:
        return None, "the hub wants you to accept its terms and log in (hf auth login)"
    except RepositoryNotFoundError:
        return None, "the hub has no such model (or it is private: hf auth login)"
    except OfflineModeIsEnabled:
        return None, "HF_HUB_OFFLINE is set"
    except Exception as error:  # its HTTP client, and so its errors, differ between versions
        return None, f"the hub can't be reached ({type(error).__name__})"
    if not _complete(Path(folder)):
        return None, "the hub's copy holds no config.json with weights"
    return Path(folder), ""


def _complete(folder: Path) -> bool:
    """Whether config and weights are there; an interrupted download leaves some out."""
    if not (folder / "config.json").is_file():
        return False
    if indexes := list(folder.glob("*.index.json")):
        maps = [json.loads(i.read_text(encoding="utf-8"))["weight_map"] for i in indexes]
        return any(all((folder / part).is_file() for part in m.values()) for m in maps)
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))

"""Judgments from a file."""

from __future__ import annotations

from pathlib import Path

from accord.core.artifact import Data
from accord.pipeline.stage import Count, Share, StageConfig, stage


@stage("import", gives=Data, file="file", run=f"{__name__}.run:run", uses_model=False, free=True)
class ImportStage(StageConfig):
    """Judgments from a file."""

    file: str
    format: str = "auto"
    limit: Count | None = None
    skip_bad: bool = False
    max_prompt_chars: Count | None = None
    max_response_chars: Count | None = None
    test: Share = 0.1

    def look(self, path: Path) -> list[str]:
        from accord.pipeline.stages.importing.run import look

        return look(self, path)

    def row_of(self, path: Path, prompt: str) -> str:
        from accord.pipeline.stages.importing.run import row_of

        return row_of(self, path, prompt)

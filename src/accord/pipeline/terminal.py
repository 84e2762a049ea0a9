"""What a person sees while a recipe runs: one line a stage, with remaining time."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

__all__ = ["Terminal", "clock"]

REDRAW = 0.2  # seconds between two updates of a live line
LOG_EVERY = 15.0  # seconds between two lines where there is no terminal


class Terminal:
    """Progress on a terminal as one live line per stage; in a log as a line now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.status = self.console.status("") if self.live else None
        self.stage = ""
        self.began = self.last = 0.0
        self.part: tuple[str, float] = ("", 0.0)

    def start(self, stage: str) -> None:
        self.stage, self.began, self.last = stage, time.monotonic(), 0.0
        self.part = ("", self.began)
        if self.status:
            self.status.start()
            self.status.update(f"[bold]{stage}[/]")
        else:
            self.console.print(f"{stage:<14} started")

    def progress(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`; a new kind of `text` starts a new estimate of the time left."""
        now = time.monotonic()
        words = " ".join(w for w in text.split() if not any(c.isdigit() for c in w))
        if words != self.part[0]:
            self.part = (words, now)
        if now - self.last < (REDRAW if self.live else LOG_EVERY) and done < total:
            return
        self.last = now
        spent = now - self.part[1]
        left = f"{clock(spent / done * (total - done))} left" if done and spent > 1 else ""
        line = f"[bold]{self.stage:<14}[/] {done}/{total}  {escape(text)}  [dim]{left}[/]"
        if self.status:
            self.status.update(line)
        elif done < total:
            self.console.print(line)

    def note(self, text: str) -> None:
        """A line that stays, above the live one."""
        self.console.print(f"  [dim]{self.stage}: {escape(text)}[/]")

    def finished(self, stage: str, headline: str, seconds: float, notes: list[str]) -> None:
        self.close()
        self.console.print(
            f"[green]✓[/] [bold]{stage:<14}[/] {escape(headline)}  [dim]{clock(seconds)}[/]"
        )
        for note in notes:
            self.console.print(f"  [dim]note: {escape(note)}[/]")

    def skipped(self, stage: str, headline: str) -> None:
        self.console.print(
            f"[green]✓[/] [bold]{stage:<14}[/] {escape(headline)}  [dim]done before[/]"
        )

    def failed(self, stage: str) -> None:
        self.close()
        self.console.print(f"[red]✗[/] [bold]{stage}[/]")

    def report(self, path: Path, seconds: float) -> None:
        self.close()
        self.console.print(f"\nreport: [bold]{escape(str(path))}[/]  [dim]{clock(seconds)}[/]")

    def close(self) -> None:
        """The live line is done."""
        if self.status:
            self.status.stop()


def clock(seconds: float) -> str:
    """Minutes and seconds, 3:07; from an hour on hours too, 1:03:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""A line chart of the report's own, saved as a picture that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from accord.pipeline.report.charts import Series, lines

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#64748b")
STYLE = (
    "text{font:10px sans-serif;fill:#475569}.grid{stroke:#e2e8f0}polyline,path{fill:none;stroke-width:2}"
    + f":root{{{''.join(f'--c{i}:{c};' for i, c in enumerate(COLOURS))}}}"
)


def save_lines(series: Sequence[Series], xlabel: str, ylabel: str, path: Path) -> None:
    """At most six series; their names are a key in the picture."""
    keys = "".join(
        f'<tspan x="70" dy="15" fill="{COLOURS[i]}">{escape(s.name)}</tspan>'
        for i, s in enumerate(series[: len(COLOURS)])
    )
    body = str(lines(series[: len(COLOURS)], xlabel, ylabel))
    head = body[: body.rindex("</svg>")].replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1
    )
    made = head.replace(">", f"><style>{STYLE}</style>", 1)
    path.write_text(f'{made}<text y="10">{keys}</text></svg>')

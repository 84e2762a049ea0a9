"""All pages and the API, in the order in which their addresses are tried."""

from __future__ import annotations

from accord.web import api
from accord.web.pages import (
    annotate,
    arena,
    disputes,
    done,
    export,
    guidelines,
    home,
    new_study,
    overview,
    people,
    question,
    quiz,
    settings,
)

__all__ = ["ROOMS"]

ROOMS = (
    home, quiz, question, annotate, done, overview, disputes, guidelines, people, settings, new_study,
    export, arena, api,
)  # fmt: skip

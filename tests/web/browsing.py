"""Hands and eyes of tests in a real browser."""

from __future__ import annotations

from typing import Any

from accord.web.site import Site
from tests.web.conftest import PASSWORD


def sign_in(page: Any, name: str = "anna", password: str = PASSWORD) -> None:
    """From the sign-in page, by keyboard."""
    page.wait_for_selector("[name=name]:focus")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def settle(page: Any, site: Site, n: int) -> Any:
    """The n-th judgment, once it is in the store."""
    for _ in range(600):
        if site.store.counts()["judgments"] >= n:
            return site.store.judgments()[n - 1]
        page.wait_for_timeout(30)
    raise AssertionError(f"judgment {n} never came: {page.locator('#status').inner_text()}")

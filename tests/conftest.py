"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a measured data file outside the project (TWIN_DATA, else ../shared/data); the test skips where it is absent."""

    def find(relative: str) -> Path:
        path = Path(os.environ.get("TWIN_DATA", ROOT.parent / "shared" / "data")) / relative
        if not path.exists():
            pytest.skip(f"measured data {relative} is not on this machine (set TWIN_DATA)")
        return path

    return find

"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Machines that run tests are shared: how long an example takes to draw says nothing about the code. A change is judged by the
# same examples each time; the nightly job draws others (TWIN_EXAMPLES=random), and what it finds becomes a test.
settings.register_profile("twin", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("random", settings.get_profile("twin"), derandomize=False)
settings.load_profile("random" if os.environ.get("TWIN_EXAMPLES") == "random" else "twin")


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a measured data file outside the project (TWIN_DATA, else ../shared/data); the test skips where it is absent."""

    def find(relative: str) -> Path:
        path = Path(os.environ.get("TWIN_DATA", ROOT.parent / "shared" / "data")) / relative
        if not path.exists():
            pytest.skip(f"measured data {relative} is not on this machine (set TWIN_DATA)")
        return path

    return find

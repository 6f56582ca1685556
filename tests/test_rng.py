"""Named random streams."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twin.rng import stream

_FIRST_DRAWS = "from twin.rng import stream; print(stream(7, 'arrivals').integers(0, 2**63, 4).tolist())"


def test_a_stream_is_told_by_seed_and_name_alone() -> None:
    draws = stream(7, "arrivals").random(8).tolist()
    assert stream(7, "arrivals").random(8).tolist() == draws
    assert stream(8, "arrivals").random(8).tolist() != draws
    assert stream(7, "lengths").random(8).tolist() != draws


def test_drawing_from_one_stream_moves_no_other() -> None:
    alone = stream(1, "b").random(4).tolist()
    first, second = stream(1, "a"), stream(1, "b")
    first.random(1000)
    assert second.random(4).tolist() == alone


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_the_same_numbers_in_any_process(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", _FIRST_DRAWS], capture_output=True, text=True, env=environment, check=True).stdout
    assert out.strip() == str(stream(7, "arrivals").integers(0, 2**63, 4).tolist())


def test_streams_are_uniform_and_uncorrelated() -> None:
    a, b = stream(1, "site.0").random(20_000), stream(1, "site.1").random(20_000)
    assert a.mean() == pytest.approx(0.5, abs=0.01)  # five standard errors: 0.289 / sqrt(20000) = 0.002
    assert abs(((a - 0.5) * (b - 0.5)).mean()) / (1 / 12) < 5 / 20_000**0.5

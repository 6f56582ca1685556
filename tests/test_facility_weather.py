"""Wet bulb and the weather reader."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import InputError, SimulationError
from twin.facility import Weather, read_weather, wet_bulb_c


def stull_2011(t: float, rh: float) -> float:
    """R. Stull, J. Appl. Meteorol. Climatol. 50 (2011) 2267, eq. 1."""
    return (
        t * math.atan(0.151977 * math.sqrt(rh + 8.313659))
        + math.atan(t + rh)
        - math.atan(rh - 1.676331)
        + 0.00391838 * rh**1.5 * math.atan(0.023101 * rh)
        - 4.686035
    )


@given(st.floats(5, 45), st.floats(10, 99))
def test_agrees_with_stull(dry_c: float, humidity_pct: float) -> None:
    assert wet_bulb_c(dry_c, humidity_pct / 100) == pytest.approx(stull_2011(dry_c, humidity_pct), abs=1.0)


def test_known_points() -> None:
    assert wet_bulb_c(20.0, 0.5) == pytest.approx(13.7, abs=0.15)  # Stull's own example
    assert wet_bulb_c(30.0, 1.0) == pytest.approx(30.0, abs=1e-6)


def test_other_units_are_refused() -> None:
    with pytest.raises(SimulationError, match="another unit"):
        wet_bulb_c(290.0, 0.5)
    with pytest.raises(SimulationError, match="not a share"):
        wet_bulb_c(20.0, 50.0)
    with pytest.raises(InputError, match="another unit"):
        Weather.constant(300.0, 290.0)
    with pytest.raises(InputError, match="cannot be above"):
        Weather.constant(20.0, 25.0)


HEAD = "utc,dry_bulb_c,relative_humidity_pct\n"


def _file(folder: Path, rows: str, head: str = HEAD) -> Path:
    file = folder / "weather.csv"
    file.write_text(head + rows)
    return file


def test_reads_and_interpolates(tmp_path: Path) -> None:
    rows = "2023-07-01 00:00:00,10,100\n2023-07-01 01:00:00,20,100\n2023-07-01 02:00:00,30,100\n"
    weather = read_weather(_file(tmp_path, rows), datetime(2023, 7, 1, 0, 30), 3600.0)
    assert weather.at(0.0) == pytest.approx((15.0, 15.0), abs=1e-6)
    assert weather.at(1800.0) == pytest.approx((20.0, 20.0), abs=1e-6)
    assert weather.at(3600.0)[0] == pytest.approx(25.0)
    with pytest.raises(SimulationError, match="outside"):
        weather.at(7201.0)
    assert Weather.constant(20.0, 15.0).at(1e9) == (20.0, 15.0)


def test_horizon_must_be_covered(tmp_path: Path) -> None:
    file = _file(tmp_path, "2023-07-01 00:00:00,10,50\n2023-07-01 01:00:00,20,50\n")
    with pytest.raises(InputError, match="covers 2023-07-01 00:00:00 to"):
        read_weather(file, datetime(2023, 7, 1), 3601.0)
    with pytest.raises(InputError, match="covers"):
        read_weather(file, datetime(2023, 6, 30), 60.0)


def test_bad_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    good = "2023-07-01 00:00:00,10,50\n"
    rows = good * 2 + "2023-07-01 02:00:00,nan,50\n2023-07-01 03:00:00,1,150\nx,1,1\n1,2\n"
    with pytest.raises(InputError) as caught:
        read_weather(_file(tmp_path, rows), datetime(2023, 7, 1), 60.0)
    assert [problem.line for problem in caught.value.problems] == [3, 4, 5, 6, 7]
    many = "".join(f"{i},0,0\n" for i in range(25))
    with pytest.raises(InputError, match="15 more bad rows"):
        read_weather(_file(tmp_path, many), datetime(2023, 7, 1), 60.0)
    with pytest.raises(InputError, match="header"):
        read_weather(_file(tmp_path, "", head="time,t,h\n"), datetime(2023, 7, 1), 60.0)
    with pytest.raises(InputError, match="cannot be read"):
        read_weather(tmp_path / "none.csv", datetime(2023, 7, 1), 60.0)


def test_a_real_year(shared_data: Callable[[str], Path]) -> None:
    weather = read_weather(shared_data("grid/weather_dallas_hourly_2023.csv"), datetime(2023, 8, 17), 86400.0)
    assert len(weather.time_s) == 25
    assert 25 < max(weather.dry_bulb_c) < 45
    assert all(wet <= dry for dry, wet in zip(weather.dry_bulb_c, weather.wet_bulb_c, strict=True))

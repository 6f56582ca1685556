"""Outdoor air over a run: dry bulb, relative humidity, wet bulb."""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from twin.errors import InputError, Problem, SimulationError

COLUMNS = ("utc", "dry_bulb_c", "relative_humidity_pct")
_LISTED = 10


def saturation_pressure_pa(temperature_c: float) -> float:
    """Vapour pressure over water. A. L. Buck, J. Appl. Meteorol. 20 (1981) 1527, enhanced 1996; -40 to 50 C within 0.05 %."""
    return 611.21 * math.exp((18.678 - temperature_c / 234.5) * temperature_c / (257.14 + temperature_c))


def wet_bulb_c(dry_bulb_c: float, relative_humidity_frac: float, pressure_pa: float = 101_325.0) -> float:
    """Wet bulb from the psychrometric equation e = es(Tw) - 6.62e-4/K p (T - Tw), solved by bisection to 1e-9 K.

    The coefficient is that of an aspirated psychrometer (WMO Guide No. 8, 2018, annex 4.B). It holds at any humidity, where
    the explicit fit of R. Stull, J. Appl. Meteorol. Climatol. 50 (2011) 2267 stops at 5 and 99 %; the
    two agree within 1 K from 5 to 45 C.
    Raises SimulationError for air that no weather has (outside -60..60 C or 0..1).
    """
    if not -60 <= dry_bulb_c <= 60:
        raise SimulationError(f"a dry bulb of {dry_bulb_c:g} C is no weather (is it in another unit?)")
    if not 0 <= relative_humidity_frac <= 1:
        raise SimulationError(f"a relative humidity of {relative_humidity_frac:g} is not a share from 0 to 1")
    vapour_pa = relative_humidity_frac * saturation_pressure_pa(dry_bulb_c)
    low, high = dry_bulb_c - 60.0, dry_bulb_c
    while high - low > 1e-9:
        middle = (low + high) / 2
        if saturation_pressure_pa(middle) - 6.62e-4 * pressure_pa * (dry_bulb_c - middle) > vapour_pa:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True, slots=True)
class Weather:
    """Outdoor air at points in run time, straight lines between them."""

    time_s: tuple[float, ...]
    dry_bulb_c: tuple[float, ...]
    wet_bulb_c: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.time_s or not len(self.time_s) == len(self.dry_bulb_c) == len(self.wet_bulb_c):
            raise InputError("weather: as many temperatures as times are due, and at least one")
        for dry, wet in zip(self.dry_bulb_c, self.wet_bulb_c, strict=True):
            check_air(dry, wet)

    @classmethod
    def constant(cls, dry_bulb_c: float, wet_bulb_c: float) -> Weather:
        """The same air for ever."""
        return cls((-math.inf, math.inf), (dry_bulb_c,) * 2, (wet_bulb_c,) * 2)

    def at(self, now_s: float) -> tuple[float, float]:
        """(dry bulb, wet bulb) in C. Raises SimulationError outside the times that are known."""
        times = self.time_s
        if not times[0] <= now_s <= times[-1]:
            raise SimulationError(f"weather: {now_s:g} s is outside the {times[0]:g} to {times[-1]:g} s that are known")
        after = min(bisect_right(times, now_s), len(times) - 1)
        before = after - 1
        if times[before] == -math.inf:
            return self.dry_bulb_c[0], self.wet_bulb_c[0]
        share = (now_s - times[before]) / (times[after] - times[before])
        return _between(self.dry_bulb_c, before, share), _between(self.wet_bulb_c, before, share)


def _between(values: Sequence[float], before: int, share: float) -> float:
    return values[before] + share * (values[before + 1] - values[before])


def check_air(dry_bulb_c: float, wet_bulb_c: float) -> None:
    """Raises InputError for a wet bulb above the dry bulb or a temperature that no weather has (kelvin, Fahrenheit)."""
    if not (-60 <= dry_bulb_c <= 60 and -60 <= wet_bulb_c <= 60):
        raise InputError(f"dry bulb {dry_bulb_c:g} C, wet bulb {wet_bulb_c:g} C: no weather is like that (another unit?)")
    if wet_bulb_c > dry_bulb_c + 1e-6:
        raise InputError(f"the wet bulb ({wet_bulb_c:g} C) cannot be above the dry bulb ({dry_bulb_c:g} C)")


def read_weather(path: Path | str, start: datetime, horizon_s: float) -> Weather:
    """Hourly weather of a CSV file with the columns `utc,dry_bulb_c,relative_humidity_pct`, for a run from `start` (UTC).

    Raises InputError with a problem for each bad row (ten listed, the rest counted), for times that do not rise, and if the
    file does not cover the run.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if not rows or tuple(cell.strip() for cell in rows[0]) != COLUMNS:
        raise InputError([Problem(str(file), 1, 1, "", f"a header line {','.join(COLUMNS)} is due")])
    hours, problems = _parse_rows(str(file), rows)
    if problems:
        rest = len(problems) - _LISTED
        more = [Problem(str(file), problems[_LISTED].line, 1, "", f"{rest} more bad rows")] if rest > 0 else []
        raise InputError(problems[:_LISTED] + more)
    end = start + timedelta(seconds=horizon_s)
    if len(hours) < 2 or hours[0][0] > start or hours[-1][0] < end:
        known = f"{hours[0][0]} to {hours[-1][0]}" if hours else "no hour"
        raise InputError(f"{file}: covers {known} UTC, but the run is from {start} to {end}")
    first = max(i for i, hour in enumerate(hours) if hour[0] <= start)
    last = min(i for i, hour in enumerate(hours) if hour[0] >= end)
    kept = hours[first : max(last, first + 1) + 1]
    return Weather(
        tuple((utc - start).total_seconds() for utc, _, _ in kept),
        tuple(dry for _, dry, _ in kept),
        tuple(wet_bulb_c(dry, humidity) for _, dry, humidity in kept),
    )


def _parse_rows(file: str, rows: list[list[str]]) -> tuple[list[tuple[datetime, float, float]], list[Problem]]:
    hours: list[tuple[datetime, float, float]] = []
    problems: list[Problem] = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            if len(row) != len(COLUMNS):
                raise ValueError(f"{len(COLUMNS)} columns are due, not {len(row)}")
            utc, dry, humidity = datetime.fromisoformat(row[0].strip()), float(row[1]), float(row[2]) / 100
            if utc.tzinfo is not None:
                raise ValueError("times are UTC without an offset")
            if not -60 <= dry <= 60:
                raise ValueError(f"a dry bulb of {row[1]} C is no weather (is it in another unit?)")
            if not 0 <= humidity <= 1:
                raise ValueError(f"a relative humidity of {row[2]} % is not between 0 and 100")
            if hours and utc <= hours[-1][0]:
                raise ValueError(f"{utc} does not come after {hours[-1][0]}")
        except ValueError as error:
            problems.append(Problem(file, line, 1, "", str(error)))
        else:
            hours.append((utc, dry, humidity))
    return hours, problems

"""`twin catalog [KIND] [--json]`: what the catalogue knows, each value with its status and source."""

from __future__ import annotations

import json
import sys
from typing import Any

from twin.catalog import Part, Value, load_catalog
from twin.units import format_duration, format_si

_PLAIN = {"", "C", "K", "K/W", "J/K", "W/K", "kg/s", "kg", "/s", "USD/J"}


def catalog_command(kind: str | None, as_json: bool) -> int:
    """Print one kind, or all of them, as tables or as one JSON document kind -> name -> key -> value. Returns the exit code.

    Raises UnknownPartError for a kind that does not exist.
    """
    catalog = load_catalog()
    kinds = catalog.kinds() if kind is None else (kind,)
    parts = {each: [catalog.part(each, name) for name in catalog.names(each)] for each in kinds}
    if as_json:
        json.dump({each: {part.name: _as_json(part) for part in found} for each, found in parts.items()}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _print_tables(parts)
    return 0


def _as_json(part: Part) -> dict[str, Any]:
    return {
        key: {"value": v.value, "unit": v.unit, "source": v.source, "status": v.status, "note": v.note}
        for key, v in part.values.items()
    }


def _print_tables(parts: dict[str, list[Part]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=200, highlight=False, color_system=None)
    for kind, found in parts.items():
        for part in found:
            table = Table(title=f"{kind} {part.name}: {part.description}", title_justify="left", box=None, pad_edge=False)
            for column in ("key", "value", "status", "source"):
                table.add_column(column, overflow="fold")
            for key, value in part.values.items():
                note = f"{value.source} ({value.note})" if value.note else value.source
                table.add_row(key, readable(key, value), value.status, note)
            console.print(table)
            console.print()


def readable(key: str, value: Value) -> str:
    """A value as people write it: '989 TFLOP/s', '85 %', '45 C'; 'unknown' where nobody has published one."""
    if value.value is None:
        return "unknown"
    if isinstance(value.value, tuple):
        return ", ".join(each if isinstance(each, str) else _number(key, each, value.unit) for each in value.value)
    if isinstance(value.value, bool):
        return "yes" if value.value else "no"
    return value.value if isinstance(value.value, str) else _number(key, value.value, value.unit)


def _number(key: str, number: float, unit: str) -> str:
    if key.endswith("_frac"):
        return f"{100 * number:.4g} %"
    if unit == "s":
        return f"{number * 1e6:.4g} us" if 0 < number < 1e-3 else format_duration(number)
    if unit in _PLAIN:
        text = f"{number:,.0f}" if number == int(number) else f"{number:.4g}"
        return f"{text} {unit}".strip()
    return format_si(number, unit)

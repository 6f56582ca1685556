"""What can fail: a named component of so many identical units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Component:
    """`units` identical units of a `kind` (`ups`, `cdu`, `chiller`, `tray` ...) under one name; `key` is how a fault names it."""

    kind: str
    name: str
    units: int = 1

    @property
    def key(self) -> str:
        """`kind/name`, such as `cdu/row_a` or `psu/row_a/3`."""
        return f"{self.kind}/{self.name}"

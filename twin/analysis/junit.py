"""JUnit XML, which CI servers read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twin.errors import InputError


@dataclass(frozen=True, slots=True)
class JUnitCase:
    """One checked scenario: `failures` are findings (a regression, a limit), `error` is what kept it from running."""

    name: str
    wall_s: float
    failures: tuple[str, ...] = ()
    error: str | None = None


def write_junit(path: Path, suite: str, cases: Sequence[JUnitCase]) -> None:
    """Write `cases` as one test suite. Raises InputError if the file cannot be written."""
    root = ET.Element("testsuites")
    element = ET.SubElement(
        root,
        "testsuite",
        name=suite,
        tests=str(len(cases)),
        failures=str(sum(bool(case.failures) and case.error is None for case in cases)),
        errors=str(sum(case.error is not None for case in cases)),
        time=f"{sum(case.wall_s for case in cases):.3f}",
    )
    for case in cases:
        child = ET.SubElement(element, "testcase", classname=suite, name=case.name, time=f"{case.wall_s:.3f}")
        if case.error is not None:
            ET.SubElement(child, "error", message=_first_line(case.error)).text = _legal(case.error)
        elif case.failures:
            said = f"{len(case.failures)} differences, worst: {case.failures[0]}"
            ET.SubElement(child, "failure", message=_first_line(said)).text = _legal("\n".join(case.failures))
    ET.indent(root)
    try:
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _first_line(text: str) -> str:
    return _legal(text).split("\n", 1)[0]


def _legal(text: str) -> str:
    """`text` without the control characters that XML 1.0 has no way to write."""
    return "".join(c for c in text if c >= " " or c in "\n\t")

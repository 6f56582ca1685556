"""Which numbers or names have come up, in memory of about a bit each where they are numbered one after the other."""

from __future__ import annotations

_PAGE_BITS = 256
#: Stems that numbers are kept for; names of which each has a stem of its own are kept whole.
_STEMS = 1024


class SeenNumbers:
    """A set of whole numbers as bits in pages: dense numbers cost a bit each, scattered ones some 150 bytes."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, number: int) -> bool:
        """Note `number`; whether it is new."""
        page, bit = divmod(number, _PAGE_BITS)
        bits = self._pages.get(page, 0)
        mask = 1 << bit
        if bits & mask:
            return False
        self._pages[page] = bits | mask
        return True

    def __contains__(self, number: int) -> bool:
        page, bit = divmod(number, _PAGE_BITS)
        return bool(self._pages.get(page, 0) >> bit & 1)


class SeenNames:
    """A set of names; those that differ in the number at their end alone ("trace_0017") cost a bit each."""

    __slots__ = ("_numbered", "_others")

    def __init__(self) -> None:
        self._numbered: dict[tuple[str, int], SeenNumbers] = {}
        self._others: set[str] = set()

    def add(self, name: str) -> bool:
        """Note `name`; whether it is new."""
        stem = name.rstrip("0123456789")
        digits = name[len(stem) :]
        # "07" and "7" are two names: the width is part of the stem where there are zeros before the number.
        key = (stem, len(digits) if digits.startswith("0") else 0)
        if 0 < len(digits) <= 18 and (key in self._numbered or len(self._numbered) < _STEMS):
            return self._numbered.setdefault(key, SeenNumbers()).add(int(digits))
        if name in self._others:
            return False
        self._others.add(name)
        return True

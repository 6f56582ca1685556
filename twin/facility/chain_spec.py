"""What the electrical chain of a site consists of: incomers, the elements below them, and who hangs on which."""

from __future__ import annotations

from dataclasses import dataclass

from twin.errors import InputError, did_you_mean
from twin.facility.breaker import BreakerSpec
from twin.facility.electrical import ElectricalElement

#: kinds of elements; what a part of the catalogue is says its value `element`.
ELEMENT_KINDS = ("transformer", "switchboard", "ups", "busway", "rectifier")


@dataclass(frozen=True, slots=True)
class ChainElementSpec:
    """`count` units in parallel that share the load evenly, rated `element.rated_w` together, fed from an incomer or element."""

    element: ElectricalElement
    kind: str
    fed_from: str
    count: int = 1
    breaker: BreakerSpec | None = None

    @property
    def name(self) -> str:
        """The element's name."""
        return self.element.name


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """`rack_feeds`: for each group of racks the elements that its racks hang on, their rectifiers spread evenly over these.

    `cooling_from`: the elements that cooling and the fixed load hang on, evenly over those alive. `pumps_from`: those that the
    pumps hang on instead, in the same way; none: they hang where cooling does.
    """

    incomers: tuple[str, ...]
    elements: tuple[ChainElementSpec, ...]
    rack_feeds: tuple[tuple[str, ...], ...]
    cooling_from: tuple[str, ...]
    pumps_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [element.name for element in self.elements]
        if len({*names, *self.incomers}) != len(names) + len(self.incomers):
            raise InputError(f"electrical chain: names must differ: {', '.join((*self.incomers, *names))}")
        if not self.incomers or not names:
            raise InputError("electrical chain: at least one incomer and one element are due")
        known = (*self.incomers, *names)
        for element in self.elements:
            if element.kind not in ELEMENT_KINDS:
                raise InputError(f"{element.name}: unknown kind {element.kind!r}{did_you_mean(element.kind, ELEMENT_KINDS)}")
            if element.fed_from not in known:
                raise InputError(f"{element.name}: fed from unknown {element.fed_from!r}{did_you_mean(element.fed_from, known)}")
            if element.count < 1:
                raise InputError(f"{element.name}: at least one unit is due, not {element.count}")
        parents = {element.name: element.fed_from for element in self.elements}
        for name in names:
            above, seen = parents[name], {name}
            while above in parents:
                if above in seen:
                    raise InputError(f"electrical chain: {name} is fed in a circle")
                seen.add(above)
                above = parents[above]
        for feeds in (*self.rack_feeds, self.cooling_from, *([self.pumps_from] if self.pumps_from else ())):
            if not feeds or len(set(feeds)) != len(feeds):
                raise InputError(f"electrical chain: at least one feed, and each once, is due, not {list(feeds)}")
            for name in feeds:
                if name not in parents:
                    raise InputError(f"electrical chain: unknown element {name!r}{did_you_mean(name, names)}")

    @classmethod
    def line(cls, incomer: str, transformer: ElectricalElement, ups: ElectricalElement, groups: int) -> ChainSpec:
        """One transformer with one UPS behind it for all racks; cooling hangs on the transformer."""
        elements = (
            ChainElementSpec(transformer, "transformer", incomer),
            ChainElementSpec(ups, "ups", transformer.name),
        )
        return cls((incomer,), elements, ((ups.name,),) * groups, (transformer.name,))

"""The conversion chain of a site, in its short form (a transformer with a UPS behind it) or element by element.

Both forms come to the same: `elements_of` gives the elements of either, `rack_feeds` and `cooling_feeds` who hangs on which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from twin.schema.base import CatalogName, Count, Model, Name
from twin.schema.quantities import FractionBelowOne, Number, PositiveFraction, PositivePower, PositiveTime

ShelfName = Annotated[str, CatalogName("electrical", "power shelf", "psu_rated_w")]
UpsName = Annotated[str, CatalogName("electrical", "UPS")]
TransformerName = Annotated[str, CatalogName("electrical", "transformer")]
ElementName = Annotated[str, CatalogName("electrical", "element of a chain", "element")]

StoreName = Annotated[str, CatalogName("battery")]

#: The keys of the short form, which the full form does without.
SHORT_FORM = ("ups", "ups_rating", "transformer", "transformer_rating")


class Breaker(Model):
    """The breaker ahead of an element: an inverse-time curve with an instantaneous pickup."""

    rating: PositivePower | None = None
    """Load above which it begins to time; the rating of the element's units together if unset."""
    curve: Literal["standard_inverse", "very_inverse", "extremely_inverse"] = "very_inverse"
    """Time-current curve of IEC 60255-151."""
    time_multiplier: Number = Field(default=1.0, gt=0.0, le=10.0)
    """Time multiplier setting (TMS) of the curve."""
    instantaneous: Number = Field(default=8.0, gt=1.0, le=50.0)
    """Multiple of the rating at which it trips at once."""


class UpsStore(Model):
    """The batteries of a UPS: they carry its output when its input is dead, and are charged again afterwards."""

    part: StoreName
    """Battery of the catalogue, on the DC link of the UPS (efficiencies)."""
    time: PositiveTime
    """How long a full store carries the UPS's rating."""
    recharge: PositiveFraction = 0.1
    """Largest power of the recharge over the UPS's rating; a load at its input."""
    reserve: FractionBelowOne = 0.05
    """Content at which the store opens."""


class ChainElement(Model):
    """An element of the chain: one or more like units in parallel that share its load evenly."""

    name: Name
    """Name that what it feeds refers to."""
    part: ElementName
    """Part of the catalogue (kind `electrical`); its value `element` says what it is: transformer, switchboard, ups ..."""
    rating: PositivePower
    """Rating of one unit, at its output."""
    count: Count = 1
    """How many units; one more than the load needs is N+1."""
    fed_from: Name
    """The incomer or the element that feeds it; one and no more."""
    breaker: Breaker | None = None
    """Its breaker. Without one it must carry what hangs on it; with one that may be more, until the breaker trips."""
    store: UpsStore | None = None
    """The batteries of a UPS, all its units together."""


class Electrical(Model):
    """The conversion chain between the feed and the racks' DC bus: `ups` and `transformer` with ratings, or `chain`."""

    power_shelf: ShelfName
    """Rack power shelf (rectifier) of the catalogue, sized by each rack's rating."""
    ups: UpsName | None = None
    """Uninterruptible power supply of the catalogue (short form)."""
    ups_rating: PositivePower | None = None
    """Total UPS rating of the site (short form)."""
    ups_store: UpsStore | None = None
    """Batteries of the UPS (short form); without any the racks are dark as soon as its input is."""
    transformer: TransformerName | None = None
    """Transformer of the catalogue (short form)."""
    transformer_rating: PositivePower | None = None
    """Total transformer rating of the site (short form)."""
    incomers: tuple[Name, ...] = ()
    """Lines from the utility, which the contract of the feed covers together; one of the feed's name if unset."""
    chain: tuple[ChainElement, ...] = ()
    """The elements, in any order."""
    cooling_from: tuple[Name, ...] = ()
    """The elements that cooling and the fixed load hang on, evenly over those alive; the first below the incomers if unset."""
    pumps_from: tuple[Name, ...] = ()
    """The elements that all pumps of the cooling hang on instead, such as a UPS that keeps them going; with cooling if unset."""


def incomers_of(electrical: Electrical, feed: str) -> tuple[str, ...]:
    """The incomers of a site with this feed."""
    return electrical.incomers or (feed,)


def elements_of(electrical: Electrical, feed: str) -> tuple[ChainElement, ...]:
    """The elements of either form."""
    if electrical.chain:
        return electrical.chain
    assert electrical.transformer is not None
    assert electrical.transformer_rating is not None
    assert electrical.ups is not None
    assert electrical.ups_rating is not None
    incomer = incomers_of(electrical, feed)[0]

    def element(name: str, part: str, rating: float, fed_from: str, store: UpsStore | None = None) -> ChainElement:
        return ChainElement.model_construct(
            name=name, part=part, rating=rating, count=1, fed_from=fed_from, breaker=None, store=store
        )

    return (
        element("transformer", electrical.transformer, electrical.transformer_rating, incomer),
        element("ups", electrical.ups, electrical.ups_rating, "transformer", electrical.ups_store),
    )


def rack_feeds(electrical: Electrical, feed: str, feeds: Sequence[str]) -> tuple[str, ...]:
    """The elements that racks with these `feeds` hang on: the only one that feeds neither another
    nor cooling alone where they name none."""
    if feeds:
        return tuple(feeds)
    elements = elements_of(electrical, feed)
    above = {element.fed_from for element in elements}
    leaves = [element.name for element in elements if element.name not in above]
    return tuple(leaf for leaf in leaves if leaf not in (*electrical.cooling_from, *electrical.pumps_from)) or tuple(leaves)


def cooling_feeds(electrical: Electrical, feed: str) -> tuple[str, ...]:
    """The elements that cooling and the fixed load hang on."""
    incomers = incomers_of(electrical, feed)
    elements = elements_of(electrical, feed)
    return electrical.cooling_from or tuple(element.name for element in elements if element.fed_from in incomers)

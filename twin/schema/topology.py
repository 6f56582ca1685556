"""What is built: sites with racks, fabric, cooling, electrical chain, storage and a feed.

Every name of a catalogue part and every reference between parts is checked by `twin.schema.references`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from twin.schema.base import CatalogName, Count, FieldError, Flag, Model, Name
from twin.schema.electrical import Electrical
from twin.schema.quantities import (
    CoolantTemperature,
    NonNegativePower,
    NonNegativeTime,
    Number,
    OutdoorTemperature,
    PositiveEnergy,
    PositiveFraction,
    PositivePower,
    PositiveTime,
    UnitFraction,
)

RackName = Annotated[str, CatalogName("rack", marker="gpu")]
CpuRackName = Annotated[str, CatalogName("rack", "CPU rack", "sandboxes")]
SwitchName = Annotated[str, CatalogName("switch", marker="ports")]
OpticName = Annotated[str, CatalogName("optic")]
CduName = Annotated[str, CatalogName("cooling", "CDU", "rated_heat_w")]
DryCoolerName = Annotated[str, CatalogName("cooling", "dry cooler", "pump_power_frac")]
ChillerName = Annotated[str, CatalogName("cooling", "chiller", "carnot_frac")]
ColdPlateName = Annotated[str, CatalogName("cooling", "cold plate", "still_frac")]
AirHandlerName = Annotated[str, CatalogName("cooling", "air handler", "water_range_k")]
BatteryName = Annotated[str, CatalogName("battery")]
GeneratorName = Annotated[str, CatalogName("generator")]


class Feed(Model):
    """The connection to the utility."""

    name: Name
    """The tag that grid events name."""
    contract: PositivePower
    """Power the utility has agreed to deliver; a load target in percent is a share of it. Drawing more is a breach."""


class RackGroup(Model):
    """Identical racks on one cooling loop."""

    name: Name
    """Name of the group, which serving pools refer to."""
    rack: RackName
    """Rack of the catalogue (`twin catalog rack`)."""
    count: Count
    """How many racks."""
    loop: Name | None = None
    """The cooling loop that takes their liquid heat; air-cooled racks have none."""
    feeds: tuple[Name, ...] = ()
    """The elements of `electrical.chain` that they hang on, their rectifiers spread evenly over these; not needed where the chain
    has one element that feeds no other."""


class CpuRackGroup(Model):
    """Identical racks of CPUs without GPUs, for the sandboxes of tools."""

    name: Name
    """Name of the group, which the scenario's tools refer to."""
    rack: CpuRackName
    """CPU rack of the catalogue."""
    count: Count
    """How many racks."""
    loop: Name | None = None
    """The cooling loop that takes their liquid heat; air-cooled racks have none."""
    feeds: tuple[Name, ...] = ()
    """The elements of `electrical.chain` that they hang on, their rectifiers spread evenly over these; not needed where the chain
    has one element that feeds no other."""


class Fabric(Model):
    """The scale-out network between scale-up domains; the scale-up domains come with the racks."""

    kind: Literal["rail_optimized", "fat_tree"] = "rail_optimized"
    """`rail_optimized`: NIC i of every node on leaf i of its rail; `fat_tree`: NICs in order on leaves."""
    switch: SwitchName
    """Switch of the catalogue."""
    optic: OpticName
    """Optical module of the catalogue at both ends of switch-to-switch and NIC-to-leaf links."""
    oversubscription: Number = Field(default=1.0, ge=1.0, le=64.0)
    """Leaf down-link bandwidth over up-link bandwidth; 1 is non-blocking."""
    efficiency: PositiveFraction = 0.95
    """Share of line rate that transfers reach (95 % Spectrum-X, about 60 % plain Ethernet: vendor figures)."""


class Loop(Model):
    """A liquid loop: one or more CDUs that feed the cold plates of racks."""

    name: Name
    """Name that rack groups refer to."""
    cdu: CduName
    """Coolant distribution unit of the catalogue (kind `cooling`)."""
    count: Count = 1
    """How many CDUs share the loop's heat."""
    supply: CoolantTemperature = 30.0
    """Supply temperature setpoint of the rack side."""


class Cooling(Model):
    """From cold plate to sky."""

    loops: tuple[Loop, ...] = ()
    """Liquid loops, by name; a site of air-cooled racks has none."""
    dry_cooler: DryCoolerName
    """Dry cooler, adiabatic cooler or cooling tower of the catalogue, sized for the site's heat."""
    chiller: ChillerName
    """Chiller of the catalogue that assists when the outdoor air is too warm for the setpoint, and serves the air share."""
    air_handler: AirHandlerName
    """Air handler of the catalogue for the share of heat that the liquid does not take."""
    cold_plate: ColdPlateName = "cold_plate"
    """Cold plate of the catalogue on the GPUs of racks with a loop: heat capacity, and what is left without flow."""
    heat_sink: ColdPlateName = "heat_sink"
    """Heat sink of the catalogue on the GPUs of racks without a loop."""


class Battery(Model):
    """A site battery behind the meter."""

    part: BatteryName
    """Battery of the catalogue (efficiency, auxiliaries)."""
    capacity: PositiveEnergy
    """Usable energy at 100 % state of charge."""
    power: PositivePower
    """Largest power in either direction, at the site bus."""
    floor: UnitFraction = 0.1
    """State of charge that is kept for ride-through and never sold."""
    initial: UnitFraction = 0.9
    """State of charge at the start."""
    islanding: Flag = False
    """Whether it can carry the whole site by itself while nothing else does, down to 5 % and whatever its floor."""

    @model_validator(mode="after")
    def _initial_above_floor(self) -> Self:
        if self.initial < self.floor:
            raise FieldError("initial", f"a charge of {self.initial:g} is below the floor of {self.floor:g}")
        return self


class Generators(Model):
    """Identical generators that can stand in for the utility. They start by themselves when an incomer is lost whose load no
    other one takes over."""

    name: Name
    """Name of the bank."""
    part: GeneratorName
    """Generator of the catalogue (start, ramp, efficiency)."""
    count: Count
    """How many units."""
    rating: PositivePower
    """Electrical rating of one unit."""
    tank: PositiveTime | None = None
    """How long the tank lasts with every unit at its rating; for a liquid fuel only, and due there."""
    return_hold: NonNegativeTime = 300.0
    """How long the utility must be back before the site goes back to it."""
    for_grid: Flag = False
    """Whether they may run for the grid's sake, beside the utility; many permits forbid it."""


class Climate(Model):
    """Outdoor air: constant, or hourly from a file."""

    dry_bulb: OutdoorTemperature | None = None
    """Constant dry-bulb temperature."""
    wet_bulb: OutdoorTemperature | None = None
    """Constant wet-bulb temperature; not above the dry bulb."""
    weather: str | None = None
    """Hourly weather CSV (`utc,dry_bulb_c,relative_humidity_pct`) instead of constants."""
    start: str | None = None
    """UTC time in the weather file at which the run starts, such as `2023-08-17 18:00`."""

    @field_validator("start")
    @classmethod
    def _is_a_time(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(f"{text!r} is not a time; write it such as '2023-08-17 18:00'") from None
        return text

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.weather is not None:
            for field in ("dry_bulb", "wet_bulb"):
                if getattr(self, field) is not None:
                    raise FieldError(field, "is given beside `weather`; keep one of them")
            return self
        if self.start is not None:
            raise FieldError("start", "needs `weather`")
        for field in ("dry_bulb", "wet_bulb"):
            if getattr(self, field) is None:
                raise FieldError(field, "is missing; give dry_bulb and wet_bulb, or weather")
        if self.wet_bulb is not None and self.dry_bulb is not None and self.wet_bulb > self.dry_bulb:
            raise FieldError("wet_bulb", f"{self.wet_bulb:g} C is above the dry bulb of {self.dry_bulb:g} C")
        return self


class Site(Model):
    """One place with one feed."""

    name: Name
    """Name in every table."""
    feed: Feed
    """The utility's connection."""
    racks: tuple[RackGroup, ...] = Field(min_length=1)
    """Groups of identical racks."""
    cpu_racks: tuple[CpuRackGroup, ...] = ()
    """Groups of CPU racks."""
    fabric: Fabric
    """Scale-out network."""
    cooling: Cooling
    """Loops and heat rejection."""
    electrical: Electrical
    """Conversion chain."""
    battery: Battery | None = None
    """Site battery, if there is one."""
    generators: tuple[Generators, ...] = ()
    """Banks of generators."""
    climate: Climate
    """Outdoor air."""
    fixed_load: NonNegativePower = 0.0
    """Lights, offices and controls: a constant load behind the transformer."""


class Topology(Model):
    """A factory: one or more sites."""

    name: Name
    """Name of the factory."""
    description: str = ""
    """What it is, in a sentence."""
    sites: tuple[Site, ...] = Field(min_length=1)
    """The sites."""

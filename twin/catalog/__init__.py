"""What things are: GPUs, racks, switches, models and the rest, each number with its source and status."""

from twin.catalog.catalog import KIND_FILES, Catalog, UnknownPartError, load_catalog
from twin.catalog.part import STATUSES, CatalogError, Part, Value, parse_raw

__all__ = [
    "KIND_FILES",
    "STATUSES",
    "Catalog",
    "CatalogError",
    "Part",
    "UnknownPartError",
    "Value",
    "load_catalog",
    "parse_raw",
]

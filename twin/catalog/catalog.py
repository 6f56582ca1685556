"""The catalogue: one YAML file a kind, read when the kind is first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import yaml

from twin.catalog.part import CatalogError, Part, Value, parse_value
from twin.errors import InputError, did_you_mean

DATA = Path(__file__).with_name("data")

#: kind -> its file. A file is `parts: {name: {description, values: {key: {value, source, status, note?}}}}`.
KIND_FILES = {
    "gpu": "gpus.yaml",
    "cpu": "cpus.yaml",
    "rack": "racks.yaml",
    "switch": "switches.yaml",
    "nic": "nics.yaml",
    "optic": "optics.yaml",
    "model": "models.yaml",
    "backend": "backends.yaml",
    "battery": "batteries.yaml",
    "generator": "generators.yaml",
    "cooling": "cooling.yaml",
    "electrical": "electrical.yaml",
    "reliability": "reliability.yaml",
    "job_class": "job_classes.yaml",
}

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C reader is ten times as fast, but not in every wheel


class UnknownPartError(InputError, KeyError):
    """A kind or part that the catalogue does not have."""

    def __str__(self) -> str:  # KeyError would print the text in quotes
        return str(self.args[0])


class Catalog:
    """Parts by kind and name. Kinds are read lazily and kept."""

    def __init__(self, folder: Path = DATA):
        self._folder = folder
        self._parts: dict[str, dict[str, Part]] = {}
        self._base: Catalog | None = None

    def with_parts(self, own: Iterable[Part]) -> Catalog:
        """A catalogue with these parts as well, each in the place of one of its name; this one stays as it is.

        Raises UnknownPartError for a part of no known kind.
        """
        longer = Catalog(self._folder)
        longer._base = self
        for part in own:
            longer._parts[part.kind] = {**longer._of(part.kind), part.name: part}
        return longer

    def kinds(self) -> tuple[str, ...]:
        """Every kind that has a file."""
        return tuple(kind for kind, file in KIND_FILES.items() if (self._folder / file).exists())

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of the parts of `kind`, in the order of the file. Raises UnknownPartError."""
        return tuple(self._of(kind))

    def part(self, kind: str, name: str) -> Part:
        """The part. Raises UnknownPartError with the nearest known name."""
        parts = self._of(kind)
        if name not in parts:
            raise UnknownPartError(f"unknown {kind} {name!r}{did_you_mean(name, parts)}")
        return parts[name]

    def _of(self, kind: str) -> dict[str, Part]:
        parts = self._parts.get(kind)
        if parts is None:
            kinds = self.kinds()
            if kind not in kinds:
                raise UnknownPartError(f"unknown kind {kind!r}{did_you_mean(kind, kinds)}")
            read = self._base._of(kind) if self._base is not None else read_parts(kind, self._folder / KIND_FILES[kind])
            parts = self._parts[kind] = read
        return parts


def read_parts(kind: str, file: Path) -> dict[str, Part]:
    """The parts of one file. Raises CatalogError naming the file, the part and the key."""
    try:
        document = yaml.load(file.read_bytes(), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise CatalogError(f"{file.name}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("parts"), dict):
        raise CatalogError(f"{file.name}: expected `parts:` with a part a name")
    parts = {}
    for name, body in document["parts"].items():
        try:
            values = {str(key): _value(str(key), entry) for key, entry in body["values"].items()}
            parts[str(name)] = Part(kind, str(name), str(body["description"]), values)
        except CatalogError as error:
            raise CatalogError(f"{file.name}: {name}: {error}") from None
        except (KeyError, TypeError, AttributeError):
            raise CatalogError(f"{file.name}: {name}: expected `description:` and `values:`") from None
    return parts


def _value(key: str, entry: object) -> Value:
    try:
        return parse_value(key, entry)
    except CatalogError as error:
        raise CatalogError(f"{key}: {error}") from None


@lru_cache(maxsize=1)
def load_catalog() -> Catalog:
    """The catalogue that ships with the product, read once a process."""
    return Catalog()

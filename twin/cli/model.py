"""`twin model import`: a model of one's own from a published config.json."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from twin.catalog import Part, load_catalog
from twin.errors import InputError, Problem
from twin.performance.config_json import ConfigError, model_of_config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def model_import_command(config: Path, name: str | None, out: Path | None) -> int:
    """Prints the model of a config.json as a catalogue file, or writes it to `out`. Returns 0.

    The model is called `name`, or as the file is, or as its folder where the file is called config.json. Raises InputError
    with everything that is wrong with the configuration, for a name that is none, and for a file that is there already.
    """
    called = name if name is not None else _name_of(config)
    if not _NAME.fullmatch(called):
        hint = "" if name is not None else "; give one with --name"
        raise InputError(f"{called!r} is no name for a model: letters, digits, '_', '-' and '.', 64 at most{hint}")
    try:
        part = model_of_config(_read(config), called)
    except ConfigError as error:
        raise InputError("\n".join(f"{config}: {line}" for line in str(error).splitlines())) from None
    text = catalog_file(part)
    if out is None:
        sys.stdout.write(text)
        return 0
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{out}: is there already; nothing was written") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    print(out)
    own = " (and `replaces: true` in it: the catalogue has this name)" if called in load_catalog().names("model") else ""
    print(f"next: `catalog: [{out.name}]` and `serving: {{model: {called}}}` in a scenario beside it{own}", file=sys.stderr)
    return 0


def catalog_file(part: Part) -> str:
    """The part as the text of a catalogue file."""
    lines = [f"kind: {part.kind}", "parts:", f"  {part.name}:", f"    description: {json.dumps(part.description)}", "    values:"]
    for key, each in part.values.items():
        number = int(each.value) if isinstance(each.value, float) and each.value.is_integer() else each.value
        value = number if isinstance(number, str) else json.dumps(number)
        note = f", note: {json.dumps(each.note)}" if each.note else ""
        lines.append(f"      {key}: {{value: {value}, source: {json.dumps(each.source)}, status: {each.status}{note}}}")
    return "\n".join(lines) + "\n"


def _name_of(config: Path) -> str:
    stem = config.absolute().parent.name if config.name == "config.json" else config.stem
    return re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise InputError([Problem(str(file), error.lineno, error.colno, "", f"is not JSON: {error.msg}")]) from None
    except (ValueError, RecursionError) as error:  # no text, or nested without end
        raise InputError(f"{file}: is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected keys and values, not {type(content).__name__}")
    return content

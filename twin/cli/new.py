"""`twin new`: a folder with a commented scenario and topology to begin from."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from twin.errors import InputError, did_you_mean
from twin.schema.json_schema import write_schemas

TEMPLATES = Path(__file__).with_name("templates")


def template_names() -> list[str]:
    """The templates that there are."""
    return sorted(path.name for path in TEMPLATES.iterdir() if (path / "scenario.yaml").is_file())


def new_command(folder: str | Path, template: str = "quickstart") -> int:
    """Writes the template's files and the editor schemas into `folder`; says what to do next on stderr; returns 0.

    Raises InputError for an unknown template, a file that is there already (nothing is written then), or a folder that cannot be
    written.
    """
    if template not in template_names():
        raise InputError(f"unknown template {template!r}{did_you_mean(template, template_names())}")
    target = Path(folder)
    sources = sorted(path for path in (TEMPLATES / template).iterdir() if path.suffix == ".yaml")
    taken = [target / source.name for source in sources if (target / source.name).exists()]
    if taken:
        raise InputError("\n".join(f"{path}: is there already; nothing was written" for path in taken))
    try:
        target.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copyfile(source, target / source.name)
            print(target / source.name)
        write_schemas(target / "schemas")
    except OSError as error:
        raise InputError(f"{error.filename or target}: cannot be written: {error.strerror}") from None
    print(f"next: twin run {target / 'scenario.yaml'}", file=sys.stderr)
    return 0

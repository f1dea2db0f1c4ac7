"""Draw an exhibit and write its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thaw.errors import UserError
from thaw.exhibits.spec import EXHIBIT_VERSION, ExhibitSpec
from thaw.exhibits.together import exhibits
from thaw.files import write_bytes


def write_exhibit(spec: ExhibitSpec, files: Sequence[Path]) -> None:
    """Write each of `files` in the form its suffix names.

    Raises UserError for an unknown exhibit, a form it does not have, a spec of another version, and an input that is
    missing or of another shape.
    """
    if spec.version != EXHIBIT_VERSION:
        raise UserError(f"this thaw draws exhibits of version {EXHIBIT_VERSION}, not {spec.version}")
    found = exhibits(spec.kind)
    if spec.name not in found:
        raise UserError(f"a {spec.kind} study has no exhibit {spec.name!r}; it has: {', '.join(found)}")
    exhibit = found[spec.name]
    for file in files:
        if file.suffix[1:] not in exhibit.suffixes:
            raise UserError(f"{file}: {spec.name} is written as {', '.join(exhibit.suffixes)}, not as {file.suffix!r}")
    for source in spec.files():
        if not Path(source).is_file():
            raise UserError(f"{source}: no such file (exhibit {spec.name} is drawn from it)")
    contents = exhibit.draw(spec)
    for file in files:
        write_bytes(file, contents[file.suffix[1:]])

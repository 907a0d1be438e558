"""Tell when another package of the same name hides one of ours. No torch here.

`python -m` looks in the working folder first, and `models` and `reports` are common names of folders.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from reproduce.errors import InputError

ROOT = Path(__file__).resolve().parents[1]  # of the four packages: a checkout, or site-packages


def foreign_place(package: str) -> Path | None:
    """Return what `import package` finds in the place of ours; None where it finds ours, or nothing."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    places = [Path(place).resolve() for place in (spec.submodule_search_locations or [spec.origin or ""])]
    return None if ROOT / package in places else places[0]


def require_own(packages: Iterable[str], script: str) -> None:
    """Check that each package is ours.

    Args:
        packages: names.
        script: command of this project that does not look in the working folder.

    Raises:
        InputError: another package of that name is found first.
    """
    for package in packages:
        place = foreign_place(package)
        if place is not None:
            raise InputError(
                f"{place}: hides this project's package {package!r}: type `{script}` in the place of `python -m`, "
                "or change to another folder"
            )

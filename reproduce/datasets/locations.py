"""Where the data sets are: `--data NAME=PATH` and the [datasets] table of a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from reproduce.datasets.registry import dataset_spec
from reproduce.errors import InputError
from reproduce.files import check_ordinary


def expand_home(path: str | Path) -> Path:
    """`path` with a leading ~ or ~USER replaced by the home folder; InputError for a user without one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: no such user's home folder; write the path in full") from None


def parse_locations(pairs: Iterable[str], toml_file: str | Path | None = None) -> dict[str, Path]:
    """Folder of each data set, from `--data NAME=PATH` and the [datasets] table of `--datasets FILE.toml`.

    A `--data` overrules the file. Relative paths in the file are relative to the file's folder.

    Raises:
        InputError: an unknown data set, a pair without "=", a data set given twice, or a file of another form.
    """
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (equals and name and path):
            raise InputError(f"--data {pair}: write it as NAME=PATH, e.g. esc50=/data/ESC-50")
        dataset_spec(name)
        if name in folders:
            raise InputError(f"--data {pair}: {name} is given twice ({folders[name]}); keep one")
        folders[name] = expand_home(path)
    located = {**(_toml_locations(expand_home(toml_file)) if toml_file is not None else {}), **folders}
    for name, folder in located.items():
        _check_path(name, folder)
    return located


def _check_path(name: str, folder: Path) -> None:
    """InputError for a path that the system refuses: too long, through a loop of links, or with a NUL in it."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # the reader's message names what it lacks
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: {reason}: write the folder of {name} as a path that can be opened") from None


def location_of(name: str, pairs: Iterable[str], toml_file: str | Path | None = None) -> Path:
    """Folder of one data set; InputError if it is unknown or was not given."""
    dataset_spec(name)
    locations = parse_locations(pairs, toml_file)
    if name not in locations:
        raise InputError(f"{name} needs its data: add --data {name}=DIR")
    return locations[name]


def _toml_locations(file: Path) -> dict[str, Path]:
    check_ordinary(file, "--datasets needs a TOML file with a [datasets] table")
    try:
        with file.open("rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; --datasets needs a TOML file with a [datasets] table") from None
    except RecursionError:
        raise InputError(f'{file}: nested too deeply; write a [datasets] table of NAME = "PATH"') from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise InputError(f'{file}: {error}; write it as TOML with a [datasets] table of NAME = "PATH"') from None
    table = content.get("datasets")
    if not isinstance(table, dict):
        raise InputError(f'{file}: no [datasets] table; write one with lines like esc50 = "/data/ESC-50"')
    locations: dict[str, Path] = {}
    for name, path in table.items():
        if not isinstance(path, str) or not path:
            raise InputError(f"{file}: datasets.{name} must be a path in quotes")
        try:
            dataset_spec(name)
            locations[name] = file.parent / expand_home(path)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
    return locations

"""The file that marks a synthesised stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reproduce.errors import InputError

MARKER = "STANDIN.json"


def standin_marker(root: str | Path) -> dict[str, Any] | None:
    """What STANDIN.json at `root` says, or None where `root` is no stand-in. Raises InputError if it cannot be read."""
    path = Path(root) / MARKER
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; delete the folder and run `data standin` again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; delete the folder and run `data standin` again")
    return content

"""The file that marks a synthesised stand-in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reproduce.errors import InputError

MARKER = "STANDIN.json"


def standin_marker(root: str | Path) -> dict[str, Any] | None:
    """Content of STANDIN.json in `root`, or None where `root` is no stand-in; InputError if it cannot be read."""
    path = Path(root) / MARKER
    if not os.path.exists(path):  # unlike Path.exists, False for any name that the system refuses
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; delete the folder and run `data standin` again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; delete the folder and run `data standin` again")
    return content

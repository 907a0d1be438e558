"""The key of a measurement: a short hash of what defines it. No torch here."""

from __future__ import annotations

import hashlib
import json
from typing import Any

KEY_DIGITS = 16


def hash_key(definition: Any) -> str:
    """16 hex digits over the JSON of `definition`, with sorted names: no path, no machine and no time belongs in it."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]

"""Outputs must hold no NaN and no infinity."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np


class NotFinite(Exception):
    """An output that holds NaN or infinity."""


def check_finite(values: Any) -> None:
    """Raise NotFinite if arrays, numbers or JSON texts within `values` hold NaN or infinity."""
    if isinstance(values, str):
        with suppress(ValueError):  # other text
            json.loads(values, parse_constant=_refuse_constant)
    elif isinstance(values, (float, np.floating)):
        if not math.isfinite(values):
            raise NotFinite(str(values))
    elif isinstance(values, np.ndarray):
        if values.dtype.kind in "fc" and not np.isfinite(values).all():
            raise NotFinite(f"an array {values.shape}")
    elif isinstance(values, Mapping):
        check_finite(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            check_finite(value)


def _refuse_constant(text: str) -> None:
    raise NotFinite(f"JSON with {text}")

"""The paired difference of two rows in words."""

from __future__ import annotations

import numpy as np

from reproduce.metrics.paired import clustered_difference
from reproduce.tables.score_cells import p_text


def paired_text(first: str, second: str, gains: np.ndarray, units: np.ndarray | None, unit: str) -> str:
    """ "ast - baseline = -12.3 [-15.0, -9.1] points on the same 400 test clips (paired bootstrap, p <= 0.002)."

    Args:
        first: label of the first row.
        second: label of the second row.
        gains: (n,) outcome of the first minus that of the second, as shares.
        units: (n,) name of the recording or speaker of each clip; None where every clip is one.
        unit: what they are: "speaker".
    """
    names = np.arange(len(gains)).astype(np.str_) if units is None else units
    difference = clustered_difference(gains, names)
    low, high = difference.ci
    count = len(set(names.tolist()))
    of_units = f" of {count:,} {unit}s" if count < len(gains) else ""
    return (
        f"{first} - {second} = {difference.value:+.1f} [{low:+.1f}, {high:+.1f}] points on the same {len(gains):,} "
        f"test clips{of_units} (paired bootstrap, {p_text(difference)})."
    )

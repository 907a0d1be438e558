"""The command behind every table of the report, and where its data goes."""

from __future__ import annotations

# What a target trains on; the others need no data, or read records alone.
DATA = {
    "table2": ("kinetics_sounds",),
    "table3": ("vggsound",),
    "table4": ("epic_kitchens",),
    "table5": ("audioset",),
    "ablations": ("audioset",),
    "table6": ("vggsound",),
    "figure2": ("vggsound",),
    "esc50": ("esc50",),
    "tune": ("esc50",),
    "equal_macs": ("esc50",),
    "pooling": ("esc50",),
}


def command_of(target: str) -> str:
    """The command line that makes a table, DIR being where its data lies."""
    if target == "recipes":
        return "python -m reproduce list --recipes"
    if target == "speed":
        return "pytest bench/ --benchmark-only"
    options = "".join(f" --data {name}=DIR" for name in DATA.get(target, ()))
    return f"python -m reproduce {target}{options}"

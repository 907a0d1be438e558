"""The command behind every table of the report, with the data that it needs."""

from __future__ import annotations

from reproduce.experiments.paper_studies import studies_of

ON_ESC50 = ("esc50", "tune", "equal_macs", "pooling", "components", "robustness", "transfer", "data_efficiency")


def command_of(target: str) -> str:
    """The command line that makes a table; DIR is the folder of its data."""
    if target == "recipes":
        return "python -m reproduce list --recipes"
    if target == "speed":
        return "pytest bench/ --benchmark-only"
    names = ("esc50",) if target in ON_ESC50 else dict.fromkeys(study.dataset for study in studies_of(target))
    options = "".join(f" --data {name}=DIR" for name in names)
    return f"python -m reproduce {target}{options}"

"""What one report is made from: each table is built once and each figure is drawn once."""

from __future__ import annotations

from reports.plots import PLOTS, Drawn
from reproduce.tables import Table, TableInputs, build


class Source:
    """Tables and figures of one set of records, made when they are first asked for.

    Args:
        inputs: paper and records.
    """

    def __init__(self, inputs: TableInputs) -> None:
        self.inputs = inputs
        self._drawn: dict[str, Drawn | None] = {}

    def table(self, name: str) -> Table:
        """The registered table `name`."""
        return build(name, self.inputs)

    def drawn(self, name: str) -> Drawn | None:
        """The figure `name` of `PLOTS`; None where the records hold nothing to draw."""
        if name not in self._drawn:
            self._drawn[name] = PLOTS[name].draw(self.inputs)
        return self._drawn[name]

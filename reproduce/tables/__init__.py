"""Tables as pure functions of the paper and the records; rendering is a second step (`render.py`). No torch here.

Importing this package registers every target: one module per subject, in the order in which they are listed.
"""

from reproduce.tables import (  # noqa: F401, I001  (the order is the listing's)
    table1,
    tables2to4,
    table5,
    ablations,
    table6,
    claims,
    costs,
    scaling,
    speed,
    comparison,
    studies,
    components,
    calibration,
    robustness,
)
from reproduce.tables.base import (
    CLIPS,
    MEASURED,
    NOT_RUN,
    PAPER_ONLY,
    POINTS,
    Cell,
    Column,
    CostRequest,
    Row,
    Table,
    TableInputs,
    TableSpec,
    build,
    measured,
    not_run,
    quoted,
    register_table,
    table_specs,
    text_cell,
)

__all__ = [
    "CLIPS",
    "MEASURED",
    "NOT_RUN",
    "PAPER_ONLY",
    "POINTS",
    "Cell",
    "Column",
    "CostRequest",
    "Row",
    "Table",
    "TableInputs",
    "TableSpec",
    "build",
    "measured",
    "not_run",
    "quoted",
    "register_table",
    "table_specs",
    "text_cell",
]

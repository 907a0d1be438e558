"""Tables as pure functions of the paper and the records; rendering is a second step (`render.py`). No torch here.

Importing this package registers every target: one module a subject, in the order in which they are listed.
"""

from reproduce.tables import architecture, audioset, costs, comparison  # noqa: F401, I001  (the order is the listing's)
from reproduce.tables.base import (
    MEASURED,
    NOT_RUN,
    PAPER_ONLY,
    Cell,
    Column,
    CostRequest,
    Row,
    Table,
    TableInputs,
    TableSpec,
    measured,
    register_table,
    table_specs,
)

__all__ = [
    "MEASURED",
    "NOT_RUN",
    "PAPER_ONLY",
    "Cell",
    "Column",
    "CostRequest",
    "Row",
    "Table",
    "TableInputs",
    "TableSpec",
    "measured",
    "register_table",
    "table_specs",
]

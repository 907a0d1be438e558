"""What the report says, in order: sections of prose, tables of the registry by name, and figures by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reports.commands import command_of
from reports.coverage import commands_text, coverage_text, environment_text
from reports.findings import summary_text
from reports.markdown import code, escape
from reports.plots import PLOTS
from reports.tables_text import table_text
from reproduce.tables import TableInputs, table_specs
from reproduce.tables.claims import claims
from reproduce.tables.recipes import recipes_table

FIGURES = "figures"  # folder beside report.md
DATA_SECTION = "Data: coverage and problems"


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it, in this order.

    Args:
        intro: Markdown from the inputs. tables: names of the registry. figures: names of PLOTS.
    """

    title: str
    intro: Callable[[TableInputs], str] | None = None
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


def _said(text: str) -> Callable[[TableInputs], str]:
    """An introduction that holds no number."""
    return lambda inputs: text + "\n"


def _recipes(inputs: TableInputs) -> str:
    return table_text(recipes_table(), command=command_of("recipes"))


def _verdicts(inputs: TableInputs) -> str:
    """The findings, then a verdict a claim; the claims' own words have a section further down."""
    verdicts = replace(claims(inputs), blocks=())
    return f"{summary_text(inputs)}\n{table_text(verdicts, command=command_of('claims'))}"


def _claims_in_words(inputs: TableInputs) -> str:
    return "\n".join(table_text(block) for block in claims(inputs).blocks)


def _commands(inputs: TableInputs) -> str:
    return commands_text(table_specs()[name] for name in TABLES)


SECTIONS = (
    Section("Summary", _verdicts),
    Section("Architecture", figures=("architecture",), tables=("table1",)),
    Section(
        "Cost: parameters and multiply-accumulates",
        _said(
            "Two countings stand side by side. The module-only one is the paper's: it sees what modules such as Linear "
            "and Conv compute, and misses the products of two activations inside attention. The full one adds these."
        ),
        figures=("macs_by_kind",),
        tables=("costs",),
    ),
    Section(
        "The paper's results",
        _said(
            "Only runs at the paper's scale, on the paper's data and by the paper's recipe stand beside its numbers. "
            'The row "AST \\[28\\]" of Tables 2 to 4 quotes another network: an AST trained here has a row of its own. '
            "Demo-scale runs on synthetic stand-ins, where there are any, follow in labelled tables: they show that "
            "every table can be filled, not what the paper's models would score."
        ),
        tables=("table2", "table3", "table4", "table5"),
    ),
    Section("Pooling ablations", figures=("ablations",), tables=("ablations",)),
    Section("Embeddings: Table 6 and Figure 2", figures=("figure2", "figure2_demo"), tables=("table6", "figure2")),
    Section(
        "Speed and memory",
        _said(
            "Counted operations are not time. Both models are timed in turns in one process, so that their ratio is "
            "taken round by round, and it stands beside that of their MACs."
        ),
        figures=("speed",),
        tables=("speed",),
    ),
    Section("Cost against clip length", figures=("scaling",), tables=("scaling",)),
    Section(
        "Evidence on real audio",
        _said(
            "Both models trained from scratch on the same real recordings, with the same clips, augmentation, schedule "
            "and seed. The paper has no such table: nothing here is quoted."
        ),
        figures=(
            "log_mel",
            "accuracy_cost",
            "training_curves",
            "confusion",
            "class_differences",
            "relative_positions",
        ),
        tables=("esc50", "equal_macs", "pooling", "tune"),
    ),
    Section("The claims, one by one", _claims_in_words),
    Section(DATA_SECTION, coverage_text),
    Section("Recipes and deviations", _recipes),
    Section("Environment", environment_text),
    Section("How to reproduce each number", _commands),
)
TABLES = ("claims", *(name for section in SECTIONS for name in section.tables))


def report_text(inputs: TableInputs, captions: Mapping[str, str], sounds: str) -> str:
    """The whole report as Markdown.

    Args:
        inputs: what the tables are made of.
        captions: figure -> its caption, for those that the records allow; the others are named with their command.
        sounds: Markdown that DATA_SECTION ends with.
    """
    parts = ["# MAST vs AST: report\n"]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n")
        if section.intro is not None:
            parts.append(section.intro(inputs))
        parts += [_figure(name, captions) for name in section.figures]
        parts += [_table(name, inputs) for name in section.tables]
        if section.title == DATA_SECTION:
            parts.append(f"### What the stand-ins sound like\n\n{sounds}")
    return "\n".join(parts)


def _figure(name: str, captions: Mapping[str, str]) -> str:
    """An image with its caption as its description; or what the figure needs, where it could not be drawn."""
    if name in captions:
        return f"![{escape(captions[name])}]({FIGURES}/{name}.png)\n"
    plot = PLOTS[name]
    title = name.replace("_", " ")
    return f"*Figure not drawn: {escape(title)}. It needs {escape(plot.needs)}:* {code(plot.command)}\n"


def _table(name: str, inputs: TableInputs) -> str:
    """A table of the registry, and the command that makes it."""
    return table_text(table_specs()[name].build(inputs), command=command_of(name))

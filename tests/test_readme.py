"""The README shows what the commands print, not what they once printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reproduce.__main__ import main
from reproduce.cli.commands import all_commands

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_in_the_readme_is_what_its_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    assert main(["table5"]) == 0
    grid, notes, _ = capsys.readouterr().out.partition("  Cells read:")
    assert notes
    assert grid in README


def test_every_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"python -m reproduce ([a-z0-9_]+)", README))
    assert commands
    assert commands <= {command.name.split()[0] for command in all_commands()}


def test_files_that_the_readme_links_to_are_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []

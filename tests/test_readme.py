"""README and docs show what the commands print, lead to what exists, and stay short and narrow."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reproduce.__main__ import main
from reproduce.cli.commands import all_commands
from reproduce.cli.parser import build_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "reproduce/demo/README.md", *DOCS]
PHONE = 80  # columns of a code block
MOST_WORDS = 1500  # in the README


def tokens(page: Path) -> Iterator[Token]:
    """Tokens of a page, those within paragraphs included."""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks in a language."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them for plain headings."""
    found = list(tokens(page))
    titles = [found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open"]
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of every command of this project in a page's shell blocks and inline code."""
    inline = [token.content for token in tokens(page) if token.type == "code_inline"]
    for block in (*blocks(page, "bash"), *inline):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                with contextlib.suppress(ValueError):  # an apostrophe of prose
                    yield shlex.split(command.partition(">")[0], comments=True)


def our_arguments(words: list[str]) -> list[str] | None:
    """The arguments of `python -m reproduce` or `mast-vs-ast` in a command; None for another command."""
    if "mast-vs-ast" in words and words[0] in ("mast-vs-ast", "docker"):
        place = words.index("mast-vs-ast")
        return None if words[:2] == ["docker", "build"] else words[place + 1 :]
    if words[:1] == ["sbatch"]:
        return words[2:]
    pair = ["-m", "reproduce"]
    place = next((i for i in range(len(words)) if words[i : i + 2] == pair), None)
    return None if place is None else words[place + 2 :]


# --- README ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "start", "end"), [("table5", "", "  Cells"), ("esc50", "demo scale", "\n\n")])
def test_a_table_in_the_readme_is_what_its_command_prints(
    command: str, start: str, end: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", str(PHONE))
    assert main([command]) == 0
    printed = capsys.readouterr().out
    grid, notes, _ = printed[printed.index(start) :].partition(end)
    assert notes
    assert grid in README


def test_the_prediction_in_the_readme_is_what_its_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    commands = (words for words in map(our_arguments, command_lines(ROOT / "README.md")) if words)
    command = next(words for words in commands if words[0] == "predict")
    assert main([*command, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    shown = next(block for block in blocks(ROOT / "README.md", "text") if block.startswith(command[1]))
    named = re.compile(r"(\w+) (\d\.\d\d)")
    assert [name for name, _ in named.findall(shown)] == [name for name, _ in named.findall(printed)]
    for (_, theirs), (_, ours) in zip(named.findall(shown), named.findall(printed), strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.02)


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_the_first_screen_says_what_it_is_what_was_found_and_the_two_commands() -> None:
    screen = "\n".join(README.splitlines()[:50])
    assert "audio classifiers" in screen
    assert "What was found" in screen
    for command in ("git clone", "pip install -e .", "python -m reproduce table5", "--model demo"):
        assert command in screen


# --- all pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    hrefs = [str(token.attrs.get("href") or token.attrs.get("src")) for token in tokens(page) if token.attrs]
    for href in (href for href in hrefs if not re.match(r"https?://|mailto:|None$", href)):
        path, _, anchor = href.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name}: {href}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {href}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_the_parser_knows(page: Path) -> None:
    parser = build_parser()
    for words in command_lines(page):
        arguments = our_arguments(words)
        if arguments is None or not arguments or arguments[0].isupper() or "|" in " ".join(arguments):
            continue  # another command, or the name of all: `python -m reproduce COMMAND`
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
            try:
                parsed: argparse.Namespace | None = parser.parse_args(arguments)
            except SystemExit as stopped:  # --help and --version end so
                assert not stopped.code, f"{page.name}: {' '.join(words)}: {error.getvalue()}"
                parsed = None
        assert parsed is None or parsed.command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_and_tables_fit_a_narrow_screen(page: Path) -> None:
    wide = [line for token in tokens(page) if token.type == "fence" for line in token.content.splitlines()]
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    wide += [re.sub(r"\]\([^)]*\)", "]", row) for row in rows]  # the address of a link is not shown
    assert [line for line in wide if len(line) > PHONE] == []


def test_the_readme_names_commands_at_all() -> None:
    named = {words[0] for words in map(our_arguments, command_lines(ROOT / "README.md")) if words}
    assert {"table5", "predict", "esc50", "train", "speed"} <= named
    assert named - {"--help", "COMMAND"} <= {command.name.split()[0] for command in all_commands()}


def test_every_example_of_the_help_parses() -> None:
    for command in all_commands():
        arguments = our_arguments(shlex.split(command.example))
        assert arguments and build_parser().parse_args(arguments).run_command.name == command.name


def test_python_in_readme_and_docs_runs_and_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for page in (ROOT / "README.md", *DOCS):
        names: dict[str, object] = {}
        for block in blocks(page, "python"):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block, page.name, "exec"), names)
            for expected in re.findall(r"^print\(.*\)\n# (.+)$", block, re.MULTILINE):
                assert expected in printed.getvalue()


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == {page.name for page in DOCS}


@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="needs mkdocs-material, the extra `docs`")
def test_mkdocs_builds_the_pages_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/faq.html").is_file()
    assert (tmp_path / "site/tour.ipynb").is_file()


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "docs/tour.ipynb").read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "86.59 M parameters" in done.stdout
    assert "demo:ast_tiny" in done.stdout

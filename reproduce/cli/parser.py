"""Build the argument parser: a subcommand per `Command`, help in groups, close matches for typing errors."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

from reproduce.cli.command import GROUPS, PROGRAM, Command
from reproduce.cli.commands import all_commands

HELP_WIDTH = 16
SCRIPT = "mast-vs-ast"  # the console script
SHELLS = ("bash", "zsh", "tcsh")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations that suggests close matches for misspelt words."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """Print the message with close matches, and exit with status 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            known = re.findall(r"[\w.-]+", wrong[2])
            message = f"{message.split('invalid choice')[0]}there is no '{wrong[1]}'{_did_you_mean(wrong[1], known)}"
        unknown = re.search(r"unrecognized arguments: (--?[\w-]+)", message)
        if unknown:
            message += _did_you_mean(unknown[1], list(self._option_string_actions))
        super().error(message)


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; choose from {', '.join(known)}" if len(known) <= 12 else "; see --help"


class _Subcommand(Parser):
    """A parser of one command that reports unknown options; argparse leaves them to the main parser."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, extra = super().parse_known_args(args, namespace)
        if extra:
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return options, extra


class _GroupedHelp(Parser):
    """The main parser. Its help lists the commands by group, with an example per group."""

    commands: tuple[Command, ...] = ()

    def format_help(self) -> str:
        lines = [f"usage: {PROGRAM} COMMAND [options]", "", self.description or ""]
        for key, (title, shown) in GROUPS.items():
            members = [command for command in self.commands if command.group == key]
            lines += ["", f"{title}:", *(f"  {command.name:<{HELP_WIDTH}}{command.help}" for command in members)]
            lines += [f"  {'':<{HELP_WIDTH}}e.g. {command.example}" for command in members if command.name == shown]
        return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help lists the options of a command.", ""])


def build_parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    """Build the parser of `python -m reproduce`. Parsed options contain the chosen `Command` as `run_command`."""
    commands = all_commands()
    parser = _GroupedHelp(
        prog=program,
        description="Reproduce the tables of the MAST paper, and compare MAST with AST on your own data and hardware.",
    )
    parser.commands = commands
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--completion",
        choices=SHELLS,
        action=_Completion,
        help="print the completion of `mast-vs-ast` for a shell, and exit",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Subcommand)
    groups: dict[str, Any] = {}
    for command in commands:
        first, _, second = command.name.partition(" ")
        if second and first not in groups:
            title = GROUPS[command.group][0]
            groups[first] = subparsers.add_parser(first, help=title, description=title).add_subparsers(
                dest="verb", required=True, metavar="VERB", parser_class=_Subcommand
            )
        text = f"{command.help}\n\nexample:\n  {command.example}"
        place = groups[first] if second else subparsers
        subparser = place.add_parser(second or first, help=command.help, description=text)
        command.add_options(subparser)
        subparser.set_defaults(run_command=command, **command.defaults)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"mast-vs-ast {_version()}")
        parser.exit()


class _Completion(argparse.Action):
    """Prints the completion of the console script; shtab is imported only then."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, *_: Any) -> NoReturn:
        import shtab

        complete = build_parser(SCRIPT)
        print(shtab.complete(complete, shell=values))
        parser.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mast-vs-ast")
    except PackageNotFoundError:  # a checkout without installation
        return "(not installed)"

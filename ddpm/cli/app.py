"""Presets, checks, verdicts, sampling, tracking. DVC runs the stages.

exit codes:
  0    done
  1    gate, judge --gate: worse than the baseline allows; study run: an
       experiment failed; ladder try: refused
  2    a mistake, reported in one line on stderr
  3    compare, study: too early for a verdict, because both sides of every
       comparison score worse than a Gaussian; ladder try: undecided; gate,
       judge --gate: an alarm that fresh seeds have to confirm
  130  stopped by Ctrl-C; any other signal N: 128 + N
  141  the reader of the output closed it, as `| head` does
"""

# The text above is what `ddpm --help` prints. Here are the groups of the commands, and the options that several take: a
# command is a function, whose signature holds its options, and from which cyclopts makes the parser and the help.

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, Token
from cyclopts.validators import Path as FileKind
from cyclopts.validators import mutually_exclusive
from rich.console import Console

from ddpm.base.errors import UserError
from ddpm.base.paths import MODEL_FILE, STUDIES

MAIN = Group("The main loop", sort_key=1)
SCORES = Group("Scores and verdicts", sort_key=2)
MODELS = Group("Models", sort_key=3)
PROJECT = Group("The project", sort_key=4)
SUFFIXES = ("png", "jpg", "jpeg", "webp", "bmp")
ONE_OF = Group("One of", validator=mutually_exclusive)  # options of which at most one may be given


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # `errors.exit_code` ends the program as for any other output


def _default(value: object) -> str | None:
    """The default of an option as its help shows it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or None
    return None if value is None or value is False else str(value)


app = App(
    name="ddpm",
    help=__doc__,
    help_format="plaintext",
    version=lambda: metadata.version("ddpm-referee"),
    version_flags=("--version",),
    default_parameter=Parameter(negative=(), consume_multiple=1, show_default=_default),
    suppress_keyboard_interrupt=False,
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)
app["--help"].group = app["--version"].group = PROJECT
app.command("ddpm.cli.study_commands:app", name="study", help="Take a question to a verdict.", group=MAIN, sort_key=5)
app.command("ddpm.cli.ladder_commands:app", name="ladder", help="Try ideas, or search.", group=MAIN, sort_key=6)
app.register_install_completion_command(help="Make the Tab key complete `ddpm`.", group=PROJECT)


def run(arguments: Sequence[str] | None) -> int | None:
    """Run the command that ``arguments``, or sys.argv, name; return its exit code. Raises UserError for a mistake."""
    try:
        code: int | None = app(arguments, console=_Terminal())
    except CycloptsError as error:
        if isinstance(error, MissingArgumentError) and error.argument and not error.keyword:
            text = f"{error.argument.name}: missing; --help shows what it is"
        else:
            text = f"{str(error)[:1].lower()}{str(error)[1:]}"
        raise UserError(f"{' '.join(['ddpm', *(error.command_chain or ())])}: {text}") from error
    return code


def _model(_: type, tokens: Sequence[Token]) -> Path:
    """A model file, or the one in a folder."""
    path = Path(tokens[0].value)
    return path / MODEL_FILE.name if path.is_dir() else path


def in_folder(folder: Path) -> Callable[[type, Sequence[Token]], Path]:
    """A converter of a file's path, or of its name alone, of a file in ``folder``."""

    def convert(_: type, tokens: Sequence[Token]) -> Path:
        value = tokens[0].value
        return Path(value) if "/" in value or value.endswith((".yaml", ".yml")) else folder / f"{value}.yaml"

    return convert


def list_files(folder: str) -> str:
    """The names of a package folder's files, for a help that imports none of them: that takes half of its time."""
    return ", ".join(sorted(path.stem for path in Path(__file__).parents[1].joinpath(folder).glob("[a-z]*.*")))


Json: TypeAlias = Annotated[bool, Parameter(help="print JSON, for a program")]
Model: TypeAlias = Annotated[Path, Parameter(converter=_model, help="model file, or its folder")]
Plan: TypeAlias = Annotated[
    Path, Parameter(converter=in_folder(STUDIES), help="the study's file, or its name in studies/")
]
Names: TypeAlias = tuple[str, ...]
Folders: TypeAlias = Annotated[tuple[Path, ...], Parameter("--from")]
Classes: TypeAlias = Annotated[Names, Parameter("--class")]
Picture: TypeAlias = Annotated[Path, Parameter(validator=FileKind(ext=SUFFIXES), help="picture to write")]
Tables: TypeAlias = Annotated[
    tuple[Annotated[Path, Parameter(validator=FileKind(ext=("tex", "csv")))], ...],
    Parameter("--table", help="tables for a paper to write: .tex, .csv"),
]

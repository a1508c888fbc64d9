"""What the terminal shows of ``ddpm`` besides its commands: examples, exit codes, completion with the Tab key."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import shtab

from ddpm.base.errors import UserError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

EXIT_CODES = """\
exit codes:
  0    done
  1    gate: worse than the baseline allows; doctor: something needed is missing; study run: an experiment failed
  2    a mistake, reported in one line on stderr
  75   study run: the time of --max-time is over; the same command continues
  130  stopped by Ctrl-C; any other signal N: 128 + N
  141  nobody reads the output any more, as with `| head`"""

# command line -> what it is for
EXAMPLES = {
    "ddpm preset fashion_mnist": "refused if params.yaml has uncommitted changes",
    "ddpm preset digits --force": "overwrites them",
    "ddpm preset edm --on cifar10": "the method of one preset on the data, network and budget of another",
    "ddpm check": "before hours of training: is params.yaml possible, and how long will it take",
    "ddpm check --no-pilot": "only: is it possible",
    "ddpm sanity": "on your own real images, as soon as `dvc repro reference` has run",
    "ddpm sanity --json": "for a program",
    "ddpm variants": "every schedule, loss, sampler and so on, with its paper",
    "ddpm variants --json": "for a program",
    "ddpm sample -n 16 --out digits.png": "16 images of the current model",
    "ddpm sample --class 3 --guidance 2": "one class, more clearly, of a model with classes",
    "ddpm sample --model m.safetensors --seed 7 --sampler ancestral --steps 250": "of a model file, anywhere",
    "ddpm compare --by diffusion.schedule.name": "every schedule that was run against that of params.yaml",
    "ddpm compare --by sample.sampler sample.steps --all-pairs --allow-budget-mismatch": "each against each",
    "ddpm compare --between main workspace": "two commits or experiments; one seed each is no verdict",
    "ddpm compare --by diffusion.loss.name --json": "verdicts for a program",
    "ddpm gate": "in CI: fails if scores are worse than another seed would explain",
    "ddpm gate --champion": "the model that passes is the registry's champion",
    "ddpm gate --update": "makes the runs of these params the new baseline",
    "ddpm ema --length 0.075": "another average of the weights, from the snapshots of train.posthoc",
    "ddpm export --out shared": "a folder to share: the model file and its card",
    "ddpm import shared --out other.safetensors": "for `ddpm sample --model other.safetensors`",
    "ddpm frontier --samplers ddim heun --evaluations 10 20 50": "quality against cost of two samplers",
    "ddpm report --by diffusion.schedule.name": "report.html, with the schedules side by side",
    "ddpm summary": "the current model: scores next to those of real images, pictures, what to try",
    "ddpm summary --all": "every number",
    "ddpm summary --json": "for a program",
    "ddpm doctor": "what this machine has, and what is missing",
    "ddpm doctor --offline": "what would have to be downloaded counts as missing",
    "ddpm runs": "a line each: what differs from params.yaml, seed, scores, seconds, state",
    "ddpm runs --mlflow": "also those of plain `dvc repro`, which MLflow keeps",
    "ddpm runs --json": "for a program, with every score",
    "ddpm schema": "after a new variant: the file with which editors complete params.yaml",
    "ddpm study new loss --vary diffusion.loss.name=simple,min_snr": "studies/loss.yaml, with comments",
    "ddpm study plan studies/loss.yaml": "its experiments, their cost, the power at each look",
    "ddpm study costs studies/networks.yaml": "FLOPs or seconds of a step, for variants at equal cost",
    "ddpm study run studies/loss.yaml": "runs what is missing and decides; after any stop, it continues",
    "ddpm study run studies/loss.yaml --line 3": "one experiment, for job arrays",
    "ddpm study verdict studies/loss.yaml": "what the finished experiments say by now; runs nothing",
    "ddpm study status studies/loss.yaml": "from another terminal, while it runs",
    "ddpm use inpaint --rows 0 1 2 3 --part left": "the model draws the left half of four test images",
    "ddpm use vary --images cat.jpg --strengths 0.3 0.6": "your own photo, varied a little and more",
    "ddpm use interpolate --rows 0 1 2": "a row from each image to the next",
    "ddpm use invert": "the noise of each image, and the image drawn from it",
    "ddpm track sync": "after a training whose MLflow server was down",
    "ddpm track register": "a version in MLflow's registry, for `mlflow models serve`",
}


Argument: TypeAlias = Callable[[argparse._ActionsContainer], object]  # adds itself to a parser


def option(*names: str, **settings: Any) -> Argument:
    """What ``add_argument`` takes, for any number of commands."""
    return lambda parser: parser.add_argument(*names, **settings)


def either(*options: Argument, required: bool = False) -> Argument:
    """Options of which one may be given, or must be."""

    def add(parser: argparse._ActionsContainer) -> None:
        exclusive = parser.add_mutually_exclusive_group(required=required)
        for each in options:
            each(exclusive)

    return add


def command(
    added: Commands, name: str, run: str, what: str, *options: Argument, about: str = ""
) -> argparse.ArgumentParser:
    """A new command, with its examples. run: as for ``function``. what: for the list of commands; about: for its own
    help."""
    form = argparse.RawDescriptionHelpFormatter
    parser = added.add_parser(name, help=what, description=textwrap.fill(about, 100), formatter_class=form)
    examples = [f"  {line}\n      {use}" for line, use in EXAMPLES.items() if f"{line} ".startswith(f"{parser.prog} ")]
    parser.epilog = "\n".join(["examples:", *examples] if examples else [])
    for add in options:
        add(parser)
    parser.set_defaults(run=run)
    return parser


def group(added: Commands, name: str, what: str) -> Commands:
    """A new command that has commands of its own."""
    return command(added, name, "", what).add_subparsers(metavar="COMMAND", required=True)


def function(run: str) -> Callable[[argparse.Namespace], int | None]:
    """What a command does: a function of commands.py or, such as ``study.push``, of another file here, which is
    imported now, so that no other command waits for it."""
    module, _, name = run.rpartition(".")
    found: Callable[[argparse.Namespace], int | None] = getattr(import_module(f"ddpm.cli.{module or 'commands'}"), name)
    return found


def complete(top: argparse.ArgumentParser, commands: Commands, words: Mapping[str, Sequence[str]]) -> None:
    """Give the finished parsers ``--print-completion``.

    words: argument -> what Tab offers for it. Paths get files, or folders if the argument is called FOLDER.
    """
    shtab.add_argument_to(top, "--print-completion", help="the script that makes the Tab key complete `ddpm`")
    for action in (action for command in commands.choices.values() for action in command._actions):
        if action.dest in words:
            action.complete = shtab.cmd(f"echo {' '.join(words[action.dest])}")  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE  # type: ignore[attr-defined]


def width() -> int:
    """Columns for a table: the terminal's, between 80 and 120; 120 without a terminal."""
    return min(max(shutil.get_terminal_size((120, 24)).columns, 80), 120)


def answer(parsed: argparse.Namespace, value: object, *lines: object) -> None:
    """Print ``lines`` or, with --json, ``value`` as one JSON document; NaN and infinity in it raise ValueError."""
    print(*([json.dumps(value, indent=2, allow_nan=False)] if parsed.json else lines), sep="\n")


def picture_path(path: Path) -> None:
    """Raises UserError unless the path ends in a picture's suffix."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise UserError(f"--out: {path} does not end in a picture's suffix; allowed: {', '.join(PICTURE_SUFFIXES)}")

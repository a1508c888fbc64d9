"""The ``ddpm`` command: presets, checks, verdicts, sampling from a model file, tracking. DVC runs the stages."""

import sys

from ddpm.base.errors import exit_code, print_described, print_error
from ddpm.cli import app, commands, model_commands  # noqa: F401 (which register the commands)


def main(arguments: list[str] | None = None) -> None:
    """Entry point; exits with 0, or 2 after one line on stderr that names the mistake and its fix. With --json, that is
    on stdout, too, as an object."""
    say = print_described if "--json" in (sys.argv if arguments is None else arguments) else print_error
    sys.exit(exit_code(lambda: app.run(arguments), say))

"""How a program is run and read: the part of a ladder's or a study's file that says so.

Nothing but this file chooses which command runs. It must be committed, and a person names it on the command line.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, SerializeAsAny

from ddpm.base.errors import UserError, printable
from ddpm.base.sections import Section, inside
from ddpm.base.variant import closest, quote
from ddpm.programs.output import rule

Direction = Literal["lower", "higher"]
LONGEST = 1000  # characters of a command, and of a value
PLACE = re.compile(r"\{(\w+)\}")
NAME = re.compile(r"[\w./-]+( [\w./-]+)*")  # of a metric; what has any other character is a regular expression
SEED, COMMIT = "seed", "commit"  # what is no value, and may stand next to the values of an entry or an arm
DIGEST = re.compile(r"[0-9a-f]{40}")  # of a commit
LARGEST_SEED = 2**31 - 1  # numpy and scikit-learn refuse larger ones


def _word(value: str) -> str:
    if not value.isprintable():
        raise ValueError(f"{quote(value)}: has characters that cannot be printed")
    return value


def _command(run: str) -> str:
    if not shlex.split(run):  # ValueError for a quotation without an end
        raise ValueError("empty; allowed: a command such as python train.py --seed {seed}")
    return run


def _rule(read: object) -> object:
    if isinstance(read, dict):
        return InFile.model_validate(read)
    if not isinstance(read, str) or not 0 < len(read) <= 200:
        raise ValueError("allowed: a metric's name, a regular expression, or {file: FILE, key: KEY}")
    if not NAME.fullmatch(read):
        try:
            groups = re.compile(read).groups
        except re.error as error:
            raise ValueError(f"neither a metric's name nor a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"a regular expression with {groups} groups; allowed: one, ( ), around the number")
    return read


Word = Annotated[str, Field(max_length=LONGEST), AfterValidator(_word)]
Value = bool | int | float | Word  # fills a place of the command
Values = Mapping[str, Value]
Command = Annotated[str, Field(max_length=LONGEST), AfterValidator(printable), AfterValidator(_command)]
Metric = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Inside = Annotated[str, AfterValidator(inside)]
Margin = Annotated[float, Field(ge=0)]


class InFile(Section):
    """Where a program writes its score: the JSON ``file``, and the ``key`` in it, with a dot before each inner one."""

    file: Inside
    key: Annotated[str, Field(min_length=1)]


class Program(Section):
    """A command that trains something and prints a score."""

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    run: Command  # with {seed}, which is in $SEED, too, and a {place} for each value
    read: Annotated[SerializeAsAny[str | InFile], PlainValidator(_rule)]  # the score
    better: Direction
    values: dict[str, Value] = Field(default={})
    guards: dict[Metric, Direction] = Field(default={})  # read as the score is
    margins: dict[str, Margin] = Field(default={})  # the smallest gap that matters, by metric
    minutes: Annotated[float, Field(gt=0, le=100_000)] = 60.0  # of a run; then it has failed
    deterministic: bool = False  # whether the seed changes nothing, so that one run decides
    links: tuple[Inside, ...] = ()  # files and folders outside git that runs read, such as data

    def refusals(self) -> Iterator[str]:
        if odd := [name for name in (SEED, COMMIT) if name in self.values]:
            yield f"values: {odd[0]}: not a value: it has a meaning of its own"
        places = {*PLACE.findall(self.run)} - {SEED}
        if missing := sorted(places - self.values.keys()):
            yield f"run: {{{missing[0]}}} has no value; add values.{missing[0]}"
        if unused := sorted(self.values.keys() - places):
            yield f"run: value {unused[0]} has no place; add {{{unused[0]}}} to the command, or leave the value out"
        if self.primary in self.guards:
            yield f"guards: {self.primary}: is the score itself"
        if unknown := [name for name in self.margins if name not in self.directions]:
            allowed = ", ".join(self.directions)
            yield f"margins: {unknown[0]}{closest(unknown[0], self.directions)}; allowed: {allowed}"

    @property
    def primary(self) -> str:
        """The name of the score."""
        if isinstance(self.read, InFile):
            return self.read.key
        return self.read if NAME.fullmatch(self.read) else "score"

    @property
    def directions(self) -> dict[str, Direction]:
        """What is better, of the score and each guard."""
        return {self.primary: self.better, **self.guards}

    @property
    def patterns(self) -> dict[str, str]:
        """The regular expression that finds each metric in the output; none if they are in a file."""
        if isinstance(self.read, InFile):
            return {}
        own = rule(self.read) if NAME.fullmatch(self.read) else self.read
        return {self.primary: own, **{name: rule(name) for name in self.guards}}

    def check_key(self, key: str, source: str) -> None:
        """Raises UserError, which begins with ``source``, unless an entry or an arm may set the key."""
        if key not in {*self.values, COMMIT}:
            allowed = ", ".join([*self.values, COMMIT])
            raise UserError(f"{source}: {key}: no such value{closest(key, self.values)}; allowed: {allowed}")

    def check(self, values: Mapping[str, object], source: str) -> None:
        """Raises UserError, which begins with ``source``, unless the command can be filled with these values."""
        for key, value in values.items():
            self.check_key(key, source)
            if key == COMMIT and not DIGEST.fullmatch(str(value)):  # it becomes an argument of git
                raise UserError(f"{source}: {key}: {quote(value)}; allowed: the 40 digits of a commit")
            if not isinstance(value, bool | int | float | str) or not str(value).isprintable():
                raise UserError(f"{source}: {key}: {quote(value)}; allowed: a number, true, false or a word")

    def fill(self, values: Values, seed: int) -> list[str]:
        """The words of the command. A place is filled within its word, so no value can add another one."""
        own = {key: _spell(value) for key, value in {**self.values, **values, SEED: seed}.items()}
        return [PLACE.sub(lambda place: own[place[1]], word) for word in shlex.split(self.run)]


def _spell(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""A run's record: everything that anybody needs to judge, list or plot a trained and scored model, in one file.

The evaluate stage writes metrics/run.json. Whatever compares, lists or shows runs reads records and nothing else, so
that a verdict outlives the code that made it, and a result is shared like any other file.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.base.sections import Section, Seed, inside

FORMAT: Literal[2] = 2
MOST_BYTES = 100_000  # of a record; those of shipped presets take a tenth of it
LONGEST = 200  # characters of a name, and of a key
SEED = "seed"
OF_REAL = re.compile(r"^(real|yardsticks)\.|expected$|limit$")  # scores that depend on the real images alone
RESTORE = "restore it from git, or remove it"
SCHEMA = Path(__file__).with_name("run.schema.json")


def _plain(name: str) -> str:
    if not name.isprintable() or any(mark in name for mark in "<>"):
        raise ValueError("allowed: a name without control characters, < and >")
    return name


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(values, allow_nan=False)
    except TypeError as error:  # for a date, which YAML has and JSON has not
        raise ValueError(error) from error
    return values


def _with_lists(params: dict[str, Any]) -> dict[str, Any]:
    """What ``Record.text`` writes as {} is an empty list: flat params have no mappings."""
    return {key: [] if value == {} else value for key, value in params.items()}


Key = Annotated[str, Field(pattern=r"^[\w./ -]+$", max_length=LONGEST)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_plain)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{12}([0-9a-f]{20}([0-9a-f]{32})?)?$")]
Revision = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Line = Annotated[str, Field(max_length=LONGEST), AfterValidator(_plain)]
Values = Annotated[dict[Key, Any], AfterValidator(_finite)]
Params = Annotated[Values, AfterValidator(_with_lists)]
Code = dict[Annotated[Key, AfterValidator(inside)], Digest]
Ignored = Annotated[Any, AfterValidator(lambda _: None)]
Facts = dict[Key, str | int | float | bool | None]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e100)]
Score = Annotated[float, Field(ge=-1e100, le=1e100)]  # the squares of larger ones overflow


class NumberTable(Section):
    """A small table of numbers by column; None is an empty cell."""

    columns: dict[Key, tuple[float | None, ...]]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if len(lengths := sorted({len(column) for column in self.columns.values()})) > 1:
            raise ValueError(f"columns: one has {lengths[0]} cells, another {lengths[-1]}")
        return self

    def dicts(self) -> list[dict[str, float]]:
        """A mapping for each row, without its empty cells."""
        rows = zip(*self.columns.values(), strict=True)
        pairs = (zip(self.columns, row, strict=True) for row in rows)
        return [{column: cell for column, cell in cells if cell is not None} for cells in pairs]


class Fingerprint(Section):
    """What two runs must share for their scores to be compared: ``comparable``, and the digest of it."""

    hash: Digest
    comparable: Values

    @classmethod
    def of(cls, comparable: dict[str, Any]) -> Self:
        return cls(hash=files.digest(comparable), comparable=comparable)

    @model_validator(mode="after")
    def _is_digest(self) -> Self:
        if files.digest(self.comparable) != self.hash:
            raise ValueError(f"hash: {self.hash[:12]} is not the digest of comparable: one of them was changed by hand")
        if not isinstance(self.comparable.get("sampling", {}), dict | None):
            raise ValueError("comparable: sampling is not a mapping")
        return self

    def without(self, part: str) -> str:
        """The digest without one part: without ``sampling`` for runs whose samplers are compared."""
        return files.digest({key: value for key, value in self.comparable.items() if key != part})


class Costs(Section):
    """What a run cost; None is unknown, never guessed."""

    images_seen: Count | None = Field(default=None, description="by training, with repetitions")
    parameters: Count | None = Field(default=None, description="weights of the network")
    flops: Amount | None = Field(default=None, description="of training, with the optimizer's matrix products")
    teacher_flops: Amount | None = Field(default=0.0, description="of training the models that it started from")
    evaluations: Count | None = Field(default=None, description="of the network for each sample")
    seconds: dict[Key, Amount] = Field(default={}, description="by stage, on the machine that `environment` describes")


class Provenance(NamedTuple):
    """What made a run: its params, flat, and path -> md5 of its code."""

    params: dict[str, Any]
    code: dict[str, str]


class Record(Section):
    """The content of a record, validated."""

    model_config = ConfigDict(title="A run's record")

    format: Literal[2] = Field(default=FORMAT, description="of this file; another number is another layout")
    name: Name = Field(description="for tables and messages")
    seed: Seed | None = Field(description="of the training; runs of two arms are paired by it; null: unknown")
    program: Name | None = Field(default=None, description="what drew the samples, if it was not this project")
    finished: AwareDatetime = Field(description="when the scores were computed, UTC")
    params: Params = Field(description="every parameter that results depend on: dotted key -> plain value")
    code: Code = Field(default={}, description="path -> md5 of the code that made the run; empty: unknown")
    fingerprint: Fingerprint
    samples: Digest | None = Field(default=None, description="sha256 of the scored images' bytes; null: unknown")
    scores: dict[Key, Score] = Field(description="as in metrics/evaluate.json, nested keys joined by dots")
    curve: NumberTable | None = Field(default=None, description="the same scores by `images` seen, the end last")
    costs: Costs = Costs()
    environment: Facts = Field(default={}, description="processor, precision, versions")
    plan: Digest | None = Field(default=None, description="hash of the study's plan that asked for the run")
    revision: Revision | None = Field(default=None, description="git commit whose code a study ran")
    noise_levels: Ignored = Field(default=None, exclude=True, description="a table of version 0.2, which is ignored")
    diverged: Line = Field(default="", description="the error of a training that diverged; then there are no scores")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.diverged) == bool(self.scores):
            why = "some, and training diverged" if self.scores else "none"
            raise ValueError(f"scores: there are {why}")
        samples = self.fingerprint.comparable.get("samples")
        if self.scores and (type(samples) is not int or samples < 1):
            raise ValueError(f"fingerprint.comparable: samples is {variant.quote(samples)}, not how many were scored")
        if any(not row.get("images", 0.5).is_integer() for row in (self.curve.dicts() if self.curve else ())):
            raise ValueError("curve: images is not a whole number in each row")
        if self.params.get(SEED, self.seed) != self.seed:
            raise ValueError(f"params: its seed is {self.params[SEED]}, the record's is {self.seed}")
        return self

    @property
    def precision(self) -> object:
        """The precision of the training; None if unknown."""
        return self.environment.get("training_precision")

    @property
    def processor(self) -> object:
        """That trained and scored it; None if unknown."""
        return self.environment.get("processor")

    @property
    def torch(self) -> str | None:
        """The version of torch that trained and scored it, whatever it was built for; None if unknown."""
        version = self.environment.get("torch")
        return None if version is None else str(version).partition("+")[0]

    @property
    def seconds(self) -> float:
        """Of training, sampling and scoring, as far as they are known."""
        return sum(self.costs.seconds.values())

    @property
    def scores_by_images(self) -> dict[int, dict[str, float]]:
        """The scores by images seen; empty for a training without snapshots."""
        rows = self.curve.dicts() if self.curve else []
        return {int(row.pop("images")): row for row in rows}

    @property
    def facts(self) -> dict[str, Any]:
        """All but the times, as plain values: what the same run has again."""
        return self.model_dump(mode="json", exclude={"finished": True, "costs": {"seconds"}})

    @property
    def result(self) -> str:
        """The digest of the result: equal params, code, scores and fingerprint are one. The program and the seed are
        included because the params of a program's run lack both, and a study's plan because its runs are its own."""
        plan = [self.plan] if self.plan else []
        return files.digest(
            [self.params, self.code, self.scores, self.fingerprint.hash, self.program, self.seed, *plan]
        )

    def text(self) -> str:
        """The record as JSON with sorted keys: a line for each section, so that git shows what differs."""
        values = self.model_dump(mode="json")
        # DVC looks for plots in metrics/run.json, and an empty list there ends its search with a warning
        values["params"] = {key: {} if value == [] else value for key, value in values["params"].items()}
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {compact(values[key])}" for key in sorted(values)) + "\n}\n"


def write_record(record: Record, path: Path) -> None:
    """Write the record. Raises UserError if it would be too large to be read again."""
    if len(text := record.text()) > MOST_BYTES:
        raise UserError(f"{path}: {len(text):,} bytes; a record has at most {MOST_BYTES:,}")
    files.write_text(path, text)


def parse_record(text: bytes | str, source: str) -> Record:
    """The record in a file's content. Raises UserError, which begins with ``source``, with the key and the reason."""
    if len(text) > MOST_BYTES:
        raise UserError(f"{source}: a record has at most {MOST_BYTES:,} bytes, and this has more")
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{source}: not a run's record: {variant.explain(error, Record, '')}: {RESTORE}") from error


def read_record(path: Path) -> Record:
    """The record in a file. Raises UserError like ``parse_record``, or if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return parse_record(file.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); `dvc repro` makes metrics/run.json") from error


def table(rows: Iterable[Mapping[str, float | int | str]], digits: int = 17) -> NumberTable | None:
    """Rows of a CSV file, as its writer gets them, rounded to significant ``digits``; None without rows."""
    listed = list(rows)
    cells = {key: [row.get(key, "") for row in listed] for row in listed for key in row}
    columns = {
        key: tuple(None if cell == "" else float(f"{float(cell):.{digits}g}") for cell in column)
        for key, column in cells.items()
    }
    return NumberTable(columns=columns) if listed else None


def schema() -> dict[str, Any]:
    """The JSON schema of a record, as it is in SCHEMA."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def compact(value: Any) -> str:
    """JSON in one line, with sorted keys. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

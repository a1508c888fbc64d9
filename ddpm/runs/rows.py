"""Rows: the records of the runs that one question asks for, in one file of lines such as
metrics/studies/NAME/rows.jsonl.

What the rows of an arm have in common is a line of its own, a header, before the first of them. A row names its header
by the digest of that line, and holds the rest. Files only grow, and equal lines count once. So git merges those of two
clones by keeping the lines of both (``merge=union`` in .gitattributes). A line that does not end, because its writer
was killed, is not a row; the next writer removes it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.runs import record
from ddpm.runs.record import OF_REAL, SEED, Record

NAME = "rows.jsonl"
HEADER = "header"  # in a row: the digest of its header
OWN = (SEED, "sample.seeds", "train.learning_rate")  # params that differ within an arm, at least while it is tuned
# what a header has: these, and of these mappings the keys that are common to an arm's rows
WHOLE = ("format", "code", "fingerprint", "environment", "program", "plan", "revision")
COMMON: Mapping[str, Callable[[str], object]] = {
    "params": lambda key: key not in OWN,
    "costs": lambda key: key != "seconds",
    "scores": OF_REAL.search,
}


class Rows:
    """The rows in a file, each parsed once however often it is read. records: by name. places: file and line of each.
    refused: why other lines do not count, by the row's name or, if it has none, by its place."""

    def __init__(self, path: Path):
        self.path = path
        self.records, self.places, self.refused = dict[str, Record](), dict[str, str](), dict[str, str]()
        self._known = dict[str, Record | None]()  # by line; None is a header
        self._headers = dict[str, dict[str, Any]]()  # by digest
        self.reread()

    def reread(self) -> None:
        """Read what the file has now. Raises UserError if it cannot be read."""
        self.records, self.places, self.refused = {}, {}, {}
        for number, line in enumerate(files.read_lines(self.path), 1):
            place = f"{self.path}:{number}"
            try:
                if line not in self._known:
                    self._known[line] = self._parse(line, place)
                if (run := self._known[line]) is None:
                    continue
                before = self.records.get(run.name, run)
                if before != run and before.facts != run.facts:
                    why = f"contradicts {self.places[run.name]}, which is the same run: remove one of these lines"
                    raise UserError(f"{place}: {why}")
                if (run.finished, run.seconds) <= (before.finished, before.seconds):  # if two clones made it: the first
                    self.records[run.name], self.places[run.name] = run, place
            except UserError as error:
                self.refused[_name(line) or place] = str(error)
        for name in self.refused.keys() & self.records.keys():
            del self.records[name]

    def _parse(self, line: str, place: str) -> Record | None:
        """The record of a line; None if it is a header. Raises UserError."""
        try:
            if not isinstance(values := json.loads(line), dict):
                raise ValueError(line)
            if HEADER not in values:
                self._headers[files.digest(values)[:12]] = values
                return None
            if (header := self._headers.get(digest := values.pop(HEADER))) is None:
                raise UserError(f"{place}: its header {digest} is not in a line above: restore it from git")
            nested = {part: header.get(part, {}) | values.get(part, {}) for part in COMMON}
            return record.parse_record(record.compact(header | values | nested), place)
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{place}: not a row: restore it from git, or remove it") from error


def append(path: Path, values: Mapping[str, Any]) -> None:
    """Append the row of a record, given as its plain values, without fields that are not known. Raises UserError if it
    is too large to be read again, or cannot be written; then the file is as it was."""
    values = {key: value for key, value in values.items() if value not in (None, "", {})}
    header = {key: values[key] for key in WHOLE if key in values}
    own = {key: value for key, value in values.items() if key not in WHOLE}
    for part, is_common in COMMON.items():
        header[part] = {key: value for key, value in values.get(part, {}).items() if is_common(key)}
        own[part] = {key: value for key, value in values.get(part, {}).items() if not is_common(key)}
    lines = [record.compact(header), record.compact({HEADER: files.digest(header)[:12]} | own)]
    if (size := sum(map(len, lines))) > record.MOST_BYTES:
        raise UserError(f"{path}: {size:,} bytes; a record has at most {record.MOST_BYTES:,}")
    files.append_lines(path, lines)


def has(path: Path, name: str) -> bool:
    """Whether the file has a row of that name, be it one that counts or not."""
    quoted = json.dumps(name)  # few lines need to be parsed
    return any(quoted in line and _name(line) == name for line in files.read_lines(path))


def lock_path(path: Path, name: str) -> Path:
    """The file whose lock is held by whoever makes the row, for all machines that share the folder."""
    return path.with_suffix(".locks") / f"{name}.lock"


def _name(line: str) -> str:
    """The name of a row; empty if the line is not one."""
    try:
        return str(json.loads(line).get("name", ""))
    except (AttributeError, RecursionError, ValueError):
        return ""

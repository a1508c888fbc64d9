"""params.yaml as plain values: its only reader.

DVC's own YAML 1.2 reader reads it (``2e-3`` is a number, ``off`` is a word, a duplicate key is refused), so DVC and
this package never disagree about a value.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from ddpm.base.errors import UserError, blame

PATH = Path("params.yaml")
MAX_BYTES = 100_000
MAX_VALUES = 10_000  # in a params file; each alias counts as what it stands for


def read_params(path: Path = PATH) -> dict[str, Any]:
    """The params file as plain values. Raises UserError unless it is a YAML mapping of sane size."""
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_BYTES + 1)  # ``decode`` refuses that many
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; run this in the project's folder, or `ddpm preset digits`; another program's "
            "scores: `ddpm judge`, also with --gate"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    return decode(text, str(path))


def decode(text: str, source: str) -> dict[str, Any]:
    """A params file's text as plain values; ``source`` begins every message. Raises UserError."""
    if len(text) > MAX_BYTES:
        raise UserError(f"{source}: larger than {MAX_BYTES:,} bytes; a params file is a page of text")
    try:
        with blame(source):
            value = plain(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{source}: not valid YAML: {line}{error.problem}") from error
    except (YAMLError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # the last five: its constructors raise them for a tag on a value that it does not fit
        reason = f"{error} does not fit its tag" if isinstance(error, LookupError) else error
        raise UserError(f"{source}: not valid YAML: {reason}") from error
    if not isinstance(value, dict):
        found = "is empty" if value is None else f"is a {type(value).__name__}"
        raise UserError(f"{source}: {found}; allowed: lines KEY: VALUE")
    return value


def split_option(option: str, text: str) -> tuple[str, str]:
    """Key and value of the ``KEY=VALUE`` that an option is given. Raises UserError."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise UserError(f"{option}: {text}: allowed: KEY=VALUE, such as data.source=photos")
    return key, value


def decode_options(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Values by key, from the ``KEY=VALUE`` with values in YAML that an option is given. Raises UserError."""
    values: dict[str, Any] = {}
    for text in given:
        key, value = split_option(option, text)
        values |= decode(f"{key}: {value}", f"{option}: {text}")
    if len(values) < len(given):
        raise UserError(f"{option}: {', '.join(given)}: contains a duplicate; allowed: each key once")
    return values


def plain(text: str) -> Any:
    """The values of any YAML text. Raises UserError if it stands for too many values, and whatever ruamel.yaml
    raises."""
    return deepcopy(_construct(text))


@lru_cache(maxsize=8)  # a stage reads params.yaml three times, and each takes 0.1 s
def _construct(text: str) -> Any:
    yaml = YAML(typ="safe")
    if values(node := yaml.compose(text), {}) > MAX_VALUES:
        raise UserError(f"stands for more than {MAX_VALUES:,} values: too many, or aliases (*) of aliases")
    return yaml.constructor.construct_document(node) if node else None


class Spelled(RoundTripRepresenter):
    """Writes ``null``, which ruamel.yaml leaves empty. A class of its own, because DVC uses the other."""


Spelled.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def writer() -> YAML:
    """What writes params files, as DVC and ``decode`` read them."""
    yaml = YAML()
    yaml.Representer = Spelled
    yaml.width = 1000  # no line is broken
    return yaml


def encode(values: Mapping[str, Any]) -> str:
    """The text of a params file with these values: ``decode`` reads the same ones, of the same types."""
    out = StringIO()
    writer().dump(dict(values), out)
    return out.getvalue()


def values(node: Any, known: dict[int, int]) -> int:
    """The number of values that a node composed by ruamel.yaml or PyYAML stands for, at most MAX_VALUES + 1; ``known``:
    of nodes seen, by id.

    A node that contains itself counts as none there: a config of it is refused.
    """
    if id(node) not in known:
        known[id(node)] = 0
        children = node.value if node and isinstance(node.value, list) else ()
        parts = (part for child in children for part in (child if isinstance(child, tuple) else (child,)))
        known[id(node)] = min(1 + sum(values(part, known) for part in parts), MAX_VALUES + 1)
    return known[id(node)]

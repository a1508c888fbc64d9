"""Variants: one file each, found by its name.

``ddpm/variants/<family>/<name>.py`` defines exactly one class that derives from the family's contract. The contract is
in the room that uses it. The class's fields are the variant's hyperparameters, named and bounded only there.

params.yaml chooses a variant by ``name``. Its hyperparameters are in a block under the variant's own name, so changing
``name`` alone is always valid, and a grid over names needs nothing else::

    schedule:
      name: linear
      linear: {beta_start: 1.0e-4, beta_end: 0.02}
"""

import difflib
import importlib
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializationInfo, ValidationError, model_serializer

from ddpm.base.errors import UserError, masked

PACKAGE = Path(__file__).parents[1] / "variants"
MAX_FINDINGS = 12


class _Short(reprlib.Repr):
    """A shortened ``repr``. Passwords are masked first: a truncated address would not be recognised as one."""

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(masked(x), level)


SHORT = _Short()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100
SHORT.maxdict = SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = 10


class Variant(BaseModel):
    """Base class of every family's contract: an immutable, validated set of hyperparameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @model_serializer(mode="plain")
    def _to_spec(self, info: SerializationInfo) -> dict[str, Any]:
        fields = {field: getattr(self, field) for field in type(self).model_fields}
        if info.exclude_defaults:
            fields = {name: value for name, value in fields.items() if value != type(self).model_fields[name].default}
        return {"name": self.name, self.name: fields} if fields else {"name": self.name}


def names(family: str, package: Path = PACKAGE) -> list[str]:
    """The family's variants, sorted. They are found by listing files, without importing them."""
    folder = package / family
    if not folder.is_dir():
        return []
    with os.scandir(folder) as listed:  # a tenth of what Path.glob takes, and every config asks a dozen times
        files = [entry.name for entry in listed]
    return sorted(name.removesuffix(".py") for name in files if name.endswith(".py") and not name.startswith("_"))


def variant_class(family: str, name: str) -> type[Variant]:
    """The Variant in ``ddpm/variants/<family>/<name>.py``. Raises TypeError unless the file defines exactly one."""
    module = importlib.import_module(f"ddpm.variants.{family}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Variant) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one variant, it defines {len(found)}")
    return found[0]


def having(family: str, flag: str, value: object) -> str:
    """The names of the family's variants that have this value of the flag, for messages."""
    classes = {name: variant_class(family, name) for name in names(family)}
    return ", ".join(name for name, cls in classes.items() if getattr(cls, flag) == value)


def build(family: str, spec: Any, key: str) -> Any:
    """The chosen variant with its hyperparameters.

    spec: ``{name: N, N: {...}, M: {...}}``. The blocks of other variants are checked too, so that a typo in them is
    found now. key: where ``spec`` is in params.yaml, for messages. Raises UserError that names the key.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise UserError(f"{key}: {shown(spec)} must be a mapping with `name: ` one of {', '.join(names(family))}")
    check_name(family, spec["name"], f"{key}.name")
    built = {}
    for name, block in {spec["name"]: {}, **spec}.items():
        if name == "name":
            continue
        if name != spec["name"]:
            check_name(family, name, f"{key}.{name}", "name")
        cls = variant_class(family, name)
        try:
            built[name] = cls.model_validate({} if block is None else block)
        except ValidationError as error:
            raise UserError(explain(error, cls, f"{key}.{name}")) from error
    return built[spec["name"]]


def check_name(family: str, name: str, key: str, *others: str) -> None:
    """Raises UserError that lists the known names when ``name`` is not one of the family's variants, or says to add its
    file to git: DVC runs ``--temp`` and queued experiments in a copy of the files that git tracks.

    others: what else may stand there, and ``name`` be a misspelling of.
    """
    known = names(family)
    if name not in known:
        if (root := os.environ.get("DVC_ROOT")) and name in names(family, Path(root, "ddpm/variants")):
            file = f"ddpm/variants/{family}/{name}.py"
            raise UserError(
                f"{key}: git does not track {file}, and this run uses a copy of the files that git tracks: "
                f"`git add {file}`, and run it again"
            )
        raise UserError(
            f"{clipped(key)}: unknown {shown(name)}{closest(name, [*known, *others])}; allowed: {', '.join(known)}"
        )


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or an empty string."""
    if len(name) > SHORT.maxstring:
        return ""  # matching takes time in the square of the length
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def shown(value: object) -> str:
    """``repr`` for a message, shortened if the value is long."""
    return SHORT.repr(value)


def clipped(text: str) -> str:
    return text if len(text) <= SHORT.maxstring else f"{text[: SHORT.maxstring]}..."


def explain(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """Pydantic's findings as one line, each with the key, the value and what is allowed."""
    lines = []
    findings = error.errors(include_url=False)
    for found in findings[:MAX_FINDINGS]:
        key = ".".join([prefix, *(clipped(str(part)) for part in found["loc"])]).strip(".")
        if found["type"] == "extra_forbidden":
            known = list(_fields_at(model, found["loc"][:-1]))
            unknown = str(found["loc"][-1])
            allowed = f"allowed: {', '.join(known)}" if known else "it takes no parameters"
            lines.append(f"{key}: unknown key{closest(unknown, known)}; {allowed}")
        elif found["type"] == "missing":
            lines.append(f"{key}: missing; every section and key without a default must be present")
        elif found["type"] == "value_error" and isinstance(found["input"], dict):
            # a rule over several keys, which its message names
            lines.append(f"{key}: {found['ctx']['error']}".removeprefix(": "))
        else:
            refused = f"{shown(found['input'])} is not allowed: {found['msg'].removeprefix('Value error, ')}"
            lines.append(f"{key}: {refused}".removeprefix(": "))
    if len(findings) > MAX_FINDINGS:
        lines.append(f"and {len(findings) - MAX_FINDINGS} more")
    return "; ".join(lines)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return model.model_fields

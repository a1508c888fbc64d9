"""Variants: one file each, found by its name.

``ddpm/variants/<family>/<name>.py`` defines exactly one class that derives from the family's contract. The contract is
in the room that uses it. The class's fields are the variant's hyperparameters, named and bounded only there.

params.yaml chooses a variant by ``name``. Its hyperparameters are in a block under the variant's own name, so changing
``name`` alone is always valid, and a grid over names needs nothing else::

    schedule:
      name: linear
      linear: {beta_start: 1.0e-4, beta_end: 0.02}
"""

import ast
import difflib
import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    SerializationInfo,
    ValidationError,
    model_serializer,
)
from pydantic_core import CoreSchema, core_schema

from ddpm.base.errors import UserError, mask_secrets

PACKAGE = Path(__file__).parents[1] / "variants"
MAX_FINDINGS = 12
MAX_SHOWN = 100  # characters of a value in a message


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


class Refusal(ValueError):
    """What a family refuses of its block in params.yaml. lines: each begins with a key below the block's own."""

    def __init__(self, *lines: str):
        super().__init__("; ".join(lines))
        self.lines = lines


class Family(NamedTuple):
    """Marks a field of a settings section that holds a variant, and builds the variant from plain values::

    schedule: Annotated[InstanceOf[Schedule], Family("schedules")]
    """

    folder: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.choose, handler(source))

    def choose(self, value: Any) -> Any:
        """The variant. Raises Refusal."""
        return value if isinstance(value, Variant) else choose(self.folder, value)


class Members(NamedTuple):
    """Marks a field that lists names of the family's variants. besides: other words that are allowed there."""

    folder: str
    besides: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check_names, handler(source))

    def check_names(self, listed: tuple[str, ...]) -> tuple[str, ...]:
        """The names. Raises Refusal for one that is not in the folder."""
        for name in listed:
            if name not in self.besides and (reason := unknown(self.folder, name)):
                raise Refusal(f": {reason}")
        return listed


def names(family: str) -> list[str]:
    """The family's variants, sorted. They are found by listing files, without importing them."""
    with os.scandir(PACKAGE / family) as listed:  # a tenth of what Path.glob takes, and every config asks a dozen times
        files = [entry.name for entry in listed]
    return sorted(name.removesuffix(".py") for name in files if name.endswith(".py") and not name.startswith("_"))


def members(family: str) -> dict[str, str]:
    """Name -> the first paragraph of the docstring of each file in the family, as one line; imports nothing."""
    folder = PACKAGE / family
    docs = {
        name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")))
        for name in names(family)
    }
    return {name: " ".join((doc or "").split("\n\n")[0].split()) for name, doc in docs.items()}


def variant_class(family: str, name: str) -> type[Variant]:
    """The Variant in ``ddpm/variants/<family>/<name>.py``. Raises TypeError unless the file defines exactly one."""
    module = importlib.import_module(f"ddpm.variants.{family}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Variant) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one variant, but defines {len(classes)}")
    return classes[0]


def having(family: str, flag: str, *values: object) -> str:
    """The names of the family's variants that have one of these values of the flag, for messages."""
    classes = {name: variant_class(family, name) for name in names(family)}
    return ", ".join(name for name, cls in classes.items() if getattr(cls, flag) in values)


def build(family: str, spec: Any, key: str) -> Any:
    """The variant that ``spec`` chooses, with its hyperparameters. Raises UserError that names the ``key`` of spec."""
    try:
        return choose(family, spec)
    except Refusal as refusal:
        raise UserError("; ".join(f"{key}.{line}".replace(".:", ":") for line in refusal.lines)) from refusal


def choose(family: str, spec: Any, besides: tuple[str, ...] = ()) -> Any:
    """Like ``build``. Raises Refusal.

    spec: ``{name: N, N: {...}, M: {...}}``. The blocks of other variants are checked too, so that a typo in them is
    found now. besides: other keys that stand next to these, of which an unknown one may be a misspelling.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise Refusal(f": {quote(spec)} must be a mapping with `name: ` one of {', '.join(names(family))}")
    variants = {}
    for name, block in {spec["name"]: {}, **spec}.items():
        if name == "name":
            continue
        others = () if name == spec["name"] else ("name", *besides)
        if reason := unknown(family, name, others):
            raise Refusal(f"{'name' if name == spec['name'] else shorten(name)}: {reason}")
        cls = variant_class(family, name)
        try:
            variants[name] = cls.model_validate({} if block is None else block)
        except ValidationError as error:
            raise Refusal(*findings(error, cls, name)) from error
    return variants[spec["name"]]


def unknown(family: str, name: str, others: tuple[str, ...] = ()) -> str:
    """Why ``name`` is not one of the family's variants; empty if it is one. others: what it may be a misspelling of."""
    known = names(family)
    if name in known:
        return ""
    return f"unknown {quote(name)}{closest(name, [*known, *others])}; allowed: {', '.join(known)}"


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or an empty string. Initials count: lr is close to learning_rate."""
    if len(name) > MAX_SHOWN:
        return ""  # matching takes time in the square of the length
    known = list(known)
    initials = [one for one in known if "".join(word[:1] for word in one.split("_")) == name]
    match = difflib.get_close_matches(name, known, n=1) or initials
    return f" (did you mean {match[0]!r}?)" if match else ""


def quote(value: object) -> str:
    """``repr`` for a message, clipped. Passwords are masked first: half an address would not be recognised as one."""
    return shorten(mask_secrets(repr(value)))


def shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def explain(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """Pydantic's findings as one line, each with the key, the value and what is allowed."""
    return "; ".join(findings(error, model, prefix))


def findings(error: ValidationError, model: type[BaseModel], prefix: str) -> list[str]:
    """A line for each of pydantic's findings, at most MAX_FINDINGS: the key, the value and what is allowed."""
    lines = []
    for detail in error.errors(include_url=False)[:MAX_FINDINGS]:
        key = ".".join([prefix, *(shorten(str(part)) for part in detail["loc"])]).strip(".")
        refusal = detail.get("ctx", {}).get("error")
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # some parts were refused, each in a line of its own
        if isinstance(refusal, Refusal):
            lines += [f"{key}.{line}".replace(".:", ":") for line in refusal.lines]
        elif detail["type"] == "extra_forbidden":
            known = list(_fields_at(model, detail["loc"][:-1]))
            unknown_key = str(detail["loc"][-1])
            allowed = f"allowed: {', '.join(known)}" if known else "it takes no parameters"
            lines.append(f"{key}: unknown key{closest(unknown_key, known)}; {allowed}")
        elif detail["type"] == "missing":
            lines.append(f"{key}: missing; every section and key without a default must be present")
        elif detail["type"] == "value_error" and isinstance(detail["input"], dict):
            # a rule over several keys, which its message names
            lines.append(f"{key}: {refusal}".removeprefix(": "))
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            mark = ";" if reason.startswith("allowed: ") else ":"
            lines.append(f"{key}: {quote(detail['input'])} is not allowed{mark} {reason}".removeprefix(": "))
    return lines


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return model.model_fields

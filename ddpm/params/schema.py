"""The JSON schema of params.yaml, made from the config and the variants: editors complete keys and mark mistakes.

It describes what each key may hold; ``ddpm check`` also checks keys against each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from ddpm.base import variant
from ddpm.base.files import write_json
from ddpm.base.settings import FAMILIES
from ddpm.params import catalogue, config
from ddpm.scoring.settings import AUTO, CHOICE

PATH = Path(__file__).with_name("params.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


class Untitled(GenerateJsonSchema):
    """A key is its own title."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def params_schema() -> Schema:
    """The schema as plain values. It imports every variant, and so torch."""
    whole = config.Config.model_json_schema(schema_generator=Untitled)
    sections: dict[str, Schema] = whole["$defs"]
    for key, family in FAMILIES.items():
        section, _, field = key.partition(".")
        fields = sections[section.capitalize()]["properties"]
        sections.pop(fields[field]["$ref"].rpartition("/")[2])  # only the contract; here every variant is known
        fields[field] = choice(family)
    classes = sections["Model"]["properties"]["classes"]
    sections["Model"] |= choice("networks")
    sections["Model"]["properties"]["classes"] = classes
    for family in ("extractors", "metrics"):
        sections["Evaluate"]["properties"][family]["items"] = name(family)
    about = f"{CHOICE[0]} or, for images without classes, {CHOICE[1]}"
    sections["Evaluate"]["properties"]["extractors"]["items"]["oneOf"].insert(0, {"const": AUTO, "description": about})
    text = json.dumps({"$schema": DIALECT, **whole, "title": "params.yaml"})
    plain: Schema = json.loads(text.replace("``", "`"))  # editors show Markdown
    return plain


def choice(family: str) -> Schema:
    """A mapping with the ``name`` of one of the family's variants, and a block for any of them."""
    blocks: Schema = {}
    for member in variant.names(family):
        fields = variant.variant_class(family, member).model_json_schema(schema_generator=Untitled)
        blocks[member] = {"anyOf": [fields, {"type": "null"}]}
    return {
        "type": "object",
        "properties": {"name": name(family), **blocks},
        "required": ["name"],
        "additionalProperties": False,
    }


def name(family: str) -> Schema:
    """One of the family's variants, each with its file's description."""
    return {"oneOf": [{"const": member, "description": text} for member, text in catalogue.members(family).items()]}


def write(path: Path = PATH) -> Path:
    """Write the schema, by default next to this file, where the first line of params.yaml looks for it."""
    write_json(path, params_schema())
    return path

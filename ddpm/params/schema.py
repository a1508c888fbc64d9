"""The JSON schema of params.yaml, made from the config and the variants: editors complete keys and mark mistakes.

It describes what each key may hold; ``ddpm check`` also checks keys against each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddpm.base.files import write_json
from ddpm.base.variant import Untitled
from ddpm.model.model_params import Model
from ddpm.params.config import Config
from ddpm.scoring.evaluate_params import ANY, CLASSES, PHOTOS

PATH = Path(__file__).with_name("params.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def params_schema() -> Schema:
    """The schema as plain values."""
    whole = Config.model_json_schema(schema_generator=Untitled)
    model = whole["$defs"]["Model"]
    network = model["properties"].pop(Model.inlined)
    model["properties"] |= network["properties"]
    model["required"] = network["required"]
    extractors = whole["$defs"]["Evaluate"]["properties"]["extractors"]["items"]["oneOf"]
    extractors[0]["description"] = f"{CLASSES} or, without classes, {PHOTOS} for RGB where installed, else {ANY}"
    text = json.dumps({"$schema": DIALECT, **whole, "title": "params.yaml"})
    plain: Schema = json.loads(text.replace("``", "`"))  # editors show Markdown
    return plain


def write(path: Path = PATH) -> Path:
    """Write the schema, by default next to this file, where the first line of params.yaml looks for it."""
    write_json(path, params_schema())
    return path

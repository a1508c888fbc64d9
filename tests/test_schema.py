"""The schema of params.yaml agrees with the config: it marks what is not allowed, and never what is."""

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from ddpm import cli
from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.model import build
from ddpm.params import catalogue, config, file, presets, schema
from ddpm.scoring.evaluate_params import AUTO

DIGITS = file.decode(presets.text("digits"), "digits")
COMMITTED = json.loads(schema.PATH.read_text())


def test_the_committed_schema_is_that_of_the_code():
    assert schema.params_schema() == COMMITTED, "run `ddpm schema`"


def test_the_command_writes_it(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["schema", "--out", str(tmp_path / "other.json")])
    assert json.loads((tmp_path / "other.json").read_text()) == COMMITTED
    assert "other.json" in capsys.readouterr().out


@pytest.mark.parametrize("preset", presets.names())
def test_the_first_line_of_every_preset_names_the_schema_as_seen_from_params_yaml(preset):
    named = presets.text(preset).splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (schema.PATH.parents[2] / named).samefile(schema.PATH)


@pytest.mark.parametrize("family", catalogue.FAMILIES.values())
def test_every_variant_can_be_named_and_is_described(family):
    named = [[each for each in options if each["const"] != AUTO] for options in _one_ofs(COMMITTED)]
    options = next(options for options in named if [each["const"] for each in options] == variant.names(family))
    assert all(len(each["description"]) > 20 for each in options)


def _one_ofs(node: Any) -> Iterator[list[Any]]:
    """Every list of constants in the schema."""
    if isinstance(node, dict) and "const" in (node.get("oneOf") or [{}])[0]:
        yield node["oneOf"]
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _one_ofs(item)


# --- with a validator


@cache
def validator() -> Any:
    return pytest.importorskip("jsonschema").Draft202012Validator(COMMITTED)


def accepts(value: Any) -> bool:
    return bool(validator().is_valid(value))


@pytest.mark.parametrize("preset", presets.names())
def test_every_preset_is_valid(preset):
    assert accepts(file.decode(presets.text(preset), preset))


def changed(key: str, value: Any) -> dict[str, Any]:
    """The digits preset with one key changed."""
    params = copy.deepcopy(DIGITS)
    *sections, name = key.split(".")
    block = params
    for section in sections:
        block = block.setdefault(section, {})
    block[name] = value
    return params


WORDS = ["auto", "cpu", "linear", "ddim", "x"]
VALUES: list[Any] = [None, True, -1, 0, 1, 2, 3, 16, 0.5, 1.5, *WORDS, [], [1], [8, 16], {}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_the_config_accepts_is_never_marked(value):
    for key in flatten(DIGITS):
        params = changed(key, value)
        try:
            checked = config.check(params, "test")
            if key.split(".")[0] in {"data", "diffusion", "model"}:  # of the others no network depends
                build.outline(checked)
        except UserError:
            continue
        assert accepts(params), key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("device", "gpu"),
        ("launch.processes", 0),
        ("data.channels", 65),
        ("data.image_size", 2000),
        ("data.image_size", [8, 8, 8]),
        ("data.resize", "stretch"),
        ("data.dataset.name", "mnits"),
        ("data.extra", 1),
        ("diffusion.schedule", "cosine"),
        ("diffusion.schedule.linear", {"beta_start": 0}),
        ("model.name", "unett"),
        ("model.dit", {"heads": "many"}),
        ("train.batch_size", "auto"),
        ("train.optimizer.adamw.betas", [0.9]),
        ("sample.seeds", []),
        ("sample.spacing", "even"),
        ("evaluate.extractors", ["clasifier"]),
        ("compare.floors", {"fd": -1}),
        ("compare.floors", {"fdd": 1}),
    ],
)
def test_what_no_key_may_hold_is_marked_and_refused(key, value):
    params = changed(key, value)
    assert not accepts(params)
    with pytest.raises(UserError):
        build.outline(config.check(params, "test"))

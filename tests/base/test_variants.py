"""Variants: found by their file's name, checked, listed, and written back as they were chosen."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.sections import _freeze
from ddpm.base.variant import build
from ddpm.params import config

FAMILIES = list(config.FAMILIES.values())
ALL = [(family, name) for family in FAMILIES for name in variant.names(family)]


DECLARATIONS = f"""
import sys
from pathlib import Path
from ddpm.referee import metrics
assert "scipy" not in sys.modules, "metrics"
from ddpm.base.variant import variant_class
from ddpm.cli import app
from ddpm.params import config
from ddpm.scoring import limits
from ddpm.study import loading
own = config.load()
app.run(["variants"])
[variant_class(*each)() for each in {ALL}]
limits.check_channels(own.evaluate, own.data.channels)
limits.check_counts(own.evaluate, {{"sample.count": own.sample.count}})
[*map(loading.load, sorted(Path("studies").glob("*.yaml"))[:5])]
sys.exit(", ".join({{"torch", "torchvision", "torch_fidelity", "safetensors.torch"}} & sys.modules.keys()) or None)
"""


def test_what_a_variant_declares_is_read_without_torch():
    done = subprocess.run([sys.executable, "-c", DECLARATIONS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("family", "name"), ALL)
def test_a_variant_is_written_with_all_its_hyperparameters_and_read_back_equal(family, name):
    variant = build(family, {"name": name}, family)
    spec = variant.model_dump()
    assert spec["name"] == name
    assert set(spec.get(name, {})) == set(type(variant).model_fields)
    again = build(family, _freeze(json.loads(json.dumps(spec))), family)
    assert (again, hash(again)) == (variant, hash(variant))  # immutable all the way down
    for field in type(variant).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(variant, field, getattr(variant, field))
    with pytest.raises(UserError, match=rf"section\.{name}\.hue: unknown key.*(allowed:|takes no parameters)"):
        build(family, {"name": name, name: {"hue": 1}}, "section")


def test_blocks_of_others_may_wait_beside_the_chosen_one():
    spec = {"name": "linear", "linear": {"beta_end": 0.03}, "cosine": {"s": 0.01}}
    assert build("schedules", spec, "s").beta_end == 0.03
    assert build("schedules", {**spec, "name": "cosine"}, "s").s == 0.01


def test_every_folder_of_variants_is_a_family_and_every_variant_says_in_a_line_or_two_what_it_is():
    assert {file.parent.name for file in variant.PACKAGE.glob("*/__init__.py")} == set(FAMILIES)
    for family in FAMILIES:
        described = variant.members(family)
        assert list(described) == variant.names(family)
        assert all(20 < len(line) < 250 and line.endswith(".") for line in described.values()), described

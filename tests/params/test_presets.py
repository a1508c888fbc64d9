"""Presets: what each changes in the base, and the params file that results."""

import json
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.params import config, file, presets

OTHERS = [name for name in presets.names() if name != presets.BASE]


@cache
def values(name: str, on: str | None = None) -> dict:
    return flatten(file.decode(presets.text(name, on), name))


def written(name: str) -> dict:
    return file.decode((presets.FOLDER / f"{name}.yaml").read_text(), name)


def own(name: str) -> dict:
    return flatten({key: value for key, value in written(name).items() if key != "base"})


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_is_the_base_with_its_own_values(name):
    base, whole, changes = values(written(name).get("base", presets.BASE)), values(name), own(name)
    assert changes.items() <= whole.items()
    assert {key for key in whole if key not in changes and whole[key] != base[key]} == set()
    assert not [key for key in changes if changes[key] == base.get(key)], "says again what the base says"


def test_a_block_of_another_variant_replaces_the_whole_block():
    params = "loss: {name: simple, simple: {space: v}}\nseed: 0\n"
    changed = presets.edit(params, {"loss": {"name": "vlb"}}, "# new\n")
    assert file.decode(changed, "params") == {"loss": {"name": "vlb"}, "seed": 0}
    same = presets.edit(params, {"loss": {"name": "simple", "simple": {"terms": 1}}}, "")
    assert file.decode(same, "params")["loss"]["simple"] == {"space": "v", "terms": 1}


@pytest.mark.parametrize("names", [("digit",), ("edm", "digit")])  # the second: on which data
def test_an_unknown_preset_is_refused(names):
    with pytest.raises(UserError, match=r"preset: unknown 'digit' \(did you mean 'digits'\?\); allowed: article"):
        presets.text(*names)


@pytest.mark.parametrize(("name", "on"), [("flow", "digits"), ("flow", "cifar10"), ("edm", "fashion_mnist")])
def test_a_recipe_goes_on_any_data(name, on):
    found, under = values(name, on), values(on)
    assert own(name).items() <= found.items()
    kept = {key for key in under if key.startswith(("data.", "model.", "train.")) and "timestep" not in key}
    assert {key: found[key] for key in kept} == {key: under[key] for key in kept}
    config.parse(file.decode(presets.text(name, on), name))
    assert f"# Put on: {on}." in presets.text(name, on).splitlines()


# what YAML's reader refuses as a character is nobody's param
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff"), max_size=6
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
PARAMS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@settings(max_examples=40)
@given(st.dictionaries(TEXTS, PARAMS, max_size=3))
@example({"data": {"source": "1e3"}, "seed": 1e-5, "x": "0o17", "y": "null"})
def test_params_that_are_written_are_read_as_the_same(values):
    def typed(value):
        return json.dumps(value, sort_keys=True)  # 1, 1.0 and True are not the same

    assert typed(file.decode(file.encode(values), "params")) == typed(values)

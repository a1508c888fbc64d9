"""params.yaml: read as DVC reads it; every mistake gives one line. Presets: what each changes in the base."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.base.sections import ImageShape, parse
from ddpm.model import build
from ddpm.params import config, file, presets
from ddpm.training.train_params import TrainingConfig
from tests.small import small

ROOT = Path(__file__).parents[2]


def test_params_yaml_is_the_digits_preset():
    assert (ROOT / "params.yaml").read_text() == presets.text("digits")


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_loads_and_its_network_can_be_built(name):
    loaded = config.parse(presets.read(name))
    assert presets.read(name) == file.decode(presets.text(name), name)
    assert sum(parameter.numel() for parameter in build.outline(loaded).parameters()) > 0
    again = config.parse(json.loads(json.dumps(loaded.to_dict())), "again")
    assert again == loaded
    assert hash(again.train) == hash(loaded.train)  # immutable all the way down
    assert parse(loaded.training().to_dict(), "metadata", TrainingConfig) == loaded.training()


def test_auto_is_the_classifier_unless_the_images_may_have_no_classes():
    auto = {"extractors": ["auto", "inception"]}
    assert small(evaluate=auto) == small(evaluate={"extractors": ["classifier", "inception"]})
    for source in (None, "mine"):
        images = {"dataset": {"name": "image_folder"}, "source": "mine"} if source else {}
        whole = small(evaluate=auto, data=images)
        given = {"data": whole.to_dict()["data"], "evaluate": whole.to_dict()["evaluate"] | auto}
        assert parse(given, "what scoring reads", config.Scoring).evaluate == whole.evaluate
    mine = small(evaluate=auto, data={"dataset": {"name": "image_folder"}, "source": "mine"}).evaluate
    assert mine.extractors == ("auto", "inception")
    first = [mine.resolve(classes, 1).extractors[0] for classes in (0, 1, 2, 9)]
    assert first == ["random_conv"] * 2 + ["classifier"] * 2
    both = mine.model_copy(update={"extractors": ("classifier", "auto")})
    assert both.resolve(5, 1).extractors == ("classifier",)


def test_what_shapes_a_model_is_all_of_the_config_that_does():
    training = small().training()
    assert training == small(sample={"count": 99}, evaluate={"extractors": ["inception"]}).training()
    assert training != small(train={"batch_size": 4}).training()
    assert training != small(data={"image_size": 16}).training()


@pytest.mark.parametrize(("size", "shown"), [(8, 8), ([8, 8], 8), ([1, 1024], [1, 1024]), ([1024, 1], [1024, 1])])
def test_any_image_size_is_a_shape_and_comes_back_from_plain_values(size, shown):
    data = small(data={"dataset": {"name": "arrays"}, "image_size": size, "channels": 64}).training().data
    assert data.shape == (64, *(shown if isinstance(shown, list) else (shown, shown)))
    plain = json.loads(data.model_dump_json())
    assert plain["image_size"] == data.shape.image_size == shown
    assert parse(plain, "metadata", ImageShape) == data


WORDS = "yes no on off true True TRUE false null Null ~ y n 2e-3 1e3 .5e3 0o17 017 0x1F 1_000 1:30 .inf -.INF .nan 1."
numberlike = st.from_regex(r"[-+]?[0-9_.:xobeE+-]{1,8}", fullmatch=True)
plain = st.text(st.characters(codec="ascii"), max_size=6)


@example("off")
@example("2e-3")
@example("017")
@example("1:30")
@example("2001-01-01")
@given(numberlike | st.sampled_from(WORDS.split()) | plain)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_scalar_is_read_as_dvc_reads_it(tmp_path, scalar):
    path = tmp_path / "params.yaml"
    path.write_text(f"key: {scalar}\n", encoding="utf-8")
    theirs = read(lambda: parse_yaml(path.read_text(encoding="utf-8"), str(path)), YAMLFileCorruptedError, ValueError)
    assert read(lambda: file.read_params(path), UserError) == theirs


def read(reader: Callable[[], object], *refusals: type[Exception]) -> str:
    """1, 1.0 and True are equal, so it is their text that is compared."""
    try:
        return repr(reader())
    except refusals:
        return "corrupt"


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
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@settings(max_examples=40)
@given(st.dictionaries(TEXTS, VALUES, max_size=3))
@example({"data": {"source": "1e3"}, "seed": 1e-5, "x": "0o17", "y": "null"})
def test_params_that_are_written_are_read_as_the_same(values):
    read = file.decode(file.encode(values), "params")
    assert json.dumps(read, sort_keys=True) == json.dumps(values, sort_keys=True)  # 1, 1.0 and True are not the same

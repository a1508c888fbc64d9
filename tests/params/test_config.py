"""params.yaml: read as DVC reads it; every mistake gives one line."""

import json
from pathlib import Path

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.base.sections import ImageShape, parse
from ddpm.model import build
from ddpm.params import config, file, presets
from ddpm.training.train_params import TrainingConfig
from tests.small import small

ROOT = Path(__file__).parents[2]
CORRUPT = object()


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


def _adamw(**fields) -> dict:
    return {"name": "adamw", "adamw": fields}


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"lr": 0.1}, "train.lr: unknown key (did you mean 'learning_rate'?); allowed: steps, epochs"),
        ("train", {"batch_size": "64"}, "train.batch_size: '64' "),
        ("train", {"batch_size": 0}, "train.batch_size: 0 "),
        ("train", {"precision": "half"}, "train.precision: 'half' is not allowed: Input should be 'auto'"),
        ("train", {"optimizer": _adamw(betas=[0.9])}, "train.optimizer.adamw.betas.1: missing"),
        ("train", {"epochs": 3}, "train: set exactly one of steps and epochs"),
        ("data", {"dataset": {"name": "mnits"}}, "data.dataset.name: unknown 'mnits' (did you mean 'mnist'?)"),
        ("data", {"image_size": [8, True]}, "data.image_size: (8, True) "),
        ("diffusion", {"T": 4}, "sample.steps: 5 must be at most diffusion.T = 4"),
        ("model", {"unot": {}}, "model.unot: unknown 'unot' (did you mean 'unet'?)"),
        ("evaluate", {"metrics": ["fid", "fid"]}, "evaluate: metrics: [fid, fid] "),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(section, values, message):
    with pytest.raises(UserError) as raised:
        small(**{section: values})
    assert str(raised.value).startswith(f"small: {message}")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(("content", "message"), [
    (None, "no such file"), (b" ", "NoneType"), (b"- a\n- b\n", "list"), (b"hello", "str"),
    (b"seed: 0\nseed: 1\n", 'line 2: found duplicate key "seed"'),
    (b"data: {a: 1, a: 2}", 'not valid YAML: line 1: found duplicate key "a"'), (b"a: !mine 3", "'!mine'"),
    ("seed: 0".encode("utf-16"), "UTF-8"), (b"seed: 0\n---\nseed: 1\n", "line 2: "),
    (b"seed:\n\t- 1", "line 2: "), (b"seed: !!int x", "not valid YAML"),
    (b"seed: &a [*a]", "a section contains itself"), (b"1: 2", "1 is not allowed as a key"),
    (b"diffusion: {schedule: {name: cosine, 1: {}}}", "1 is not allowed as a key"),
    (b"{a: 1}: 2", "line 1: found unhashable key"),
])  # fmt: skip
def test_a_file_that_is_no_params_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        config.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


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
    assert repr(ours(path)) == repr(dvcs(path))


def ours(path: Path) -> object:
    try:
        return file.read_params(path)
    except UserError:
        return CORRUPT


def dvcs(path: Path) -> object:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (YAMLFileCorruptedError, ValueError):
        return CORRUPT

"""Studies at equal operations: FLOPs against counts by hand, and the steps that a plan gives an arm."""

from pathlib import Path

import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.model import flops
from ddpm.params import config, file
from ddpm.study import budget, loading
from ddpm.study.experiments import Study
from tests.small import PARAMS, small

STUDY = """\
question: Which network?
arms:
  thin: {model.unet.base_channels: 8}
  wide: {model.unet.base_channels: 16}
looks: [2]
budget: flops
"""
PLAN = Path("studies/networks.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    PLAN.parent.mkdir()
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"compare": {"confidence": 0.5}}))


def load(text: str = STUDY) -> Study:
    PLAN.write_text(text)
    return loading.load(PLAN)


def attention(tokens: int, width: int) -> int:
    """Multiplications of queries, keys and values, of their products, and of the output's layer."""
    return tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width


def residual(inputs: int, outputs: int, pixels: int, embedding: int = 32) -> int:
    """Two 3x3 convolutions, the layer for time, and a skip connection where the width changes."""
    skip = pixels * inputs * outputs if inputs != outputs else 0
    return 9 * pixels * outputs * (inputs + outputs) + embedding * outputs + skip


def test_the_flops_of_a_unet_are_those_counted_by_hand():
    """8x8 pixels and 8 channels, then 4x4 and 16 with attention; forward, and twice as much back, except that nothing
    needs the gradient of the image and of the time."""
    stem, first_time = 64 * 9 * 1 * 8, 8 * 32
    down = residual(8, 8, 64) + 16 * 9 * 8 * 8 + residual(8, 16, 16) + attention(16, 16)
    middle = residual(16, 16, 16) + attention(16, 16) + residual(16, 16, 16)
    up = residual(32, 16, 16) + residual(24, 16, 16) + 2 * attention(16, 16) + 64 * 9 * 16 * 16
    last = residual(24, 8, 64) + residual(16, 8, 64) + 64 * 9 * 8 * 1
    forward = first_time + 32 * 32 + stem + down + middle + up + last
    assert flops.per_image(small()) == 2 * (3 * forward - stem - first_time)


def test_the_flops_of_a_dit_are_those_counted_by_hand():
    """Two blocks of 32 channels on 16 patches."""
    stem, first_time = 16 * 4 * 32, 256 * 32
    block = attention(16, 32) + 2 * 16 * 32 * 128 + 32 * 6 * 32
    forward = stem + first_time + 32 * 32 + 2 * block + 32 * 2 * 32 + 16 * 32 * 4
    tiny = config.check(PARAMS | {"model": {"name": "dit", "dit": {"depth": 2, "width": 32, "heads": 2}}}, "test")
    assert flops.per_image(tiny) == 2 * (3 * forward - stem - first_time)


def test_each_arm_gets_the_steps_that_cost_what_the_baselines_cost(monkeypatch):
    counts = {8: 50, 16: 125}
    monkeypatch.setattr(flops, "per_image", lambda config: counts[config.to_dict()["model"]["unet"]["base_channels"]])
    found = load()
    assert {name: each.train.steps for name, each in found.configs.items()} == {"thin": 12, "wide": 5}  # 12 * 0.4
    run = found.experiments(1)[1]
    assert config.check(file.decode(run.text, "test")).train.steps == 5
    [line] = budget.notes(found)
    assert line == (
        "equal FLOPs of training, not equal images: thin 12 steps of 400 (50 an image), wide 5 steps of 1000 (125 an "
        "image)"
    )
    batches = load(STUDY.replace("channels: 16", "channels: 16, train.batch_size: 16"))
    assert batches.configs["wide"].train.steps == 2  # a step is of 16 images instead of 8
    counts[16] = 10**9
    assert load().configs["wide"].train.steps == 1


def test_equal_images_is_what_a_plan_means_without_a_budget():
    plain = STUDY[: STUDY.index("budget")]
    assert load(plain).hash == load(plain + "budget: images\n").hash != load().hash
    assert {each.train.steps for each in load(plain).configs.values()} == {12}
    assert budget.notes(load(plain)) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("flops", "seconds", "budget: 'seconds' is not allowed"),
        ("channels: 16", "channels: 16, train.steps: 3", "arms.wide: train.steps: budget: flops decides it"),
        ("channels: 8", "channels: 8, train.steps: null, train.epochs: 3", "budget: flops needs train.steps"),
        ("looks", "tune: {train.batch_size: [8, 16], seeds: 4}\nlooks", "tune: train.batch_size: changes what"),
        ("looks", "tune: {model.unet.blocks: [1, 2], seeds: 4}\nlooks", "tune: model.unet.blocks: changes what"),
    ],
)  # fmt: skip
def test_what_is_refused(old, new, line):
    with pytest.raises(UserError) as refused:
        load(STUDY.replace(old, new))
    assert str(refused.value).startswith(f"{PLAN}: ")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)

"""Studies at equal operations or seconds: FLOPs against counts by hand, and the steps that a plan gives a variant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.forecast import estimate
from ddpm.forecast.estimate import Measured
from ddpm.model import flops
from ddpm.params import config, file
from ddpm.params.config import Config
from ddpm.study import budget, plan
from ddpm.study.plan import Study
from tests import study_project
from tests.scored import params, working
from tests.small import small
from tests.study_project import study

STUDY = """\
question: Which network?
variants:
  thin: {model.unet.base_channels: 8}
  wide: {model.unet.base_channels: 16}
looks: [2]
budget: flops
costs: {thin: 400, wide: 1000}
"""
COSTS = "costs: {thin: 400, wide: 1000}\n"
PLAN = Path("studies/networks.yaml")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PLAN.parent.mkdir()
    Path("params.yaml").write_text(yaml.safe_dump(params(compare={"confidence": 0.5})))


def load(text: str = STUDY) -> Study:
    PLAN.write_text(text)
    return plan.load(PLAN)


def attention(tokens: int, width: int) -> int:
    """Multiplications of queries, keys and values, of their products, and of the output's layer."""
    return tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width


def residual(inputs: int, outputs: int, pixels: int, embedding: int = 32) -> int:
    """Two 3x3 convolutions, the layer for time, and a skip connection where the width changes."""
    skip = pixels * inputs * outputs if inputs != outputs else 0
    return 9 * pixels * outputs * (inputs + outputs) + embedding * outputs + skip


def test_the_flops_of_a_unet_are_those_counted_by_hand() -> None:
    """8x8 pixels and 8 channels, then 4x4 and 16 with attention; forward, and twice as much back, except that nothing
    needs the gradient of the image and of the time."""
    stem, first_time = 64 * 9 * 1 * 8, 8 * 32
    down = residual(8, 8, 64) + 16 * 9 * 8 * 8 + residual(8, 16, 16) + attention(16, 16)
    middle = residual(16, 16, 16) + attention(16, 16) + residual(16, 16, 16)
    up = residual(32, 16, 16) + residual(24, 16, 16) + 2 * attention(16, 16) + 64 * 9 * 16 * 16
    last = residual(24, 8, 64) + residual(16, 8, 64) + 64 * 9 * 8 * 1
    forward = first_time + 32 * 32 + stem + down + middle + up + last
    assert flops.per_image(small()) == 2 * (3 * forward - stem - first_time)


def test_the_flops_of_a_dit_are_those_counted_by_hand() -> None:
    """Two blocks of 32 channels on 16 patches."""
    stem, first_time = 16 * 4 * 32, 256 * 32
    block = attention(16, 32) + 2 * 16 * 32 * 128 + 32 * 6 * 32
    forward = stem + first_time + 32 * 32 + 2 * block + 32 * 2 * 32 + 16 * 32 * 4
    tiny = working(model={"name": "dit", "dit": {"depth": 2, "width": 32, "heads": 2}})
    assert flops.per_image(tiny) == 2 * (3 * forward - stem - first_time)


def test_each_variant_gets_the_steps_that_cost_what_the_baselines_cost() -> None:
    found = load()
    assert {name: each.train.steps for name, each in found.configs.items()} == {"thin": 12, "wide": 5}  # 12 * 0.4
    run = found.experiments(1)[1]
    assert config.check(file.decode(run.text, "test")).train.steps == 5
    [line] = budget.notes(found)
    assert line == (
        "equal FLOPs of training, not equal images: thin 12 steps of 400 (50 an image), wide 5 steps of 1000 (125 an "
        "image)"
    )
    assert load(STUDY.replace("1000", "1e9")).configs["wide"].train.steps == 1


def test_equal_images_is_what_a_plan_means_without_a_budget() -> None:
    plain = STUDY[: STUDY.index("budget")]
    assert load(plain).hash == load(plain + "budget: images\n").hash
    assert {each.train.steps for each in load(plain).configs.values()} == {12}
    assert len({load(text).hash for text in (plain, STUDY, STUDY.replace("400", "500"))}) == 3


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (COSTS, "", "costs: missing: budget: flops needs what a training step of each variant costs: `ddpm"),
        ("budget: flops\n", "", "costs: only with budget: flops or seconds; budget is images"),
        ("flops", "watts", "budget: 'watts' is not allowed"),
        ("thin: 400, ", "", "costs: of wide; allowed: exactly the variants, thin, wide"),
        ("400", "0", "costs.thin: 0 is not allowed"),
        ("400", ".inf", "costs.thin: inf is not allowed"),
        ("channels: 16", "channels: 16, train.steps: 3", "variants.wide: train.steps: budget: flops decides it"),
        ("channels: 8", "channels: 8, train.steps: null, train.epochs: 3", "budget: flops needs train.steps"),
        (COSTS, COSTS + "tune: {train.batch_size: [8, 16], seeds: 4}\n", "tune: train.batch_size: changes what"),
        (COSTS, COSTS + "tune: {model.unet.blocks: [1, 2], seeds: 4}\n", "tune: model.unet.blocks: changes what"),
    ],
)  # fmt: skip
def test_what_is_refused(old: str, new: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        load(STUDY.replace(old, new))
    assert str(refused.value).startswith(f"{PLAN}: ")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_costs_prints_the_line_that_the_plan_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flops, "per_image", lambda chosen: 100 * chosen.model.architecture.base_channels)
    PLAN.write_text(STUDY.replace(COSTS, ""))
    assert study("costs", str(PLAN)) == 0
    line = capsys.readouterr().out
    assert line == "costs: {thin: 6400, wide: 12800}  # FLOPs of a training step\n"  # of batches of 8 images
    found = load(STUDY.replace(COSTS, line))
    budget.check_count(found)
    with pytest.raises(UserError, match=r"costs\.thin: 400 FLOPs, but a training step takes"):
        budget.check_count(load())
    PLAN.write_text(STUDY.replace("budget: flops", "budget: images"))
    assert study("costs", str(PLAN)) == 2
    assert "budget: 'images' has no costs; allowed: flops, seconds" in capsys.readouterr().err


def test_seconds_are_the_median_of_interleaved_rounds_and_say_if_they_were_disturbed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[Config] = []
    steps = iter([0.1, 0.2, 0.1, 0.2, 0.16, 0.2])

    def pilot(settings: Config) -> Measured:
        order.append(settings)
        return Measured(next(steps), 0.0, 0.0, 0.0, 0.0, 0.0, 0, 1, "a test")

    monkeypatch.setattr(estimate, "ask_pilot", pilot)
    PLAN.write_text(STUDY.replace(COSTS, "").replace("flops", "seconds"))
    assert study("costs", str(PLAN)) == 0
    said = capsys.readouterr()
    thin, wide = order[:2]
    assert order == [thin, wide] * 3
    assert thin != wide
    assert said.out == "costs: {thin: 0.1, wide: 0.2}  # seconds of a training step on a test\n"
    assert "measurements of one variant differ by up to 60%" in said.err
    assert load(STUDY.replace(COSTS, said.out).replace("flops", "seconds")).configs["wide"].train.steps == 6


def test_a_study_whose_count_is_another_one_does_not_start(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("project")
    study_project.make(folder)
    monkeypatch.chdir(folder)
    (folder / PLAN).write_text(STUDY.replace("looks: [2]", "base: digits_small\nlooks: [8]"))
    study_project.commit("networks")
    assert study("run", str(PLAN)) == 2
    assert "costs.thin: 400 FLOPs, but a training step takes" in capsys.readouterr().err

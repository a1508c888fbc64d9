"""What ``ddpm check`` reports about the time and the memory of the next run."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ddpm.base.progress import duration
from ddpm.model.precision import Comparison
from ddpm.tools import forecast
from ddpm.tools.forecast import Measured
from tests.command import run
from tests.small import small

ROOT = Path(__file__).parents[2]
MEASURED = Measured(step=0.5, evaluation=0.01, feature=0.003, memory=2**30, device="cpu (1 thread)")


class Machine:
    """A step takes ``fixed`` seconds plus ``each`` per image; the first of a size takes twice that."""

    def __init__(self, fixed: float, each: float, monkeypatch: pytest.MonkeyPatch):
        self.fixed, self.each = fixed, each
        self.now = 0.0
        monkeypatch.setattr(forecast, "clock", lambda: self.now)
        monkeypatch.setattr(forecast, "Trainer", self.trainer)
        monkeypatch.setattr(forecast, "Generator", SimpleNamespace(of=self.generator))

    def takes(self, images: int, factor: float = 1.0) -> None:
        self.now += factor * (self.fixed + self.each * images)

    def trainer(self, config, pictures: object, device: object, ranks, *_: object):
        images = config.train.batch_size
        assert images % (config.train.accumulate * ranks.size) == 0
        return SimpleNamespace(step=lambda number: self.takes(images, 2.0 if number == 1 else 1.0))

    def generator(self, *_: object):
        def trajectory(indices: range, seed: int):
            yield None  # x_T
            for number in range(5):
                self.takes(len(indices), 2.0 if number == 0 else 1.0)
                yield None

        return SimpleNamespace(trajectory=trajectory)


@pytest.mark.parametrize(
    ("fixed", "each", "accumulate"),
    [(0.0001, 1e-5, 1), (0.0001, 0.1, 4), (0.01, 1e-3, 4), (0.3, 1e-5, 1), (0.3, 0.04, 1)],
)
def test_on_a_steady_machine_it_is_exact_and_takes_seconds(monkeypatch, fixed, each, accumulate):
    machine = Machine(fixed, each, monkeypatch)
    settings = small(train={"batch_size": 256, "accumulate": accumulate}, sample={"batch_size": 256, "count": 1000})
    found = forecast.time_steps(settings)
    if 2 * (fixed + each * accumulate) <= forecast.SECONDS:
        assert found.step == pytest.approx(fixed + each * 256, rel=1e-3)
    assert found.evaluation == pytest.approx((fixed + each * 256) / 256, rel=1e-3)
    assert machine.now < 15  # training and sampling


@pytest.mark.parametrize("each", [0.6, 1.5, 40.0])
def test_where_one_step_takes_long_it_is_the_measure(monkeypatch, each):
    machine = Machine(0.0, each, monkeypatch)
    found = forecast.time_steps(small(train={"batch_size": 256}, sample={"batch_size": 4, "count": 1000}))
    first = 2 if 2 * each > forecast.LONG else 1
    assert found.step == pytest.approx(first * each * 256)
    assert machine.now <= 2 * max(4.0, 2 * each)


def test_ranks_share_images_and_the_batch(monkeypatch):
    Machine(0.0, 0.01, monkeypatch)
    alone = forecast.time_steps(small())
    monkeypatch.setattr(forecast.distributed, "processes", lambda *_: 2)
    both = forecast.time_steps(small())
    assert both.step == pytest.approx(alone.step / 2)
    assert both.evaluation == pytest.approx(alone.evaluation / 2)


def worked(settings, found: Measured, images: int | None) -> dict[str, float]:
    """The seconds of each stage without its start."""
    took = forecast.seconds(settings, found, images)
    return {stage: took[stage] - start for stage, start in forecast.START.items()}


SAMPLE = {"count": 1000, "steps": 5}
EPOCHS = {"steps": None, "epochs": 3}


@pytest.mark.parametrize(
    ("sections", "images", "train", "sample"),
    [
        ({"train": {"steps": 100}, "sample": SAMPLE}, None, 50, 1000 * 5 * 0.01),
        ({"train": {"steps": 200}, "sample": SAMPLE | {"seeds": (0, 1)}}, None, 100, 2000 * 5 * 0.01),
        ({"train": {"steps": 100, "snapshots": [8, 16]}, "sample": SAMPLE}, None, 50, 3000 * 5 * 0.01),
        ({"train": EPOCHS, "sample": SAMPLE}, 20, math.ceil(3 * 20 / 8) * 0.5, 50),
        ({"train": EPOCHS, "sample": SAMPLE}, None, 3 * 125 * 0.5, 50),  # epochs of 1,000 images
    ],
)
def test_what_there_is_more_of_takes_longer(sections, images, train, sample):
    took = worked(small(**sections), MEASURED, images)
    assert (took["train"], took["sample"]) == (pytest.approx(train), pytest.approx(sample))


def test_the_lines_say_what_was_assumed():
    known, assumed = (forecast.lines(small(train=EPOCHS), MEASURED, images)[1] for images in (20, None))
    assert "8 steps" in known
    assert "375 steps" in assumed
    assert "1,000 images" in assumed


@pytest.mark.parametrize(("half", "auto", "is_slower"), [
    (None, "float32", False), (Comparison(0.02, 0.6), "bfloat16", False),
    (Comparison(0.02, 3.0), "bfloat16", True), (Comparison(0.9, 0.6), "float32", False),
    (Comparison(math.nan, 0.6), "float32", False),
])  # fmt: skip
def test_check_says_which_precision_to_take(half, auto, is_slower):
    free, chosen = (forecast.lines(small(train={"precision": one}), MEASURED._replace(half=half), 20)
                    for one in ("auto", "float32"))  # fmt: skip
    (line,) = (one for one in free if one.startswith("precision"))
    assert f"auto is {auto}" in line
    assert ("float32 is faster" in line) is is_slower
    assert "precision: float32" in chosen  # there is nothing to advise


def test_scores_likelihoods_and_fitting_take_their_time():
    options = {"likelihood": {"images": 50, "timesteps": 4}}
    made = small(data={"test_fraction": 0.2}, sample={"count": 1000, "seeds": (0, 1)}, evaluate=options)
    took = worked(made, MEASURED, 160)  # and 40 to test
    assert took["reference"] == pytest.approx((160 + 40) * 0.003)
    assert took["evaluate"] == pytest.approx(2000 * 0.003 + (50 + 40) * 4 * 0.01)


def test_every_stage_takes_its_start():
    assert [*forecast.START] == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def test_the_real_steps_are_measured(folder, monkeypatch):
    monkeypatch.setattr(forecast, "read_reference", lambda path: SimpleNamespace(channels=1))
    weights = Path("data/reference/of_another_branch/weights.safetensors")
    weights.parent.mkdir(parents=True)
    weights.touch()
    found = forecast.time_steps(small(train={"snapshots": [16]}))
    assert min(found.step, found.evaluation) > 0
    assert 50 * 2**20 < found.memory < 8 * 2**30


@pytest.mark.parametrize(("seconds", "said"), [
    (0.04, "0.0 s"), (9.4, "9.4 s"), (9.96, "10 s"), (99, "99 s"), (140.4, "2 min 20 s"), (119.7, "2 min 0 s"),
    (3599.9, "1.0 h"), (5.8 * 3600, "5.8 h"), (12.6 * 86400, "12.6 days")
])  # fmt: skip
def test_a_duration_is_for_people(seconds, said):
    assert duration(seconds) == said


def test_without_a_pilot_check_measures_nothing(folder, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "time_steps", lambda settings: MEASURED)
    monkeypatch.setattr("ddpm.tools.clone.check_clone", lambda data: "")
    Path("params.yaml").write_text((ROOT / "ddpm/presets/digits_2026.yaml").read_text())
    for options, count in ([], 7), (["--no-pilot"], 1):
        assert run("check", *options) == 0
        assert len(capsys.readouterr().out.splitlines()) == count

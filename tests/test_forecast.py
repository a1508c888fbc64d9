"""What ``ddpm check`` reports about the time and the memory of the next run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dvc.exceptions import DvcException
from hypothesis import given
from hypothesis import strategies as st

import ddpm
from ddpm import cli
from ddpm.base.errors import UserError
from ddpm.base.progress import duration
from ddpm.compute import distributed
from ddpm.compute.distributed import Ranks
from ddpm.forecast import estimate, pilot
from ddpm.forecast.estimate import Measured
from ddpm.params import config
from ddpm.training.train_params import TrainingConfig
from tests.small import PARAMS, small

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
MEASURED = Measured(
    step=0.5, evaluation=0.01, bound=0.02, feature=0.003, fit=7.0, start=0.0, memory=2**30, ranks=1,
    device="cpu (1 thread)",
)  # fmt: skip


class Machine:
    """A step takes ``fixed`` seconds plus ``each`` per image; the first of a size takes twice that."""

    def __init__(self, fixed: float, each: float):
        self.fixed, self.each = fixed, each
        self.now = 0.0

    def takes(self, images: int, factor: float = 1.0) -> None:
        self.now += factor * (self.fixed + self.each * images)

    def trainer(self, config: TrainingConfig, pictures: object, device: object, ranks: Ranks, *_: object) -> Any:
        images = config.train.batch_size
        assert images % (config.train.accumulate * ranks.size) == 0
        return SimpleNamespace(step=lambda number: self.takes(images, 2.0 if number == 1 else 1.0))

    def generator(self, *_: object) -> Any:
        def trajectory(indices: range, seed: int, shape: object) -> Iterator[None]:
            yield None  # x_T
            for number in range(5):
                self.takes(len(indices), 2.0 if number == 0 else 1.0)
                yield None

        return SimpleNamespace(trajectory=trajectory)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    def install(machine: Machine) -> None:
        monkeypatch.setattr(pilot, "clock", lambda: machine.now)
        monkeypatch.setattr(pilot, "Trainer", machine.trainer)
        monkeypatch.setattr(pilot, "Generator", SimpleNamespace(of=machine.generator))

    return install


@pytest.mark.parametrize("fixed", [0.0001, 0.01, 0.3])
@pytest.mark.parametrize("each", [1e-5, 1e-3, 0.04, 0.1])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_on_a_steady_machine_it_is_exact_and_takes_seconds(
    on: Callable[[Machine], None], fixed: float, each: float, accumulate: int
) -> None:
    machine = Machine(fixed, each)
    on(machine)
    settings = small(train={"batch_size": 256, "accumulate": accumulate}, sample={"batch_size": 256, "count": 1000})
    found = pilot.measure(settings, CPU)
    if 2 * (fixed + each * accumulate) <= pilot.SECONDS:
        assert found.step == pytest.approx(fixed + each * 256, rel=1e-3)
    assert found.evaluation == pytest.approx((fixed + each * 256) / 256, rel=1e-3)
    assert machine.now < 15  # training and sampling


@pytest.mark.parametrize("each", [0.6, 1.5, 40.0])
def test_where_one_step_takes_long_it_is_the_measure(on: Callable[[Machine], None], each: float) -> None:
    machine = Machine(0.0, each)
    on(machine)
    found = pilot.measure(small(train={"batch_size": 256}, sample={"batch_size": 4, "count": 1000}), CPU)
    first = 2 if 2 * each > pilot.LONG else 1
    assert found.step == pytest.approx(first * each * 256)
    assert machine.now <= 2 * max(4.0, 2 * each)


@given(st.floats(1e-4, 0.1), st.floats(1e-6, 1.0), st.integers(1, 9), st.integers(1, 999))
def test_batches_grow_to_the_whole_or_until_they_take_half_a_second(
    fixed: float, each: float, least: int, more: int
) -> None:
    tried = []

    def seconds(images: int) -> np.ndarray:
        tried.append(images)
        return np.array([fixed + each * images])

    taken = pilot._grown(least, least + more, seconds)
    largest = tried[-1]
    spent = sum(fixed + each * images for images in tried)
    assert spent <= 2 * pilot.SECONDS or len(tried) == 1
    if tried[0] != largest:
        assert taken == pytest.approx(fixed + each * (least + more))
    assert largest == least + more or 2 * (fixed + each * largest) > pilot.SECONDS or spent > pilot.SECONDS


def test_noise_makes_no_image_free() -> None:
    taken = pilot._grown(1, 100, lambda images: np.array([{1: 0.2, 4: 0.19}.get(images, 0.6)]))
    assert taken >= 0.6


def test_memory_grows_by_what_more_images_took_and_not_by_the_weights() -> None:
    """If one image takes long, there is no second batch to show how much memory an image takes."""
    assert pilot._grown(1, 100, lambda images: np.array([0.1 * images, 1000 + 7 * images]))[1] == 1700
    assert pilot._grown(1, 100, lambda images: np.array([9.0 * images, 1000 + 7 * images]))[1] == 1007


def seconds(found: Measured = MEASURED, images: int | None = None, **sections: dict[str, Any]) -> tuple[float, float]:
    """Of training and of sampling."""
    took = estimate.seconds(small(**sections), found, images)
    return took["train"], took["sample"]


def test_steps_and_images_are_multiplied() -> None:
    train, sample = seconds(train={"steps": 100}, sample={"count": 1000, "steps": 5})
    assert train == pytest.approx(50)
    assert sample == pytest.approx(1000 * 5 * 0.01)
    assert seconds(train={"steps": 200})[0] == pytest.approx(100)
    _, more = seconds(sample={"count": 1000, "steps": 5, "seeds": (0, 1)})
    assert more == pytest.approx(2000 * 5 * 0.01)
    _, shared = seconds(MEASURED._replace(ranks=2), sample={"count": 1000, "steps": 5})
    assert shared == pytest.approx(500 * 5 * 0.01)


def test_epochs_are_of_the_images_that_are_there() -> None:
    epochs = {"steps": None, "epochs": 3}
    assert seconds(images=20, train=epochs)[0] == pytest.approx(math.ceil(3 * 20 / 8) * 0.5)
    assert "train: 8 steps take about 4.0 s" in estimate.lines(small(train=epochs), MEASURED, 20, {"train"})[0]
    assert seconds(train=epochs)[0] == pytest.approx(125 * 0.5)
    assert "epoch of 1,000 images takes about 62 s" in estimate.lines(small(train=epochs), MEASURED, None, {"train"})[0]


def test_grids_take_their_time() -> None:
    preview = 64 * 50 * 0.01  # of 50 steps, as many as the small chain has
    assert seconds(train={"steps": 100, "grid_every": 30})[0] == pytest.approx(50 + 3 * preview)
    by_epoch = {"steps": 100, "grid_every": 2, "grid_unit": "epochs"}  # of 800 images, that is of 5 epochs
    assert seconds(images=160, train=by_epoch)[0] == pytest.approx(50 + 2 * preview)


def test_scores_likelihoods_and_fitting_take_their_time() -> None:
    options = {"likelihood": {"images": 50, "timesteps": 4}}
    made = small(data={"test_fraction": 0.2}, sample={"count": 1000, "seeds": (0, 1)}, evaluate=options)
    took = estimate.seconds(made, MEASURED, 160)  # and 40 to test
    assert took["reference"] == pytest.approx(7.0 + (160 + 40 + 6 * 40) * 0.003)
    assert took["evaluate"] == pytest.approx(2000 * 0.003 + (50 + 40) * 4 * 0.02)
    shared = estimate.seconds(made, MEASURED._replace(ranks=2), 160)
    assert shared["evaluate"] == pytest.approx(took["evaluate"] / 2)
    ode = small(data={"test_fraction": 0.2}, evaluate={"likelihood": {**options["likelihood"], "ode_steps": 10}})
    without = small(data={"test_fraction": 0.2}, evaluate=options)
    more = (estimate.seconds(each, MEASURED, 160)["evaluate"] for each in (ode, without))
    assert next(more) - next(more) == pytest.approx(40 * 10 * 6 * 0.02)


def test_every_stage_takes_its_start() -> None:
    nothing = estimate.seconds(small(), MEASURED, 160)
    started = estimate.seconds(small(), MEASURED._replace(start=10.0), 160)
    assert {stage: started[stage] - nothing[stage] for stage in nothing} == pytest.approx(
        {stage: 10 * share for stage, share in estimate.START.items()}
    )
    assert [*estimate.START] == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize(
    ("dataset", "channels", "fitted"), [("digits", 1, False), ("digits", 3, True), ("mnist", 1, True)]
)
def test_fitting_counts_unless_the_weights_ship(
    dataset: str, channels: int, fitted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"dataset": {"name": dataset}, "image_size": 16, "channels": channels}
    feature, fit = pilot._scoring(small(data=data), CPU)
    assert (fit > 0) == fitted
    assert feature > 0


def test_the_real_steps_are_measured() -> None:
    found = pilot.measure(small(), CPU)
    assert min(found.step, found.evaluation, found.bound, found.feature) > 0
    assert 50 * 2**20 < found.memory < 8 * 2**30


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match="leaves nothing to some of 2 ranks"):
        pilot.measure(small(train={"batch_size": 1}), CPU, Ranks(0, 2))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.4, "9.4 s"), (9.96, "10 s"), (99, "99 s"), (140.4, "2 min 20 s"), (119.7, "2 min 0 s"),
     (3599.9, "1.0 h"), (5.8 * 3600, "5.8 h"), (12.6 * 86400, "12.6 days")],
)  # fmt: skip
def test_a_duration_is_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# --- what is about to run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[set[str]], list[str]]:
    """The report when DVC lists these stages as out of date, with a stand-in for the pilot."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "ask_pilot", lambda settings: MEASURED)

    def report(outdated: set[str]) -> list[str]:
        monkeypatch.setattr(estimate, "outdated", lambda: outdated)
        return estimate.report(small(sample={"count": 1000}))

    return report


def test_what_is_up_to_date_is_not_forecast(asked: Callable[[set[str]], list[str]]) -> None:
    train, sample, whole = asked({"train", "sample"})
    assert train == "train: 12 steps take about 6.0 s on cpu (1 thread), and 1.0 GiB of memory"
    assert sample == "sample: 1,000 images take about 50 s"
    assert whole.startswith("in all: about 56 s, with the start of 2 stages")
    assert asked({"sample"})[0] == sample
    assert asked(set()) == ["all is up to date"]


@pytest.mark.parametrize(
    ("changed", "runs"),
    [({"check"}, {"check"}), ({"reference"}, {"reference", "evaluate"}), ({"train"}, {"train", "sample", "evaluate"}),
     ({"download"}, {"download", "preprocess", "reference", "train", "sample", "evaluate"}), (set(), set())],
)  # fmt: skip
def test_what_reads_the_results_of_a_stage_runs_after_it(
    changed: set[str], runs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Repo(AbstractContextManager["Repo"]):
        def status(self, **_: object) -> dict[str, object]:
            return dict.fromkeys(changed)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("dvc.repo.Repo", Repo)
    assert estimate.outdated() == runs


def test_while_dvc_is_at_work_there_is_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> set[str]:
        raise DvcException("locked")

    monkeypatch.setattr(estimate, "outdated", busy)
    assert estimate.report(small()) == ["no forecast, because DVC does not say what is up to date: locked"]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_pilot_runs_on_the_ranks_of_the_real_run(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (distributed.START, distributed.LAUNCHER, distributed.ERROR_FILE):
        monkeypatch.setenv(name, "")  # to be as before when the test ends
    settings = config.check(PARAMS | {"launch": {"processes": processes}}, "small")
    found = estimate.ask_pilot(settings)
    assert found.ranks == processes
    assert found.device == ("cpu (2 ranks of 1 thread)" if processes == 2 else "cpu (1 thread)")
    assert min(found.step, found.evaluation, found.feature, found.start) > 0
    assert not list(tmp_path.glob("*.json"))


def test_without_a_pilot_check_measures_nothing(
    asked: Callable[[set[str]], list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked({"train", "sample"})
    ok = SimpleNamespace(state="ok")
    for name in ("repository", "branch"):
        monkeypatch.setattr(f"ddpm.doctor.{name}", lambda: ok)
    Path("params.yaml").write_text((Path(ddpm.__file__).parent / "presets/digits.yaml").read_text())
    for options, count in ([], 4), (["--no-pilot"], 1):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["check", *options])
        assert len(capsys.readouterr().out.splitlines()) == count

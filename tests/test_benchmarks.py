"""The benchmarks' arithmetic, tables and helpers. No time is asserted."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from ddpm.base.errors import UserError
from ddpm.base.sections import Shape
from tests.benchmarks import __main__ as command
from tests.benchmarks import data, gpu, growth, runs, table
from tests.benchmarks.extracted import Seen
from tests.benchmarks.harness import (
    Bench,
    Case,
    Goal,
    Machine,
    Options,
    Results,
    Sample,
    Spread,
    ThisMachine,
    Timing,
    at_least_rate,
    at_most_seconds,
    count_flops,
    faster,
    measure,
    network_flops,
)
from tests.benchmarks.train import epsilon_loss, steady, v_loss

CPU = torch.device("cpu")


class Clock(Machine):
    """A machine on which time passes only when a test moves it."""

    def __init__(self) -> None:
        self.seconds = self.others = 0.0

    def now(self) -> float:
        return self.seconds

    def foreign(self) -> float:
        return self.others

    def takes(self, seconds: float, foreign: float = 0.0) -> Callable[[], None]:
        def run() -> None:
            self.seconds += seconds
            self.others += seconds * foreign

        return run


def nothing() -> None:
    """Do nothing."""


def case(name: str, run: Callable[[], float | None] = nothing, items: int = 1, flops: float = 0.0) -> Case:
    return Case(name, "float32", run, items, flops)


def timing(chosen: Case, *seconds: float, foreign: tuple[float, ...] = ()) -> Timing:
    loads = foreign or (0.0,) * len(seconds)
    return Timing(chosen, tuple(Sample(*pair) for pair in zip(seconds, loads, strict=True)))


def test_every_case_gets_a_sample_a_round_and_each_round_begins_with_another() -> None:
    clock, order = Clock(), []

    def run(name: str) -> Callable[[], None]:
        return lambda: (order.append(name), clock.takes(1)())[1]

    results = measure([case(name, run(name)) for name in "abc"], 3, clock)
    assert "".join(order[-9:]) == "abcbcacab"
    assert [len(t.samples) for t in results.timings.values()] == [3, 3, 3]


def test_short_calls_are_repeated_until_a_sample_is_long_enough_and_one_calls_time_is_told() -> None:
    clock, calls = Clock(), []

    def run() -> None:
        calls.append(1)
        clock.takes(0.01)()

    found = measure([case("short", run)], 1, clock)["short [float32]"]
    assert len(calls) == 2 + 30  # two to warm up, then 0.3 s
    assert found.seconds.median == pytest.approx(0.01)


def test_a_call_that_keeps_its_own_time_is_believed() -> None:
    clock = Clock()
    found = measure([case("stage", lambda: clock.takes(10)() or 0.25)], 3, clock)["stage [float32]"]
    assert found.seconds == (0.25, 0.25, 0.25)


def test_contended_samples_are_dropped_and_counted() -> None:
    found = timing(case("a"), 1, 9, 1, 1, foreign=(0, 0.9, 0.1, 0))
    assert found.used == [0, 2, 3]
    assert found.contended == 1
    assert found.seconds.median == 1
    assert found.trusted


def test_with_too_few_clean_samples_all_count_and_the_row_says_so() -> None:
    found = timing(case("a"), 1, 2, 3, 4, foreign=(0, 0.9, 0.9, 0))
    assert found.seconds.median == 2.5
    assert not found.trusted
    goal = at_most_seconds(found.case, 5)
    text = table.table(Results([found]), [goal])
    assert "4 (contended)" in text
    assert "yes (contended)" in text


def test_load_is_measured_in_cores() -> None:
    clock = Clock()
    found = measure([case("a", clock.takes(2, foreign=0.5))], 3, clock)["a [float32]"]
    assert [sample.foreign for sample in found.samples] == pytest.approx([0.5] * 3)
    assert all(sample.contended for sample in found.samples)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize("where", ["here", "in a child"])
def test_what_this_process_and_its_children_do_is_not_foreign(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    still = psutil.cpu_times()
    monkeypatch.setattr(psutil, "cpu_times", lambda: still)  # the kernel's total stands still; only our part moves
    before = ThisMachine().foreign()
    if where == "here":
        burn(0.3)
    else:
        subprocess.run([sys.executable, "-c", f"{inspect.getsource(burn)}\nimport time; burn(0.3)"], check=True)
    assert ThisMachine().foreign() <= before - 0.2


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_quartiles_are_in_order_and_within_the_samples(values: list[float]) -> None:
    spread = Spread.of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)


def test_a_ratio_is_taken_within_a_round() -> None:
    ours, theirs = case("ours"), case("theirs")
    # the machine slowed down threefold halfway, for both alike
    results = Results([timing(ours, 1, 1, 3, 3), timing(theirs, 2, 2, 6, 6)])
    assert faster(ours, theirs, 2).value(results) == (2, 2, 2)


def test_a_ratio_leaves_out_rounds_that_are_contended_for_either() -> None:
    ours, theirs = case("ours"), case("theirs")
    results = Results(
        [
            timing(ours, 1, 50, 1, 1, 1, foreign=(0, 1, 0, 0, 0)),
            timing(theirs, 3, 3, 3, 90, 3, foreign=(0, 0, 0, 1, 0)),
        ]
    )
    assert faster(ours, theirs, 2).value(results) == (3, 3, 3)


def test_ratios_are_per_image_or_per_flop() -> None:
    ours, theirs = case("ours", items=10, flops=100), case("theirs", items=5, flops=200)
    results = Results([timing(ours, 1, 1, 1), timing(theirs, 1, 1, 1)])
    assert faster(ours, theirs, 1).value(results).median == 2
    assert faster(ours, theirs, 1, per="FLOP").value(results).median == 0.5


def test_goals_are_met_from_above_or_from_below() -> None:
    a = case("a", items=100)
    results = Results([timing(a, 0.5, 0.5, 0.5)])
    goals = [at_most_seconds(a, 0.5), at_most_seconds(a, 0.4), at_least_rate(a, 200), at_least_rate(a, 201)]
    assert [goal.met(goal.value(results)) for goal in goals] == [True, False, True, False]


def test_the_table_states_peaks_ratios_and_verdicts() -> None:
    peak, ours = Case("peak: matmul", "float32", nothing, flops=2e9), case("ours", items=8, flops=1e9)
    results = Results([timing(peak, 1, 1, 1), timing(ours, 2, 2, 2)])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.table(results, [at_most_seconds(ours, 1)]).splitlines()
        if line
    ]
    assert ["ours", "float32", "2.00 s", "2.00 s to 2.00 s", "4.0", "0.5", "25%", "3", "0"] in rows
    assert ["ours", "float32", "2 s", "2 to 2", "at most 1 s", "NO"] in rows


def test_shares_are_of_the_peak_in_the_same_precision() -> None:
    peaks = [Case("peak: matmul", precision, nothing, flops=1) for precision in ("float32", "bfloat16")]
    results = Results([timing(peaks[0], 1, 1, 1), timing(peaks[1], 0.5, 0.5, 0.5)])
    assert (results.peak("float32"), results.peak("bfloat16")) == (1, 2)
    assert np.isnan(results.peak("float16"))


def test_the_record_is_json_and_says_what_the_table_says() -> None:
    ours = case("ours", items=8)
    results, goal = Results([timing(ours, 2, 2, 2)]), at_least_rate(ours, 5)
    record = json.loads(json.dumps(table.record(results, [goal]), allow_nan=False))
    assert record["timings"]["ours [float32]"]["items_per_second"] == 4
    assert record["goals"][0]["met"] is False
    assert record["goals"][0]["at_least"] == 5


def test_only_keeps_the_goals_whose_cases_are_left() -> None:
    a, b, c = case("a"), case("b"), case("c")
    chosen = Bench([a, b, c], [faster(a, b, 1), faster(a, c, 1)]).only("^[ab] ")
    assert chosen.cases == [a, b]
    assert [goal.needs for goal in chosen.goals] == [(a.key, b.key)]


def test_flops_of_a_layer_forward_and_backward() -> None:
    layer, x = nn.Linear(4, 8), torch.randn(2, 4)
    assert count_flops(lambda: layer(x)) == 2 * (2 * 2 * 4 * 8)  # the output and the weight's gradient
    x.requires_grad_()
    assert count_flops(lambda: layer(x)) == 3 * (2 * 2 * 4 * 8)


def test_attention_counts_as_its_two_products_with_their_gradients() -> None:
    query, key, value = torch.randn(3, 1, 2, 16, 8, requires_grad=True).unbind()
    assert count_flops(lambda: F.scaled_dot_product_attention(query, key, value)) == 3 * 2 * (2 * 2 * 16 * 16 * 8)


def test_the_articles_network_and_ours_take_the_same_flops() -> None:
    from tests.models.test_unet import ARTICLE
    from tests.peers.article import ArticleUNet

    theirs, ours = (
        network_flops(ArticleUNet(), (3, 32, 32)),
        network_flops(ARTICLE.network(Shape(3, 32, 32), 3), (3, 32, 32)),
    )
    assert theirs == ours
    assert 14e9 < ours < 15e9


def test_the_plain_losses_are_of_epsilon_and_of_v() -> None:
    x_0 = torch.full((64, 1, 8, 8), 0.5)
    noise_only, image_only = torch.tensor([0.0]), torch.tensor([1.0])
    assert float(epsilon_loss(lambda x_t, t: x_t, noise_only)(x_0)) == 0
    assert float(v_loss(lambda x_t, t: -x_0, noise_only)(x_0)) == 0
    # without noise v is epsilon, and there is none to see
    assert float(v_loss(lambda x_t, t: x_t - x_0, image_only)(x_0)) == pytest.approx(1, abs=0.1)


def test_a_stages_speed_leaves_out_the_first_quarter(tmp_path: Path) -> None:
    rows = [(1, 60.0), (2, 61.0), (3, 62.0), (4, 64.0), (5, 66.0)]  # a minute to start
    text = "step,seconds\n" + "".join(f"{step},{seconds}\n" for step, seconds in rows)
    (tmp_path / "loss.csv").write_text(text)
    assert steady(tmp_path / "loss.csv") == pytest.approx(5 / 3)


def test_real_images_are_counted_by_their_bytes_whatever_batch_they_come_in() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    seen = Seen(images[:10])
    network = nn.Sequential(nn.Flatten())
    network.register_forward_pre_hook(seen)
    for part in np.split(images[::-1].copy(), 4):
        network(torch.from_numpy(part))
    network(torch.from_numpy(images).float())  # not what an extractor takes
    assert seen.count == 10


def test_photos_are_synthesised_or_repeated_from_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "source/roses"
    source.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (30, 20), (i * 200, 0, 0)).save(source / f"{i}.JPG", format="JPEG")
    data.write_photos(tmp_path / "given", 5, tmp_path / "source")
    data.write_photos(tmp_path / "made", 3, None)
    given, made = (sorted((tmp_path / name).rglob("*.jpg")) for name in ("given", "made"))
    assert [len(given), len(made)] == [5, 3]
    with Image.open(given[4]) as image, Image.open(made[0]) as photo:
        assert image.size == (30, 20)
        assert photo.size == data.PHOTO
    assert 20_000 < made[0].stat().st_size < 200_000  # the usual size of such photos
    with pytest.raises(UserError, match=r"holds no \.jpg"):
        data.write_photos(tmp_path / "none", 5, tmp_path / "made/none")


@given(st.floats(-2, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law_is_found(k: float, c: float) -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert growth.exponent(np.stack([x, c * x**k], axis=1)) == pytest.approx(k, abs=1e-6)


def test_the_growth_picture_has_a_panel_for_each_thing_that_grows() -> None:
    points = [
        growth.Point("images", "preprocess", 10, 1.0, False),
        growth.Point("images", "preprocess", 20, 2.0, False),
        growth.Point("ranks", "a training step", 1, 0.5, False),
    ]
    made = growth.panels(points)
    assert [list(panel.curves) for panel in made] == [["preprocess: 1.00"], ["a training step"]]


def test_the_commands_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["trian"])
    assert end.value.code == 2
    assert "unknown 'trian'; allowed: end_to_end" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_benchmark_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gpu.main([])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'cuda' is not there" in error


@pytest.mark.slow
@pytest.mark.slow
def test_the_commands_that_read_many_runs_find_them(tmp_path: Path) -> None:
    (bench,) = runs.benches(Options(True, tmp_path, None, torch.device("cpu")))
    for case in bench.cases:
        case.run()  # a command that finds no run fails


def test_the_gpu_benchmark_runs_tiny_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gpu.main(["--device", "cpu", "--quick"])
    assert not end.value.code
    output = capsys.readouterr().out
    assert all(f"{name}, batch 2" in output for name in gpu.NETWORKS)
    assert "convolution_backward" in output


def test_the_command_prints_its_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def benches(options: Options) -> list[Bench]:
        a = case("quick one")
        goal = Goal("a goal", "float32", lambda results: results[a.key].seconds, 1, (a.key,), "s", at_most=True)
        return [Bench([a], [goal])]

    monkeypatch.setattr(data, "benches", benches)
    with pytest.raises(SystemExit) as end:
        command.main(["data", "--rounds", "2", "--out", str(tmp_path / "bench.json")])
    assert not end.value.code
    assert "| a goal" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert written["goals"][0]["met"] is True

"""A frontier's points are the pipeline's scores, each cell is measured once, and the front has the best points."""

import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from ddpm import cli
from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.model import build
from ddpm.model.model_file import load_model, save_model
from ddpm.params.config import Config
from ddpm.report import pareto
from ddpm.sampling import generator as sampling
from ddpm.sampling import samples
from ddpm.sampling.sampler import Sampler
from ddpm.scoring import scores
from ddpm.scoring.features import extract
from ddpm.scoring.reference import load_features, make_reference
from ddpm.tools import frontier
from ddpm.tools.frontier import Frontier
from tests.small import small

CPU = torch.device("cpu")
MODEL = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}


def settings(**sections: dict[str, Any]) -> Config:
    """80 images of 16x16, which the shipped classifier knows."""
    evaluate = {"extractors": ["classifier"], "metrics": ["fid", "kid"], "kid_subsets": 5, "kid_subset_size": 50}
    sample = {"count": 80, "batch_size": 40}
    return small(
        data={"image_size": 16},
        model={"unet": MODEL} | sections.get("model", {}),
        sample=sample | sections.get("sample", {}),
        evaluate=evaluate | sections.get("evaluate", {}),
    )


@pytest.fixture(scope="session")
def made(digits, tmp_path_factory) -> Path:
    """data/reference and the model file of an untrained network. Read only."""
    folder = tmp_path_factory.mktemp("made")
    make_reference(settings().evaluate, digits, folder / "data/reference", CPU)
    options = settings().training()
    torch.manual_seed(0)
    weights = dict(build.network(options).state_dict())
    save_model(folder / "data/model/model.safetensors", weights, options, {})
    return folder


def write_params(**sections: dict[str, Any]) -> None:
    with Path("params.yaml").open("w") as file:
        YAML().dump(settings(**sections).to_dict(), file)


@pytest.fixture(autouse=True)
def project(made, tmp_path, monkeypatch) -> Path:
    """A working folder with data/, and params.yaml set to ``settings``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(made / "data", tmp_path / "data")
    write_params()
    return tmp_path


def measuring(**sections: dict[str, Any]) -> Frontier:
    return Frontier(Path("data/model/model.safetensors"), Path("data/reference"), settings(**sections), CPU)


def sampler(name: str, **fields: Any) -> Sampler:
    built: Sampler = variant.build("samplers", {"name": name, name: fields}, "sampler")
    return built


DDIM, HEUN = sampler("ddim"), sampler("heun")


# --- points


def test_a_point_is_the_mean_score_of_the_sets_that_the_sample_stage_would_write(project):
    options = settings(sample={"seeds": [0, 3], "spacing": "trailing"})
    model = load_model(Path("data/model/model.safetensors"), CPU)
    generator = sampling.Generator.of(model, options.sample, CPU)
    sampling.write_samples(generator, options.sample, model.config.seed, model.image_shape, Path("samples"))
    real = load_features(Path("data/reference"), "classifier")
    drawn = [samples.read_samples(path) for path in samples.set_paths(Path("samples"), (0, 3)).values()]
    scored = [scores.score(extract(real.network, one, 64, CPU), real, options.evaluate) for one in drawn]

    point = measuring(sample={"seeds": [0, 3]}).points([DDIM], [5]).iloc[0]

    assert (point.sampler, point.steps, point.evaluations, point.spacing) == ("ddim", 5, 5, "trailing")
    assert (point.images, point.sets) == (80, 2)
    assert scored[0]["fd"] != scored[1]["fd"]
    for name in ("fd", "kid_mean", "kid_std"):
        assert point[f"classifier.{name}"] == pytest.approx(np.mean([one[name] for one in scored]), rel=1e-6)


def test_what_was_measured_is_not_measured_again():
    first = measuring(sample={"seeds": [0, 1]})
    points = first.points([DDIM, HEUN], [2, 5])
    assert first.measured == 8

    again = measuring(sample={"seeds": [1, 2]})
    again.points([DDIM], [5, 10])
    assert again.measured == 3  # set 2 at 5 evaluations, both at 10

    same = measuring(sample={"seeds": [0, 1]})
    pd.testing.assert_frame_equal(same.points([DDIM, HEUN], [2, 5]), points)
    assert same.measured == 0


def test_a_damaged_cell_is_measured_again(project):
    points = measuring().points([DDIM], [5])
    (cell,) = (project / ".ddpm/frontier").iterdir()
    for damage in ("{", '{"seconds": 1, "scores": {"classifier.fd": "low"}}', "[]"):
        cell.write_text(damage)
        again = measuring()
        assert again.points([DDIM], [5])["classifier.fd"][0] == points["classifier.fd"][0]
        assert again.measured == 1


def key(using: Sampler = DDIM, seed: int = 0, **sections: dict[str, Any]) -> str:
    frontier = measuring(**sections)
    return frontier.key(frontier.config.sample.model_copy(update={"sampler": using}), seed)


def test_whatever_changes_a_score_changes_the_cell(monkeypatch, tmp_path):
    keys = [
        key(),
        key(sampler("ddim", eta=0.5)),
        key(HEUN),
        key(seed=1),
        *(key(sample={name: value}) for name, value in (
            ("steps", 6), ("spacing", "quadratic"), ("count", 81), ("clip_denoised", False), ("precision", "bfloat16")
        )),
        key(evaluate={"kid_subsets": 6}),
        key(evaluate={"metrics": ["fid"]}),
    ]  # fmt: skip
    monkeypatch.setattr(frontier, "CODE", tmp_path)
    keys.append(key())
    options = settings().training()
    torch.manual_seed(1)
    save_model(Path("data/model/model.safetensors"), dict(build.network(options).state_dict()), options, {})
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_what_changes_no_score_keeps_the_cell():
    assert key(sample={"seeds": [4, 0]}, evaluate={"batch_size": 7, "likelihood": {"images": 9}}) == key()


def test_auto_is_the_precision_that_it_comes_to(monkeypatch):
    """Otherwise a machine that computes in bfloat16 would use the scores of one that does not, or vice versa."""
    for fast, precision in ((True, "bfloat16"), (False, "float32")):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda fast=fast: fast)
        assert key(sample={"precision": "auto"}) == key(sample={"precision": precision})


def test_the_weight_of_guidance_is_an_axis_and_takes_its_evaluations(project):
    options = settings(model={"classes": 10, "unet": MODEL | {"zero_init": False}})
    torch.manual_seed(0)
    weights = dict(build.network(options).state_dict())
    save_model(Path("data/model/model.safetensors"), weights, options.training(), {})
    one = Frontier(Path("data/model/model.safetensors"), Path("data/reference"), options, CPU)
    found = one.points([DDIM], [4, 8], [0.0, 1.0, 2.0])
    assert found[["weight", "steps", "evaluations"]].to_numpy().tolist() == [
        [0, 4, 4], [0, 8, 8], [1, 4, 4], [1, 8, 8], [2, 2, 4], [2, 4, 8]
    ]  # fmt: skip
    assert found["classifier.class_accuracy"].between(0, 1).all()
    assert found["classifier.fd"].nunique() == 6
    pareto.write_csv(Path("frontier.csv"), found)
    again = pareto.read_csv(Path("frontier.csv"))
    assert again["weight"].tolist() == [0, 0, 1, 1, 2, 2]
    assert "weight" in pareto.shown(again)[-1].columns
    *_, last = pareto.panels(again)
    assert last.curves["ddim"][:, 0].tolist() == [0, 1, 2]


@given(name=st.sampled_from(variant.names("samplers")), evaluations=st.integers(1, 200), T=st.integers(1, 100))
def test_as_many_steps_as_the_evaluations_pay_for(name, evaluations, T):
    one = sampler(name)
    options = settings().sample.model_copy(update={"sampler": one})
    steps = frontier.steps_within(options, evaluations, settings().diffusion.model_copy(update={"T": T}))
    assert one.evaluations(steps) <= evaluations
    assert steps == T or one.evaluations(steps + 1) > evaluations


@pytest.mark.slow
def test_numbers_that_come_out_as_the_same_steps_are_one_point():
    found = measuring().points([HEUN], [4, 3, 100, 99, 1000])
    assert found[["steps", "evaluations"]].to_numpy().tolist() == [[2, 3], [50, 99]]


def test_a_sampler_has_the_spacing_that_suits_it_at_few_steps():
    points = measuring().points([sampler("ancestral"), DDIM], [2])
    assert points["spacing"].tolist() == ["uniform", "trailing"]


# --- the front

COSTS = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20)


@given(COSTS)
def test_the_front_is_what_is_best_at_some_budget(costs):
    on_it = pareto.pareto(costs)
    for budget in range(1, 9):
        within = [i for i, (cost, _) in enumerate(costs) if cost <= budget]
        if within:
            best = min(costs[i][1] for i in within)
            cheapest = min(cost for cost, score in costs if score == best)
            assert any(on_it[i] and costs[i] == (cheapest, best) for i in within)
    steps = sorted({pair for pair, on in zip(costs, on_it, strict=True) if on})
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(steps))


POINTS = pareto.marked(
    pd.DataFrame(
        [("ddim", 5, 1.0, 4.0), ("ddim", 10, 2.0, 2.0), ("heun", 9, 1.0, 4.5), ("heun", 19, 1.0, 1.5)],
        columns=["sampler", "evaluations", "seconds", "classifier.fd"],
    )
    .assign(model="012345678912", spacing="uniform", steps=5, images=99, sets=1, **{"classifier.kid_mean": 0.5})
    .assign(weight=1.0, device="cpu (1 thread)", cpu_seconds=[0.5, 0.75, 0.25, 0.5])
)


def test_the_table_is_the_front_by_rising_cost():
    *_, table = pareto.shown(POINTS[::-1])
    assert table.columns[:3] == ["sampler", "evaluations", "steps"]
    assert [(row[0], row[1]) for row in table.rows] == [("ddim", "5"), ("ddim", "10"), ("heun", "19")]


def test_each_picture_has_a_line_for_each_sampler_and_its_own_front():
    by_evaluations, by_seconds = pareto.panels(POINTS.assign(device="1 x a GPU"))
    np.testing.assert_array_equal(by_evaluations.curves["ddim"], [[5, 4], [10, 2]])
    np.testing.assert_array_equal(by_evaluations.curves["heun"], [[9, 4.5], [19, 1.5]])
    np.testing.assert_array_equal(by_evaluations.front, [[5, 4], [10, 2], [19, 1.5]])
    np.testing.assert_array_equal(by_seconds.front, [[1, 1.5]])


def test_on_a_cpu_time_is_that_of_the_process():
    _, by_seconds = pareto.panels(POINTS)
    assert by_seconds.title == "classifier.fd against cpu_seconds"
    np.testing.assert_array_equal(by_seconds.front, [[0.25, 4.5], [0.5, 1.5]])


def test_what_other_processes_take_is_in_the_walls_seconds_alone(monkeypatch):
    """Waiting for a CPU that others use costs a process no CPU time, and neither does sleep."""

    def kept_waiting(*arguments: Any) -> None:
        time.sleep(1)
        sampling.write_set(*arguments)

    monkeypatch.setattr(frontier, "write_set", kept_waiting)
    point = measuring().points([DDIM], [2]).iloc[0]
    assert point.device == devices.describe(CPU)
    assert point.seconds >= 1
    assert 0 < point.cpu_seconds <= point.seconds - 0.9
    assert pareto.panels(measuring().points([DDIM], [2]))[1].title.endswith("against cpu_seconds")


# --- files


def test_the_csv_is_read_back_as_it_was(tmp_path):
    for points in (POINTS, POINTS.assign(sampler='a,"b"\n<i>')):
        pareto.write_csv(tmp_path / "frontier.csv", points)
        read = pareto.read_csv(tmp_path / "frontier.csv")
        pd.testing.assert_frame_equal(read[points.columns], points, check_dtype=False)


@pytest.mark.parametrize("text", ["model,sampler\n", "a,b\n1,2\n", "\x00", "model,sampler,steps\nx,y,z\n", "{}\n[]"])
def test_a_file_that_is_no_frontier_is_refused(tmp_path, text):
    path = tmp_path / "frontier.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"frontier\.csv: not a frontier.*`ddpm frontier`"):
        pareto.read_csv(path)
    with pytest.raises(UserError, match=r"no such file; `ddpm frontier` makes it"):
        pareto.read_csv(tmp_path / "nowhere.csv")


# --- the command


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["frontier", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_writes_csv_and_picture_and_prints_the_front(project, capsys):
    assert run("--samplers", "ddim", "heun", "--evaluations", "3", "5") == 0
    printed = capsys.readouterr().out
    points = pareto.read_csv(project / "metrics/frontier.csv")
    assert list(zip(points["sampler"], points["evaluations"], strict=True)) == [
        ("ddim", 3),
        ("ddim", 5),
        ("heun", 3),
        ("heun", 5),
    ]
    title, heads, *_ = printed.splitlines()
    assert title.startswith("Pareto front: than these, none of the 4 points has a lower classifier.fd from as few")
    assert heads.split() == pareto.shown(points)[-1].columns
    assert "4 points, 4 cells measured now" in printed
    with Image.open(project / "metrics/frontier.png") as picture:
        assert picture.width > 2 * picture.height

    before = (project / "metrics/frontier.csv").read_bytes()
    assert run("--samplers", "ddim", "heun", "--evaluations", "3", "5") == 0
    assert "4 points, 0 cells measured now" in capsys.readouterr().out
    assert (project / "metrics/frontier.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sections", "message"),
    [
        (["--samplers", "ddmi"], {}, "--samplers: unknown 'ddmi' (did you mean 'ddim'?); allowed: "),
        (["--evaluations", "0"], {}, "--evaluations: 0 is not allowed: "),
        (["--evaluations", "5", "-3"], {}, "--evaluations: -3 is not allowed: "),
        (["--model", "nowhere"], {}, "nowhere: no such model file"),
        ([], {"evaluate": {"metrics": ["kid"]}}, "evaluate.metrics: a frontier ranks by the Fréchet distance; add fid"),
        ([], {"sample": {"count": 12}}, "sample.count: 12 images are too few for evaluate.metrics 'fid'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(project, capsys, arguments, sections, message):
    write_params(**sections)
    assert run(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (project / "metrics").exists()
    assert not (project / ".ddpm").exists()


def test_a_model_of_other_images_and_a_missing_reference_are_refused(model_file, capsys):
    assert run("--model", str(model_file)) == 2
    assert "draws images of (1, 8, 8)" in capsys.readouterr().err
    shutil.rmtree("data/reference")
    assert run() == 2
    assert "reference.json: no such file; `dvc repro` makes it" in capsys.readouterr().err

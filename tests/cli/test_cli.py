"""The ``ddpm`` command: what it writes, and the one line and exit code 2 for each mistake."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.model.model_file import load_model
from ddpm.params import presets
from ddpm.pictures import grids
from ddpm.sampling import generator as sampling
from tests.command import refused, run
from tests.scored import git
from tests.small import CPU, small

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def repository(folder) -> Path:
    """The committed params.yaml of a git repository, which is the fashion_mnist preset, with .dvc next to it."""
    git("init", "--quiet")
    Path("params.yaml").write_text(presets.text("fashion_mnist"))
    git("add", "params.yaml")
    git("commit", "-m", "begin")
    (folder / ".dvc").mkdir()
    return folder / "params.yaml"


def test_a_preset_is_written_over_committed_params_and_never_over_others_unless_forced(repository, capsys):
    assert run("preset", "flowers") == 0
    assert repository.read_text() == presets.text("flowers")
    for command in ("status", "add params.yaml", "rm --cached params.yaml", "commit -m forgotten"):
        changed = presets.text("flowers") + "# mine\n"
        repository.write_text(changed)
        git(*command.split())
        capsys.readouterr()
        assert "params.yaml: has uncommitted changes" in refused(capsys, "preset", "digits")
        assert repository.read_text() == changed
    assert run("preset", "digits", "--force") == 0
    assert repository.read_text() == presets.text("digits")
    repository.unlink()
    assert run("preset", "digits") == 0


def sample(model_file: Path, *options: str | Path) -> np.ndarray:
    """The picture of ten images."""
    assert run("sample", "--model", model_file, "-n", "10", "--out", "grid.png", *options) == 0
    with Image.open("grid.png") as picture:
        return np.asarray(picture).astype(int)


def test_the_command_draws_the_images_that_the_sample_stage_would_write(model_file):
    model = load_model(model_file, CPU)
    fields = {"count": 12, "seeds": [7], "batch_size": 5, "steps": 5, "precision": "auto"}
    options = small(sample=fields).sample
    generator = sampling.Generator.of(model, options, CPU)
    sampling.write_samples(generator, options, model.config.seed, Path("samples"))
    stage = grids.grid(np.load("samples/samples.npy")[:10])
    for seed, batch_size in (("7", "3"), ("8", "10")):
        command = sample(model_file, "--seed", seed, "--steps", "5", "--batch-size", batch_size)
        assert (np.abs(command - stage).max() <= 1) == (seed == "7")


@pytest.mark.parametrize(("options", "message"), [
    (["--steps", "51"], "steps: 51"), (["-n", "0"], "sample: count: 0"),
    (["--batch-size", "-1"], "sample: batch_size: -1"),
    (["--sampler", "ddmi"], "--sampler.name: unknown 'ddmi' (did you mean 'ddim'?)"),
    (["--device", "gpu"], "device: 'gpu'"), (["--out", "grid.npy"], 'ddpm sample: invalid value "grid.npy" for --out'),
    (["--model", "nowhere.safetensors"], "nowhere.safetensors: "), (["--model", "."], "model.safetensors: "),
    (["--class", "3"], "sample.classes: "), (["--guidance", "2"], "sample.guidance.weight: 2"),
])  # fmt: skip
def test_a_wrong_option_is_refused(model_file, capsys, options, message):
    given = {"--model": str(model_file), "--steps": "5"} | dict(zip(options[::2], options[1::2], strict=True))
    line = refused(capsys, "sample", *(word for option in given.items() for word in option))
    assert line.startswith(message)
    assert not list(Path().iterdir())


def test_a_part_that_is_refused_is_not_missing_as_well(model_file, capsys):
    line = refused(capsys, "sample", "--model", str(model_file), "--seed", "-1")
    assert line == "sample: seeds.0: -1 is not allowed: Input should be greater than or equal to 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summry"], 'ddpm: unknown command "summry". Did you mean "summary"?'),
        (["study", "statu"], 'ddpm study: unknown command "statu". Did you mean "status"?'),
        (["runs", "--jso"], "ddpm runs: unknown option: --jso. Did you mean --json?"),
        (["score", "photos", "--name", "g"], "ddpm score: --seed: "),
        (["score", "photos", "--seed", "0", "--out", "r.txt"], 'ddpm score: invalid value "r.txt" for --out'),
        (["score", "photos", "--seed", "0", "--extractor", "inception"], "--extractor: inception"),
        (["report", "--out", "r.txt"], 'ddpm report: invalid value "r.txt" for --out'),
        (["sample", "-n", "many"], "ddpm sample: invalid value for -n: "),
        (["compare", "--by", "seed", "--may-differ", "cod"], 'ddpm compare: invalid value "cod" for --may-differ'),
        (["gate", "--update", "--json"], "ddpm gate: "),
        (["preset", "nowhere"], "preset: unknown 'nowhere'"),
        (["study", "params", "studies/targets.yaml"], "ddpm study params: ARM: missing"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(capsys, arguments, message):
    assert refused(capsys, *arguments).startswith(message)

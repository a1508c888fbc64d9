"""Training that starts from a model: its weights, what has to fit, what it cost, and the same bytes after a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.model.model_file import load_model, read_tensors, write_tensors
from ddpm.training import flops, teacher
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from tests.small import CPU, PARAMS, Memory, pictures, small

UNET, DIFFUSION = PARAMS["model"]["unet"], PARAMS["diffusion"]

pytestmark = pytest.mark.usefixtures("folder")


def starting(path: Path, may_differ: tuple[str, ...] = (), train=None, **sections):
    """The small config, started from a file."""
    begun = {"start_from": f"{path}@{sha256(path)}", "start_may_differ": list(may_differ)}
    return small(train={**begun, **(train or {})}, **sections)


def trained(config, out: str, log: Memory | None = None) -> Path:
    checkpoints = Checkpoints(out)
    train(config.training(), pictures(), CPU, Path(out), checkpoints, log or Memory())
    checkpoints.finish()
    return Path(out, "model.safetensors")


@pytest.mark.parametrize("other", [
    {}, {"train": {"posthoc": {"lengths": [0.05, 0.1]}}}, {"diffusion": {**DIFFUSION, "loss": {"name": "p2"}}},
])  # fmt: skip
def test_weights_and_averages_are_those_of_the_file(model_file, other):
    trainer = Trainer(starting(model_file, **other).training(), pictures(), CPU)
    weights = load_model(model_file, CPU).network.state_dict()
    torch.testing.assert_close(dict(trainer.student.network.state_dict()), dict(weights), rtol=0, atol=0)
    for ema in trainer.student.averages.emas:
        torch.testing.assert_close(ema.averages, dict(weights), rtol=0, atol=0)


@pytest.mark.parametrize(("may_differ", "sections", "fresh"), [
    ("model.classes", {"model": {"classes": 3}}, {"classes"}),
    ("diffusion.parameterization.name", {"diffusion": {**DIFFUSION, "parameterization": {"name": "x0"}}}, set()),
    ("data.channels", {"data": {"channels": 3}}, {"stem", "head"}),
    ("data", {"data": {"image_size": [8, 16]}}, set()),
    ("model", {"model": {"unet": {**UNET, "blocks": 2}}}, {"down", "up"}),
    ("diffusion.loss", {"diffusion": {**DIFFUSION, "loss": {"name": "mean_flow"}}}, {"span"}),
])  # fmt: skip
def test_what_differs_is_refused_by_name_or_left_at_its_init(model_file, may_differ, sections, fresh):
    refusal = rf"^train\.start_from: .* differs in {may_differ}.* allowed: .*start_may_differ"
    with pytest.raises(UserError, match=refusal):
        teacher.read(starting(model_file, **sections).training())
    config = starting(model_file, (may_differ,), **sections).training()
    images, labels = np.zeros((9, *config.data.shape), np.uint8), np.zeros(9, np.int64)
    ours = Trainer(config, images, CPU, labels=labels).student.network.state_dict()
    theirs = load_model(model_file, CPU).network.state_dict()
    left = {name for name in ours if name not in theirs or ours[name].shape != theirs[name].shape}
    assert {name.partition(".")[0] for name in left} == fresh
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() - left)
    init = Trainer(small(**sections).training(), images, CPU, labels=labels).student.network.state_dict()
    assert all(torch.equal(ours[name], init[name]) for name in left)


@pytest.mark.parametrize(("value", "key"), [
    ("model.safetensors", r"train\.start_from: 'model\.safetensors'.*FILE@SHA256"),
    ("{file}@" + "0" * 64, "start_from: .*: its sha256 is"),
    ("none.safetensors@" + "0" * 64, r"start_from: .*none\.safetensors"),
    ("n" * 300 + "@" + "0" * 64, "start_from: .*name too long"),
    (f"damaged@{files.digest(0)}", "start_from: damaged: its sha256 is"), (None, "start_may_differ"),
])  # fmt: skip
def test_another_file_is_refused(model_file, value, key):
    Path("damaged").write_bytes(model_file.read_bytes()[:-1])
    start = {"start_from": value and value.format(file=model_file), "start_may_differ": ["model"]}
    with pytest.raises(UserError, match=key):
        teacher.read(small(train=start).training())


def test_the_model_has_the_cost_of_all_teachers_and_never_a_guess(model_file):
    once = load_model(trained(starting(model_file), "once"), CPU)
    image = float(flops.per_image(small().training()))
    assert once.facts["teacher_flops"] == image * 8 * 60
    assert teacher.training_flops(once) == image * 8 * (60 + 12)
    train = {key: value for key, value in once.written["train"].items() if key != "batch_size"}
    assert teacher.training_flops(once._replace(written={**once.written, "train": train})) is None
    assert teacher.training_flops(once._replace(facts={"steps": 12, "teacher_flops": None})) is None
    tensors, metadata = read_tensors(model_file, "model", CPU)
    write_tensors(Path("odd.safetensors"), tensors, metadata | {"facts": [1]})
    with pytest.raises(UserError, match=r"odd\.safetensors: "):
        load_model(Path("odd.safetensors"), CPU)

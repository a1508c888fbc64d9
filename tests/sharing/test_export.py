"""Shared models: the folder, its card, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.model import build
from ddpm.model.model_file import load_model, read_tensors, save_model, write_tensors
from ddpm.runs import library
from ddpm.sharing import card
from ddpm.tracking import view
from tests.processed import write_noise
from tests.scored import result
from tests.small import CPU, small

POSTHOC = {"lengths": [0.05, 0.1], "snapshots": 16}


@pytest.fixture(autouse=True)
def _apart(folder, monkeypatch) -> None:
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))


def model(path: str = "model.safetensors", **sections) -> Path:
    settings = small(**sections).training()
    save_model(Path(path), build.network(settings).state_dict(), settings, {"steps": 12})
    return Path(path)


def test_the_same_model_is_exported_as_the_same_bytes_and_its_card_says_its_classes():
    path = model(model={"classes": 3})
    for name in ("one", "two"):
        card.export_model(path, Path(name) / "out")
    assert sha256(Path("one/out")) == sha256(Path("two/out"))
    text = Path("one/out/README.md").read_text()
    assert "| classes | 3 |" in text
    assert "unconditional" not in text


def test_what_others_wrote_into_a_model_file_is_no_markup():
    tag, path = "<b>x</b>", model(model={"classes": 2})
    tensors, metadata = read_tensors(path, "model", CPU)
    metadata["config"]["train"]["batch_size"] = tag
    metadata["facts"] = {"steps": tag, "classes": {"names": [tag, "b"], "counts": [1, 1]}}
    write_tensors(path, tensors, metadata)
    card.export_model(path, Path("out"))
    assert tag not in Path("out/README.md").read_text().partition("```yaml")[0]
    del metadata["config"]["train"]
    write_tensors(path, tensors, metadata)
    card.export_model(path, Path("without"))
    assert "an unknown number of images" in Path("without/README.md").read_text()


def test_the_scores_of_the_working_folder_s_model_are_given_and_never_those_of_another(monkeypatch):
    Path("params.yaml").write_text(json.dumps(small().to_dict()))
    monkeypatch.setattr(library, "current", lambda config: result(fd=1.5))
    monkeypatch.setattr(view, "origin", lambda: {view.COMMIT: "the commit", view.DIRTY: "true"})
    write_noise(Path("data/processed"), 1, 8, 8)
    card.export_model(model("data/model/model.safetensors"), Path("out"))
    text = Path("out/README.md").read_text()
    assert "| classifier.fd | lower | 1.5 |" in text
    assert "`the commit` with uncommitted changes" in text
    other = Path("other.safetensors")
    loaded = load_model(Path("data/model/model.safetensors"), CPU)
    changed = {key: tensor + 1 for key, tensor in loaded.network.state_dict().items()}
    save_model(other, changed, loaded.config, {"steps": 12})
    third = model("third", train={"steps": 9})
    averaged = small(sample={"ema_length": 0.1}, train={"posthoc": POSTHOC})
    for path, reason in ((other, "is another model"), (third, "params.yaml is another model's")):
        text = card.render_card(path, load_model(path, CPU), "out")
        assert reason in text
        assert "classifier.fd" not in text
        assert "the commit" not in text
    Path("params.yaml").write_text(json.dumps(averaged.to_dict()))
    path = model("data/model/model.safetensors", train={"posthoc": POSTHOC})
    with pytest.raises(UserError, match="another average"):
        card.find_facts(path, load_model(path, CPU))


def test_the_models_that_come_with_the_repository_are_those_of_their_cards():
    models = Path(__file__).parents[2] / "models"
    classes = {"cifar10": 10, "digits": 10, "fashion_mnist": 10, "flowers": 5}
    assert {path.parent.name for path in models.glob("*/model.safetensors")} == classes.keys()
    for name, count in classes.items():
        file, text = models / name / "model.safetensors", (models / name / "README.md").read_text()
        assert f"| `{sha256(file)}` |" in text
        assert file.stat().st_size < 5e6
        assert load_model(file, torch.device("cpu")).config.model.classes == count
        assert f"| classes | {count}: " in text
        assert f"ddpm sample --model models/{name} " in text


@pytest.mark.parametrize("taken", ["out", "out/kept.txt"])
def test_nothing_is_replaced(taken):
    path = model()
    Path("out").mkdir()
    Path("out/kept.txt").touch()
    with pytest.raises(UserError, match="already exists"):
        card.export_model(path, Path(taken))
    assert [path.name for path in Path("out").iterdir()] == ["kept.txt"]

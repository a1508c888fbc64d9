"""Images that are no squares, and of other than 1 or 3 channels, from raw files to scores and pictures."""

import numpy as np
from PIL import Image

from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split
from ddpm.evaluation import evaluation
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.fingerprint import comparable
from ddpm.model.model_file import load_model, save_model
from ddpm.sampling.generator import Generator, forward_picture, write_samples
from ddpm.scoring.reference import make_reference, read_reference
from ddpm.training.trainer import Trainer
from ddpm.variants.extractors.classifier import Classifier
from tests.peers import exact
from tests.small import CPU, small

EVALUATE = {"metrics": ["fid", "prc"], "prc_neighborhood": 1, "likelihood": {"images": 4}}


def test_images_of_8x12_from_raw_files_to_scores(tmp_path, monkeypatch):
    quick = Classifier(min_steps=5, epochs=1)
    monkeypatch.setattr(Classifier, "write_weights", lambda _, *arguments: quick.fit(*arguments))
    images, labels = exact.pictured(4, (3, 8, 12)).images(160)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    own = {"name": "arrays", "arrays": {"layout": "NCHW"}}
    settings = small(
        data={"image_size": [8, 12], "channels": 3, "dataset": own, "test_fraction": 0.4},
        sample={"count": 70, "batch_size": 70},
        evaluate=EVALUATE,
    )
    processed, reference, samples = tmp_path / "processed", tmp_path / "reference", tmp_path / "samples"
    settings.data.dataset.download(str(tmp_path / "own.npz"), tmp_path / "raw")
    assert preprocess(settings.data, tmp_path / "raw", processed).shape == (3, 8, 12)
    make_reference(settings.evaluate, processed, reference, CPU)
    trainer = Trainer(settings.training(), open_split(processed, "train")[0], CPU)
    for step in range(1, 5):
        trainer.step(step)
    save_model(tmp_path / "model", trainer.student.averages.shipped, settings.training(), {})
    model = load_model(tmp_path / "model", CPU)
    drawing = Generator.of(model, settings.sample, CPU)
    samples.mkdir()
    write_samples(drawing, settings.sample, 0, samples)
    forward_picture(drawing.denoiser.chain, open_split(processed, "test")[0], 0, tmp_path / "forward.png")
    job = Job(model, processed, reference, settings.evaluate, CPU)
    scored = evaluation.evaluate({0: samples / "samples.npy"}, job)
    assert np.load(samples / "samples.npy").shape == (70, 3, 8, 12)
    assert scored.nearest.shape[2:] == (3, 8, 12)
    assert {"fd", "precision", "recall"} <= scored.scores["classifier"].keys()
    assert scored.scores["bits_per_dim"] > 0
    said = comparable(read_reference(reference), settings.evaluate, settings.sample)
    assert said["images"]["size"] == [8, 12]
    for path in (tmp_path / "forward.png", samples / "grid.png", processed / "dataset.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 50

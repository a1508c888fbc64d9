"""``python -m tests.fake_cuda.run``: as JSON, what two steps of training and a drawing of each row do, each extractor
and each use of a model, and whether each fault that the fake device is for is found."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3

from ddpm.base.settings import Shape
from ddpm.compute import noise
from ddpm.model.file import Loaded
from ddpm.model.posthoc import Posthoc
from ddpm.sampling.generator import Generator
from ddpm.scoring import extractor
from ddpm.scoring.pretrained import Pretrained, View, Viewed
from ddpm.training.trainer import Trainer
from ddpm.variants.extractors import classifier, inception, random_conv
from tests.fake_cuda.device import CUDA, ROOT, fake_cuda
from tests.fake_cuda.rows import EXTRACTORS, rows
from tests.fake_cuda.uses import USES
from tests.small import pictures
from tests.test_combinations import Row, config_of


def mixed(x: Tensor) -> object:
    return x + torch.ones(3)


def looked_at(x: Tensor) -> object:
    return x.sum().item()


def chosen(x: Tensor) -> object:
    return x[x > 0]


def as_numpy(x: Tensor) -> object:
    return x.numpy()


def fetched(x: Tensor) -> object:
    return x.cpu()


def handed_over(x: Tensor) -> object:
    return torch.ones(3).to(x.device)


def drawn_by_the_host(x: Tensor) -> object:
    return torch.empty_like(x).normal_(generator=torch.Generator())


def unpinned(x: Tensor) -> object:
    return torch.ones(3).to(x.device, non_blocking=True)


def indexed_by_the_host(x: Tensor) -> object:
    return x[torch.ones(3, dtype=torch.int64)]


FAULTS = (
    mixed, looked_at, chosen, as_numpy, fetched, handed_over, drawn_by_the_host, unpinned, indexed_by_the_host
)  # fmt: skip


def found(fault: Callable[[Tensor], object]) -> str:
    """What the fake device says about it; nothing if it is not found."""
    try:
        with fake_cuda() as watched:
            x = torch.zeros(3, device=CUDA)
            watched.notes.clear()
            fault(x)
            return ", ".join(watched.notes)
    except Exception as error:
        return type(error).__name__


def report(row: Row) -> dict[str, Any]:
    """operations and notes of the second step and of a drawing, or the error and where it was."""
    config, images = config_of(row), pictures(16)
    chosen = config.train.optimizer
    posthoc = None if chosen.averages else Posthoc()
    added = {"cuda_graph": chosen.capturable, "posthoc": posthoc, "input_perturbation": 0.1}
    config = config.model_copy(update={"train": config.train.model_copy(update=added)})
    labels = np.arange(16) % 3 if row["classes"] else None
    try:
        with fake_cuda() as watched:
            trainer = Trainer(config.training(), images, CUDA, labels=labels)
            trainer.step(1)
            before = watched.operations
            watched.notes.clear()
            loss, norm = trainer.step(2)
            step = {"operations": watched.operations - before, "notes": dict(watched.notes)}
            devices = {str(loss.device), str(norm.device)}
            watched.notes.clear()
            before = watched.operations
            model = Loaded(trainer.network.eval(), config.training(), {})
            generator = Generator.of(model, config.sample, CUDA)
            watched.notes.clear()
            with torch.no_grad():
                *_, last = generator.trajectory(range(3), 0, trainer.shape)
            drawn = {"operations": watched.operations - before, "notes": dict(watched.notes)}
            return {"step": step, "drawn": drawn, "devices": sorted({*devices, str(last.device)})}
    except Exception as error:
        return failed(error)


def features(name: str) -> dict[str, Any]:
    """operations, notes and devices of the features of three images, two at a time, or the error."""
    try:
        with fake_cuda() as watched, torch.no_grad(), mock.patch.object(View, "__call__", viewed):
            chosen = extractor.get(name)
            network = Viewed(chosen.view, chosen.network()) if isinstance(chosen, Pretrained) else NETWORKS[name]()
            found = extractor.extract(network.eval(), pictures(3), 2, CUDA)
            return {
                "operations": watched.operations,
                "notes": dict(watched.notes),
                "devices": sorted({str(part.device) for part in found}),
                "shape": list(found.features.shape),
            }
    except Exception as error:
        return failed(error)


def viewed(view: View, images: Tensor) -> Tensor:
    """In place of Pillow, which resizes pictures on the host: a known wait for each batch."""
    return images.float().expand(-1, 3, -1, -1).new_empty((len(images), 3, view.size, view.size))


def random_filters() -> nn.Module:
    blank = {name: torch.ones(random_conv.RandomConv.dimensions) for name in ("mean", "scale")}
    return random_conv.Network(random_conv.draw(1) | blank)


def classes() -> nn.Module:
    return classifier.Network(Shape.of(1, 8), 3)


def no_photographs() -> nn.Module:
    """Inception without its weights."""
    with (
        mock.patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url", return_value={}),
        mock.patch.object(nn.Module, "load_state_dict"),
    ):
        return inception.Network(inception.FeatureExtractorInceptionV3("inception", inception.LAYERS))


NETWORKS = {"classifier": classes, "inception": no_photographs, "random_conv": random_filters}


def used(use: Callable[[], object]) -> dict[str, Any]:
    """notes, and the devices of the tensors that it gives, or the error."""
    try:
        with fake_cuda(looks=True) as watched:
            given = use()
            devices = {str(each.device) for each in (given,) if isinstance(each, Tensor)}
            return {"operations": watched.operations, "notes": dict(watched.notes), "devices": sorted(devices)}
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> dict[str, str]:
    """Where, in the project, and why."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"{ROOT}/ddpm/" in frame.filename]
    where = f"{frames[-1].filename.removeprefix(f'{ROOT}/')}:{frames[-1].lineno}" if frames else "?"
    return {"error": f"{where}: {type(error).__name__}: {str(error)[:300]}"}


if __name__ == "__main__":
    torch.set_num_threads(1)
    faults = {fault.__name__: found(fault) for fault in FAULTS}
    extracted = {name: features(name) for name in EXTRACTORS}
    with_noise, *others = rows()
    trained = [{"row": with_noise, **report(with_noise)}]
    quick = mock.patch.object(noise, "philox", lambda counter, key: tuple(word + key[0] for word in counter))
    with quick:  # the noise is the same in all of them: once is enough
        uses = {name: used(use) for name, use in USES.items()}
        trained += [{"row": row, **report(row)} for row in others]
    json.dump({"faults": faults, "rows": trained, "extractors": extracted, "uses": uses}, sys.stdout)

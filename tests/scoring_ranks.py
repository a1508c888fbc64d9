"""One rank of tests/evaluation/test_evaluation.py: score two sets, count its work. For torchrun."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from ddpm.compute import distributed
from ddpm.compute.distributed import Ranks
from ddpm.evaluation import evaluation
from ddpm.evaluation.bounds import Job
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features
from ddpm.scoring.networks.classifier_network import ClassifierNetwork
from tests.small import small

SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=5, kid_subset_size=150)


def model() -> Loaded:
    """Untrained, with the digits' shape."""
    torch.manual_seed(0)
    unet = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
    trained_as = small(data={"image_size": 16}, model={"unet": unet}).training()
    return Loaded(build.network(trained_as).eval().requires_grad_(False), trained_as, {})


def write_scores(sets: Path, processed: Path, reference: Path, out: Path, ranks: Ranks) -> None:
    """Write ``out``/scores-R.json, the scores of ``sets``/*.npy, and calls-R.json, the number of images that this rank
    saw."""
    calls, forward = [], ClassifierNetwork.forward

    def features(network: ClassifierNetwork, images: torch.Tensor) -> Features:
        calls.append(len(images))
        return forward(network, images)

    setattr(ClassifierNetwork, "forward", features)  # noqa: B010
    cpu = torch.device("cpu")
    paths = dict(enumerate(sorted(sets.glob("*.npy"))))
    found = evaluation.evaluate(paths, Job(model(), processed, reference, SETTINGS, cpu, ranks))
    nearest = np.asarray(found.nearest).tolist()
    (out / f"scores-{ranks.rank}.json").write_text(json.dumps([found.scores, found.sets, found.fd_n, nearest]))
    (out / f"calls-{ranks.rank}.json").write_text(json.dumps(sum(calls)))


if __name__ == "__main__":
    with distributed.join_group(torch.device("cpu")):
        write_scores(*map(Path, sys.argv[1:]), distributed.current())

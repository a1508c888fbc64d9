"""A file dropped into the folder is a metric: params.yaml accepts it, and scores, verdicts and the gate show it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm.data.processed import open_split
from ddpm.scoring import yardsticks

ROOT = Path(__file__).parents[2]
MINE = '''\
"""How many times as far from their mean the samples are as real images. Nobody 2026."""

from ddpm.scoring.metric import Metric, Score


class Mine(Metric):
    scores = (Score("spread", "higher", 0.5, "relative spread", sees=("dropped",)),)
    biased = False
    power: int = 2

    def least(self, settings, dimensions):
        return 7, "a week of images"

    def measure(self, fake, real, settings):
        own, other = (((part - part.mean(0)) ** self.power).mean() for part in (fake.features, real.features))
        return {"spread": float(own / other)}
'''
USE = """\
import json, sys
from pathlib import Path

import torch

from ddpm.base.errors import UserError
from ddpm.base.files import flatten, write_json
from ddpm.verdicts import gate
from ddpm.verdicts import metrics
from ddpm.evaluation import evaluation
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.fingerprint import fingerprint
from ddpm.base import variant
from ddpm.params import config, schema
from ddpm.params.config import Compare
from ddpm.scoring import calibration, limits, reference
from ddpm.study import plan
from tests import scoring_ranks
from tests.small import small

images, processed, real = map(Path, sys.argv[1:])
cpu = torch.device("cpu")
options = small(evaluate={"extractors": ["classifier"], "metrics": ["fid", "mine"]})
evaluate = options.evaluate
write_json(real / calibration.FILE, calibration.calibrate(evaluate, processed, real, cpu))
found = evaluation.evaluate({0: images}, Job(scoring_ranks.model(), processed, real, evaluate, cpu))
scores = flatten(found.scores)
about = fingerprint(reference.read_reference(real), evaluate, options.sample, "float32", "float32", cpu)
spread = "classifier.spread"
expected = gate.Expected(mean=9.0, sd=0.1, n=5, direction="higher")
baseline = gate.Baseline(comparable=about["comparable"], scores={spread: expected})
rule = options.model_copy(update={"gate": config.Gate(metrics=("spread",))})
checks = gate.gate(scores, about["comparable"], baseline, rule)
try:
    limits.check_counts(evaluate.model_copy(update={"metrics": ("mine",)}), {"sample.count": 6, "the train split": 99})
except UserError as error:
    refused = str(error)
print(json.dumps({
    "listed": "mine" in variant.members("metrics"),
    "schema": "mine" in json.dumps(schema.params_schema()["$defs"]["Evaluate"]),
    "floor": metrics.floor(spread, Compare()),
    "title": metrics.title(spread),
    "judged": metrics.judged(scores),
    "scores": [name for name in scores if name.endswith("spread")],
    "made by": plan.MADE_BY["spread"],
    "fingerprint": about["comparable"]["metrics"]["mine"],
    "failed": [check.name for check in checks if check.decides and check.is_worse and check.expected],
    "refused": refused,
}))
"""


@pytest.mark.long
def test_adding_a_metric_is_adding_a_file(digits: Path, classifier_reference: Path, tmp_path: Path) -> None:
    for part in ("ddpm", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(classifier_reference, tmp_path / "reference")
    (tmp_path / "ddpm/variants/metrics/mine.py").write_text(MINE)
    np.save(tmp_path / "images.npy", np.array(open_split(digits, "train")[0][:200]))

    command = [sys.executable, "-c", USE, "images.npy", str(digits), "reference"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("refused").startswith("sample.count: 6 images are too few for evaluate.metrics 'mine'")
    assert found == {
        "listed": True,
        "schema": True,
        "floor": 0.5,
        "title": "relative spread",
        "judged": ["classifier.fd", "classifier.spread"],
        "scores": [
            f"{of}classifier.spread" for of in ("", "real.", *(f"yardsticks.{name}." for name in yardsticks.NAMES))
        ],
        "made by": "mine",
        "fingerprint": {"power": 2},
        "failed": ["classifier.spread"],
    }

"""Search many values of several hyperparameters with Optuna (`pip install optuna`): a trial is a DVC experiment.

`python examples/tune_with_optuna.py 20` in the project's folder adds 20 trials; run it again to add
more. A study then shows, on seeds that no trial used, whether the best values are better than those that you had.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SEED = 3_000_000  # of the training and of the samples; no study uses it


def score(trial: Any) -> float:
    """classifier.fd with the values that the trial suggests."""
    values = {
        "seed": SEED,
        "sample.seeds": [SEED],
        "train.learning_rate": trial.suggest_float("train.learning_rate", 2e-3, 5e-2, log=True),
        "train.optimizer.muon.weight_decay": trial.suggest_float(
            "train.optimizer.muon.weight_decay", 1e-3, 0.3, log=True
        ),
    }
    settings = [f"--set-param={key}={value}" for key, value in values.items()]
    subprocess.run(["dvc", "exp", "run", f"--name=optuna-{trial.number}", *settings], check=True)
    return float(json.loads(Path("metrics/evaluate.json").read_text())["classifier"]["fd"])


if __name__ == "__main__":
    import optuna

    search = optuna.create_study(storage="sqlite:///.ddpm/optuna.db", study_name="ddpm", load_if_exists=True)
    search.optimize(score, int(sys.argv[1]), catch=(subprocess.CalledProcessError,))  # a training that diverged
    print(f"best classifier.fd {search.best_value:.4g} with {search.best_params}")

"""The embedded pipeline's scores must be those of a working model: bounds far outside what seeds and CPUs move."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# (metric, lower bound, upper bound): see README, "What comes out"
BOUNDS = (
    ("classifier.fd", 0.0, 1.5),
    ("classifier.is_mean", 8.0, 10.0),
    ("classifier.precision", 0.6, 1.0),
    ("classifier.recall", 0.6, 1.0),
)


def main() -> int:
    scores = json.loads(Path("metrics/evaluate.json").read_text())
    failed = 0
    for name, low, high in BOUNDS:
        extractor, metric = name.split(".")
        value = scores[extractor][metric]
        good = low <= value <= high
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name} = {value:.4f}, allowed {low} to {high}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

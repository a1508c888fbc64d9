"""What every recipe here is told: the same budget for each, so that only the recipes differ."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help=".npy of uint8 images, N×C×H×W")
    parser.add_argument("--out", type=Path, required=True, help=".npy to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=64_000, help="to train on, repetitions included")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--samples", type=int, default=720)
    parser.add_argument("--evaluations", type=int, default=50, help="of the network for each sample")
    return parser.parse_args()

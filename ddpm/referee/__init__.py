"""This project's runs as arms of a verdict: which may be compared, by which scores, and what forbids a verdict."""

from typing import Literal

# facts in which partners are alike, unless a plan or the user lets them differ
Alike = Literal[
    "code", "images_seen", "teacher_flops", "parameters", "evaluations", "precision", "processor", "torch", "threads",
    "kernels",
]  # fmt: skip

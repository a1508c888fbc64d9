"""A ladder on the project of tests/study_project.py, whose stages take no time."""

from pathlib import Path

FILE = Path("ladders/tiny.yaml")
LOG = Path("ladders/tiny/log.jsonl")
SCORE = {
    "question": "Which model is best?", "base": "digits_small_2026", "kind": "score", "primary": "classifier.fd",
    "cost": "images", "may_change": ["diffusion", "train", "sample.sampler"], "error": 0.5,
    "seeds": {"fewest": 6, "most": 16},
}  # fmt: skip
BETTER, WORSE = {"diffusion.schedule.name": "sigmoid"}, {"diffusion.schedule.name": "linear"}
# scores that look random, of seeds of any size
NOISE = """
    noise = (seed * 2654435761 % 2**32) / 2**32 - 0.5
    score = 2 + 0.3 * noise + (arm == "linear") * 0.8 - (arm == "sigmoid") * (0.5 + 0.1 * noise)
    extra = {"random_conv.kid_mean": 0.1 + (params["train"]["batch_size"] == 32) * 0.1 + 0.001 * noise}
"""

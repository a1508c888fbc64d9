"""A night of edits by a program: each is committed, judged by the ladder, and taken back unless it is accepted.

`python night.py spirals` in a repository of its own (docs/any-program.md) tries ten edits of train.py, of which five
cannot matter. A language model takes the place of EDITS.
"""

import json
import subprocess
import sys
from pathlib import Path

TRAIN = Path("train.py")
EDITS = {  # name -> what is replaced, and by what
    "momentum": {
        "    for _ in": "    speed = [np.zeros_like(weight) for weight in weights]\n    for _ in",
        "for weight, gradient in zip(weights,": "for weight, moving, gradient in zip(weights, speed,",
        "            weight -= lr * gradient": "            moving += gradient - 0.1 * moving\n"
        "            weight -= lr * moving",
    },
    "weights in another order": {"rng.normal(0, 1, (2, width))": "rng.normal(0, 1, (width, 2)).T"},
    "a comment": {"    unseen, belongs": "    # held out\n    unseen, belongs"},
    "an extra draw": {"        batch = rng": "        rng.random()\n        batch = rng"},
    "large batches": {"BATCH, STEPS, NOISE = 400, 32,": "BATCH, STEPS, NOISE = 400, 128,"},
    "another stream": {"np.random.default_rng(seed), spirals": "np.random.default_rng([seed, 1]), spirals"},
    "falling rate": {"        batch = rng": "        lr *= 0.995\n        batch = rng"},
    "small weights": {"rng.normal(0, 1, (2, width))": "rng.normal(0, 0.1, (2, width))"},
    "other names": {"hidden": "layer"},
    "large weights": {"rng.normal(0, 1, (2, width))": "rng.normal(0, 2, (2, width))"},
}


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, stdout=subprocess.DEVNULL)


def attempt(ladder: str, name: str) -> dict[str, object]:
    """Commit what is edited, try it, and take it back unless it is accepted."""
    git("commit", "--quiet", "--all", f"--message={name}")
    done = subprocess.run(["ddpm", "ladder", "try", ladder, "--json"], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode == 2:
        sys.exit(2)  # a mistake, which stderr has
    git("add", "ladders")
    git("commit", "--quiet", f"--message=attempt: {name}")
    if done.returncode:
        git("revert", "--no-edit", "HEAD~1")
    return json.loads(done.stdout)


def main(ladder: str) -> None:
    for name, edit in EDITS.items():
        text = TRAIN.read_text(encoding="utf-8")
        for old, new in edit.items():
            text = text.replace(old, new)
        TRAIN.write_text(text, encoding="utf-8")
        result = attempt(ladder, name)
        shown = {key: result.get(key) for key in ("outcome", "champion", "score", "seeds", "reason")}
        print(json.dumps({"edit": name} | shown), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

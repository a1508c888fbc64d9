"""A night of ideas: random changes of a recipe, judged by a ladder.

`python examples/night.py night 40` proposes 40 ideas to ladders/night.yaml. Every fourth idea does nothing: it disturbs
the input by a millionth, which only changes how numbers are rounded. A language model may take the place of `propose`.
"""

import argparse
import json
import random
import subprocess
from pathlib import Path
from typing import Any

SPACE: dict[str, list[Any]] = {  # without the values that the preset digits_short has
    "train.learning_rate": [0.001, 0.004, 0.008, 0.016],
    "train.optimizer.name": ["adam", "muon"],
    "train.timestep_sampler.name": ["logit_normal", "stratified"],
    "train.ema.constant.value": [0.5, 0.9],
    "train.warmup_steps": [0, 20],
    "train.lr_decay": ["constant"],
    "train.gradient_clip": [0.5, None],
    "diffusion.loss.name": ["min_snr", "p2"],
    "diffusion.parameterization.name": ["x0", "flow", "epsilon"],
    "diffusion.schedule.name": ["linear", "sigmoid"],
    "model.unet.scale_shift_norm": [True],
    "model.unet.dropout": [0.1],
    "sample.sampler.name": ["ddim", "dpmpp_2m"],
}


def propose(number: int) -> dict[str, Any]:
    """One to three random changes; every fourth time, one that cannot matter."""
    draw = random.Random(number)  # noqa: S311 (nothing secret)
    if number % 4 == 3:
        return {"train.input_perturbation": 1e-6 * (1 + number)}
    return {key: draw.choice(SPACE[key]) for key in draw.sample(list(SPACE), draw.randint(1, 3))}


def try_on_ladder(ladder: str, entry: Path) -> dict[str, Any]:
    """The result of `ddpm ladder try`, committed: the next attempt needs that. Exit code 2 is an idea that may not run,
    such as one that changes nothing."""
    command = ["ddpm", "ladder", "try", ladder, str(entry), "--json"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1, 3):
        return {"entry": entry.stem, "outcome": "mistake"}
    subprocess.run(["git", "add", f"ladders/{ladder}"], check=True)
    subprocess.run(["git", "commit", "--quiet", f"--message=ladder {ladder}: {entry.stem}"], check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(ladder: str, ideas: int, first: int = 0) -> None:
    """Print a line of JSON for each idea."""
    Path("ideas").mkdir(exist_ok=True)
    for number in range(first, ideas):
        entry = Path(f"ideas/idea-{number}.yaml")
        entry.write_text(json.dumps(propose(number)))  # JSON is YAML
        print(json.dumps(try_on_ladder(ladder, entry)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ladder", help="its name in ladders/; params.yaml has to be its base")
    parser.add_argument("ideas", type=int)
    parser.add_argument("--first", type=int, default=0, help="go on with this idea after a stop")
    main(**vars(parser.parse_args()))

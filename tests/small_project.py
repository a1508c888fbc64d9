"""A working folder for stages, and params in it that make each of them take a second."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages import __main__ as runner

ROOT = Path(__file__).parents[1]
# the digits preset in a second: a tiny network on a short chain, 20 steps
QUICK = {
    "launch": {"processes": 1},
    "diffusion": {"T": 20},
    "model": {"unet": {"base_channels": 8, "multipliers": [1, 2], "groups": 4}},
    "train": {"steps": 20, "batch_size": 8, "precision": "float32", "checkpoint_every": 10, "warmup_steps": 1},
    "sample": {"count": 120, "batch_size": 64, "steps": 5, "precision": "float32"},
    "evaluate": {"kid_subsets": 5, "kid_subset_size": 50, "likelihood": {"images": 8, "timesteps": 5}},
}


def lay_out(folder: Path, processed: Path | None = None, **changes) -> None:
    """A folder in which ``python -m stages NAME`` works, with the digits preset's params and ``changes`` to them. With
    ``processed``, download and preprocess have run."""
    for name in ("ddpm", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_bytes((ROOT / "ddpm/presets/digits_2026.yaml").read_bytes())
    set_params(folder, **changes)
    (folder / "data").mkdir()
    (folder / "data/checked").touch()
    if processed:
        (folder / "data/processed").symlink_to(processed)


def set_params(folder: Path = Path(), **changes) -> None:
    """changes: as in params.yaml; a key that it has not is added."""
    path = folder / "params.yaml"
    params = merged(yaml.load(path.read_text(), yaml.CSafeLoader), changes)
    path.write_text(yaml.dump(params, Dumper=yaml.CSafeDumper))  # a tenth of the time of those in Python


def merged(base: dict, values: dict) -> dict:
    sections = {key: value for key, value in values.items() if isinstance(value, dict)}
    return base | values | {key: merged(base.get(key) or {}, value) for key, value in sections.items()}


def run_stage(stage: str, edit: Callable[[], None] = lambda: None) -> int:
    """The stage's exit code; ``edit`` is called just after it starts."""
    module = importlib.import_module(f"stages.{stage}")
    main = module.main

    def edited(*handed) -> None:
        edit()
        main(*handed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "main", edited)
        with pytest.raises(SystemExit) as ended:
            runner.run(stage)
    return int(ended.value.code or 0)

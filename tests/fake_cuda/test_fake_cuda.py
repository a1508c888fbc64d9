"""Every variant takes two steps and draws images on a GPU that is not there, and never waits for it; what a model is
used for waits where it has to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm.scoring import extractor
from tests.fake_cuda.device import ROOT
from tests.fake_cuda.rows import EXTRACTORS, rows
from tests.test_combinations import SHELVES

pytestmark = pytest.mark.slow
SHIM = Path(__file__).parent / "shim.cpp"
# once for a batch of images, before the first step of the sampler
ONCE = {
    "the device waits for the host, in ddpm/sampling/generator.py:trajectory",
    "the device waits for the host, in ddpm/sampling/generator.py:conditioned",
}
# images in and features out, a batch at a time
FETCHED = {
    f"the {side}, in ddpm/scoring/extractor.py" for side in ("device waits for the host", "host waits for the device")
}
# by use of a model, in which files who waits for whom, but for what is copied to the device once
HOST, DEVICE, LOOK = "the host waits for the device", "the device waits for the host", "the host looks at values"
LIKELIHOOD, EXCESS = "ddpm/evaluation/likelihood.py", "ddpm/evaluation/excess.py"
MEMORISATION, FRECHET = "ddpm/scoring/memorisation.py", "ddpm/scoring/frechet.py"
WAITS: dict[str, set[tuple[str, str]]] = {
    "guided_by_another_model": {(DEVICE, "ddpm/sampling/generator.py")},
    "inpainted": set(),
    "varied": set(),
    "interpolated": set(),
    "bound": {(HOST, LIKELIHOOD), (DEVICE, LIKELIHOOD)},
    "likelihood_by_the_ode": {(HOST, LIKELIHOOD), (DEVICE, LIKELIHOOD)},
    "smallest_error": {(HOST, EXCESS), (DEVICE, EXCESS), (LOOK, EXCESS)},
    "nearest_train_images": {(HOST, MEMORISATION), (DEVICE, MEMORISATION)},
    "frechet_distances": {(DEVICE, FRECHET), (LOOK, FRECHET)},
    "fitted_classifier": {(DEVICE, "ddpm/variants/extractors/classifier.py")},
}
TABLE = "ddpm/diffusion/chain.py:__init__"


@pytest.fixture(scope="module")
def seen(once: Callable[[str, Callable[[Path], object]], Path]) -> dict[str, Any]:
    compiler = shutil.which("c++")
    if not compiler or sys.platform != "linux" or torch.cuda.is_available():
        pytest.skip("needs a C++ compiler, Linux, and no real GPU")
    found: dict[str, Any] = json.loads(
        (once("fake_cuda", lambda folder: run(compiler, folder)) / "seen.json").read_text()
    )
    return found


def run(compiler: str, folder: Path) -> None:
    """Write seen.json: a minute of work."""
    torch_folder, library = Path(torch.__file__).parent, folder / "libshim.so"
    places = [f"-I{torch_folder}/include", f"-L{torch_folder}/lib", f"-Wl,-rpath,{torch_folder}/lib"]
    flags = ["-O0", "-std=c++20", "-shared", "-fPIC", "-lc10", "-ltorch_cpu"]
    subprocess.run([compiler, str(SHIM), "-o", str(library), *places, *flags], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fake_cuda.run"],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "seen.json").write_text(done.stdout)


def test_the_fake_device_finds_what_a_real_one_would_refuse_or_wait_for(seen: dict[str, Any]) -> None:
    faults = seen["faults"]
    assert {name for name, what in faults.items() if not what} == set()
    assert faults["fetched"].startswith("the host waits for the device")
    assert faults["handed_over"].startswith("the device waits for the host")
    assert faults["drawn_by_the_host"].startswith("a CPU generator for a CUDA tensor")
    assert faults["unpinned"].startswith("a copy that cannot go on alone")
    assert faults["indexed_by_the_host"].startswith("an index on the host")


def test_the_rows_have_every_variant() -> None:
    for family, shelf in SHELVES.items():
        assert {row[family] for row in rows()} == set(shelf)


@pytest.mark.parametrize("place", range(len(rows())))
def test_a_step_and_a_drawing_stay_on_the_device(seen: dict[str, Any], place: int) -> None:
    found = seen["rows"][place]
    assert "error" not in found, found
    assert found["devices"] == ["cuda:0"]
    assert found["step"]["notes"] == {}, found["row"]
    assert set(found["drawn"]["notes"]) <= ONCE, found["row"]
    assert set(found["drawn"]["notes"].values()) == {1}
    assert found["step"]["operations"] > 100


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_are_made_on_the_device_and_fetched_a_batch_at_a_time(seen: dict[str, Any], name: str) -> None:
    found = seen["extractors"][name]
    assert "error" not in found, found
    assert found["devices"] == ["cpu"]  # where metrics get them
    assert found["shape"] == [3, extractor.get(name).dimensions]
    assert {what.rpartition(":")[0] for what in found["notes"]} <= FETCHED, found


@pytest.mark.parametrize("name", WAITS)
def test_what_a_model_is_used_for_waits_only_where_it_has_to(seen: dict[str, Any], name: str) -> None:
    found = seen["uses"][name]
    assert "error" not in found, found
    assert set(found["devices"]) <= {"cuda:0"}
    notes = [what.split(", in ") for what in found["notes"]]
    here = {(what, where.partition(":")[0]) for what, where in notes if where not in {TABLE, "elsewhere"}}
    assert here == WAITS[name]


def test_each_use_of_a_model_is_checked(seen: dict[str, Any]) -> None:
    assert seen["uses"].keys() == WAITS.keys()

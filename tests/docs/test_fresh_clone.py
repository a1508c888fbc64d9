"""The pages' first commands, as they are printed, in a fresh clone with a folder of photos.

Blocks marked ``run: clone`` run here, page by page and in order, by the real commands: parsing, git, plans, costs,
records and DVC are real. Only stages/__main__.py is another, whose stages make what dvc.yaml lists in no time.
"""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clone import environment
from tests.pages import ROOT, blocks
from tests.study_project import commit, git

CLONED = [block for block in blocks() if block.mark == "run: clone"]
# a search takes as long as it is allowed to, and an image of flowers a tenth of a second a step
SHORT = {"--hours 1": "--trials 5", "--model models/flowers ": "--model models/flowers -n 2 --steps 2 "}
# whose exit codes 1 and 3 are answers, such as "refused"; the codes of a traceback and of a mistake are 1 and 2
ANSWERS = re.compile(r"ddpm (ladder (search|try|audit)|study run)")
STAGES = """
import pathlib, sys

import yaml


def preload():
    import numpy, ddpm.params.inputs, ddpm.runs.library, ddpm.study.loading


def prepare(device):
    return "a CPU"


def run_here(stage, films=True):
    texts = (pathlib.Path(name).read_text() for name in ("params.yaml", "dvc.yaml"))
    params, pipeline = (yaml.load(text, yaml.CSafeLoader) for text in texts)
    listed = pipeline["stages"][stage]
    for out in (out for kind in ("outs", "metrics", "plots") for out in listed.get(kind, [])):
        path = pathlib.Path(out if isinstance(out, str) else next(iter(out)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.write_text("{}" if path.suffix == ".json" else f"{stage} {params}")
    if stage in ("preprocess", "sample", "evaluate"):
        finish(stage, params)


def finish(stage, params):
    import numpy as np
    from ddpm.params import config
    from ddpm.runs import record

    whole = config.parse(params)
    if stage == "preprocess":
        test = pathlib.Path("data/processed/test")
        test.unlink()
        test.mkdir()
        np.save(test / "images.npy", np.zeros((16, *whole.data.shape), np.uint8))
    if stage == "sample":
        pathlib.Path("data/samples").unlink()
        pathlib.Path("data/samples").mkdir()
        np.save("data/samples/samples.npy", np.zeros((whole.sample.count, *whole.data.shape), np.uint8))
    if stage == "evaluate":
        record.write_record(scored(params, whole), pathlib.Path("metrics/run.json"))


def scored(params, whole):
    import numpy as np
    from ddpm.base import files
    from ddpm.params import inputs
    from ddpm.runs import library, record
    from ddpm.study import loading

    seed, comparable = params["seed"], {"samples": whole.sample.count, "sampling": {"steps": whole.sample.steps}}
    score = 0.2 + np.random.default_rng(seed).normal(0, 0.01) - 0.1 * (whole.train.learning_rate == 4e-3)
    known = library.relevant(whole.flat())
    return record.Record(
        name="workspace", seed=seed, scores=dict.fromkeys(sorted(loading.future_scores(whole)), score), params=known,
        finished=record.now(), fingerprint=record.Fingerprint(hash=files.digest(comparable), comparable=comparable),
        costs=record.Costs(images_seen=1, parameters=1, evaluations=1, seconds={"train": 1.0}),
        environment={"processor": "a CPU", "training_precision": "float32"},
        code={dep: files.md5(pathlib.Path(dep))[:12] for dep in inputs.list_code(params)},
    )


if __name__ == "__main__":
    run_here(sys.argv[1])
"""


@pytest.fixture(scope="session")
def fresh(once) -> Path:
    """A clone as anybody has it after `make setup`, with photos next to it. Read only."""

    def make(folder: Path) -> None:
        listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
        for path in (Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
        (folder / "stages/__main__.py").write_text(STAGES)
        git("init", "--quiet", "--initial-branch=main", "--template=", at=folder)
        git("config", "gc.auto", "0", at=folder)  # or it packs in the background, while the clone is copied
        commit("a clone", at=folder)
        (folder / ".venv/bin").mkdir(parents=True)
        for name in (".ready", "bin/activate"):
            (folder / ".venv" / name).touch()
        for kind in ("cats", "dogs"):
            (folder / "photos" / kind).mkdir(parents=True)
            for number in range(80):
                pixels = np.full((40, 40, 3), number, np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / kind / f"{number}.png")

    return once("fresh-clone", make)


def test_what_ci_is_said_to_run_is_in_its_script_in_that_order():
    lines = iter((ROOT / ".ci/run").read_text().replace(".venv/bin/", "").splitlines())
    (block,) = (block for block in blocks() if block.mark == "run: .ci/run")
    assert all(any(line.split() == words for line in lines) for words in block.lines), block.text


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in CLONED))
def test_what_a_page_prints_works_in_a_fresh_clone(page, fresh, tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(fresh, clone)
    (clone / ".venv/bin/activate").write_text(f"# {clone}/.venv")
    tiny = {"DDPM_TRACKING": "off", "OMP_NUM_THREADS": "1", "ARGS": "tests/base/test_errors.py"}
    text = "".join(block.text.replace("\\\n", " ") for block in CLONED if block.page == page)
    for whole, short in SHORT.items():
        text = text.replace(whole, short)
    for line in text.splitlines():
        bash = {"cwd": clone, "env": environment(clone) | tiny, "capture_output": True, "text": True}
        done = subprocess.run(["bash", "-c", line], **bash)
        assert done.returncode in ({0, 1, 3} if ANSWERS.match(line) else {0}), (line, done.stdout[-999:], done.stderr)
        assert "Traceback" not in done.stderr, (line, done.stderr)

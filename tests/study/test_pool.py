"""Experiments in processes that are forked from one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ddpm.arms.pool import Pool, Task
from ddpm.base.paths import RUN
from ddpm.runs import record
from tests.small_project import QUICK, ROOT, lay_out

CODE = ("ddpm", "stages", "dvc.yaml")


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """The project's code, in a folder; the working folder is another one."""
    for name in CODE:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / name).symlink_to(ROOT / name)
    (tmp_path / "here").mkdir()
    lay_out(tmp_path / "here", **QUICK)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DDPM_TRACKING", "off")
    return tmp_path / "code"


def task(seed: int, **changes: object) -> Task:
    params = yaml.safe_load(Path("params.yaml").read_text()) | {"seed": seed, **changes}
    return Task(f"seed {seed}", params, Path(f"logs/{seed}.log"))


@pytest.mark.slow
def test_a_run_in_one_process_has_the_record_of_the_stages_one_by_one(code):
    with Pool(code, 2) as pool:
        for seed in (0, 1):
            pool.submit(task(seed))
        done = {each.task.name: each for each in pool.results()}
    assert [each.reason for each in done.values()] == ["", ""]
    for stage in ("check", "download", "preprocess", "reference", "train", "sample", "evaluate"):
        subprocess.run([sys.executable, "-m", "stages", stage], check=True)
    ours, by_stages = done["seed 0"].record, record.read_record(RUN)
    assert (ours.scores, ours.params, ours.fingerprint) == (by_stages.scores, by_stages.params, by_stages.fingerprint)
    assert ours.scores != done["seed 1"].record.scores
    assert {"ddpm/training", "stages/train.py", "stages/evaluate.py"} <= ours.code.keys()
    # data and reference stay for the next one; runs and models go with their records
    left = {path.name.partition("-")[0] for path in Path(".ddpm/runs").iterdir() if path.is_dir()}
    assert left == {"download", "preprocess", "reference"}


def run_one(code: Path, **where: Path) -> dict[str, float]:
    """The scores of a run of 400 steps."""
    steps = yaml.safe_load(Path("params.yaml").read_text())["train"] | {"steps": 400}
    with Pool(code, 1, **where) as pool:
        pool.submit(task(3, train=steps))
        [done] = pool.results()
    return done.record.scores


@pytest.mark.slow
def test_a_kill_loses_the_steps_since_the_last_checkpoint_at_most(code):
    whole, log = run_one(code, clean=Path("elsewhere")), Path("logs/3.log")
    script = (
        "import sys; from pathlib import Path; from tests.study import test_pool as t; t.run_one(Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for victim in ("child", "server", "parent"):
        log.unlink()
        process = subprocess.Popen([sys.executable, "-c", script, str(code)], env=environment)
        while not (saved := [*Path(".ddpm/checkpoints").glob("*/*.safetensors")]) and process.poll() is None:
            time.sleep(0.02)
        assert saved
        [server] = psutil.Process(process.pid).children()
        [child] = server.children()
        {"child": child, "server": server, "parent": psutil.Process(process.pid)}[victim].send_signal(signal.SIGKILL)
        process.wait(timeout=120)
        psutil.wait_procs([server, child], timeout=120)
        assert run_one(code) == whole, victim
        assert "resuming after step" in log.read_text(), victim


def test_at_its_time_it_stops_what_still_runs(tmp_path):
    """The server answers for two of three tasks at once, and has no answer for the third."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    (tmp_path / "stages/maker.py").write_text(f"""
import json, os, sys
def main():
    names = [json.loads(sys.stdin.readline())["name"] for _ in range(2)]
    os.write(1, b"".join(json.dumps({{"name": name, "reason": "none"}}).encode() + b"\\n" for name in names))
    sys.stdin.read()
    open({str(tmp_path / "ended")!r}, "w")
""")
    with Pool(tmp_path, 3) as pool:
        for name in "abc":
            pool.submit(Task(name, {}, tmp_path / "log"))
        answers = pool.results()
        assert [next(answers).task.name for _ in "ab"] == ["a", "b"]
        assert [*pool.results(time.monotonic() + 0.1)] == []
    assert (tmp_path / "ended").exists()

"""A study under Slurm: an array job on two nodes, one of which loses power in mid-training. ``make slurm`` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing

ROOT = Path(__file__).parents[2]
LINES = 6
SMALL = (
    "train.steps: 240, train.warmup_steps: 10, train.checkpoint_every: 5, sample.count: 200, sample.steps: 4, "
    "evaluate.likelihood.images: 4, evaluate.kid_subset_size: 100"
)
STUDY = f"""\
question: Which schedule?
base: digits_small
variants:
  cosine: {{diffusion.schedule.name: cosine, {SMALL}}}
  linear: {{diffusion.schedule.name: linear, {SMALL}}}
looks: [6]
"""
JOB = """\
#!/bin/bash
#SBATCH --array=1-{lines} --requeue --open-mode=append --output={out}/%a.txt
echo "on $SLURMD_NODENAME, restart ${{SLURM_RESTART_COUNT:-0}}"
exec {python} -c 'from ddpm.cli import main; main()' study run studies/grid.yaml --line $SLURM_ARRAY_TASK_ID
"""


@pytest.mark.slurm
@pytest.mark.skipif(bool(missing()), reason=f"Slurm and munge are not installed: {', '.join(missing())}")
def test_what_a_lost_node_was_training_goes_on_elsewhere_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    project, out, scratch = (tmp_path / name for name in ("project", "out", "cluster"))
    for folder in (out, scratch):
        folder.mkdir()
    git("clone", "--quiet", str(ROOT), str(project), at=tmp_path)
    (project / "studies/grid.yaml").write_text(STUDY)
    git("add", "--all", at=project)
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "grid", at=project)
    (tmp_path / "job.sh").write_text(JOB.format(lines=LINES, out=out, python=sys.executable))

    with Cluster(scratch) as cluster:
        assert cluster.run("sbatch", str(tmp_path / "job.sh"), cwd=project).startswith("Submitted")
        checkpoints = project / ".ddpm/checkpoints"
        cluster.wait(lambda: len(list(checkpoints.glob("*/*.safetensors"))) >= 4, "no training", seconds=300)
        lost = cluster.run("squeue", "-h", "-t", "R", "-w", "b", "-o", "%K")
        cluster.kill_node("b")
        cluster.wait(lambda: cluster.run("squeue", "-h") == "", "jobs are left", seconds=1200)

    shown = {line: (out / f"{line}.txt").read_text() for line in range(1, LINES + 1)}
    refs = git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps", at=project).split()
    assert len(refs) == LINES, shown
    assert "on b, restart 0" in shown[int(lost)]
    assert "on a, restart" in shown[int(lost)]
    (name,) = (each for each in refs if each in shown[int(lost)])
    assert "resuming after step" in (project / f".ddpm/studies/grid/{name}.log").read_text()
    print("\n".join(f"{line}: {' | '.join(text.splitlines())}" for line, text in shown.items()))


def git(*arguments: str, at: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True).stdout

"""action.yml: its shell steps, with programs in place of `ddpm` and of GitHub's `gh`."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ACTION = yaml.safe_load((Path(__file__).parents[2] / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}


def run(name: str, folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A step as a runner does it: bash that stops at the first error, with each ``${{ ... }}`` filled in."""

    def fill(text: str) -> str:
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)

    step = STEPS[name]
    environment = {key: fill(value) for key, value in step.get("env", {}).items()}
    files = {key: str(folder / key) for key in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    path = f"{folder}/bin:{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", fill(step["run"])]
    options = {"cwd": folder, "env": environment | files | {"PATH": path}, "capture_output": True, "text": True}
    return subprocess.run(command, **options)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("code", "title", "confirm", "old"), [
    (0, "pass", "true", ""), (1, "regression", "false", "17"),
    (2, "no verdict", "true", "17"), (3, "alarm", "false", ""),
])  # fmt: skip
def test_the_gate_becomes_one_comment_and_its_exit_code_the_job_s(tmp_path, code, title, old, confirm):
    out = "echo an error >&2" if code == 2 else "echo 'the table of' \"$@\""
    program(tmp_path, "ddpm", f"echo what DVC prints >&2; {out}; exit {code}")
    answers = f"'api user'*) echo denied; exit 1;; *env.ME*) [ \"$ME\" = 'github-actions[bot]' ] && printf '{old}';;"
    program(tmp_path, "gh", f'echo "$@" >> calls; case "$*" in {answers} esac')
    values = {"runner.temp": str(tmp_path), "github.repository": "owner/name", "github.event.number": "7",
              "inputs.token": "secret", "inputs.confirm": confirm}  # fmt: skip
    assert run("Install, unless an earlier step has", tmp_path, {"github.action_path": "nowhere"}).returncode == 0
    assert run("Judge", tmp_path, values).returncode == 0
    table = (tmp_path / "ddpm-gate.md").read_text()
    assert table.startswith(f"<!-- ddpm gate -->\n### `ddpm gate`: {title}\n")
    table_of = f"the table of gate{' --confirm' * (confirm == 'true')}"
    assert table.splitlines()[4:-1] == ["an error" if code == 2 else table_of]
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == table
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"code={code}\n"
    assert run("Comment", tmp_path, values).returncode == 0
    _, _, write = (tmp_path / "calls").read_text().splitlines()
    where = "--method PATCH repos/owner/name/issues/comments/17" if old else "repos/owner/name/issues/7/comments"
    assert write == f"api --silent {where} --field body=@{tmp_path}/ddpm-gate.md"
    assert run("Fail if the gate did", tmp_path, {"steps.gate.outputs.code": str(code)}).returncode == code


def test_names_in_the_table_cannot_end_its_fence(tmp_path):
    hostile = "arm\n`````\n[click](https://example.org)"
    program(tmp_path, "ddpm", f"printf '%s' '{hostile}'; exit 1")
    assert run("Judge", tmp_path, {"runner.temp": str(tmp_path), "inputs.confirm": "false"}).returncode == 0
    _, _, _, begin, *table, end = (tmp_path / "ddpm-gate.md").read_text().splitlines()
    assert (begin, "\n".join(table), end) == ("``````text", hostile, "``````")

"""No pickle is loaded, no port is open to others, no secret is logged, and what is installed is pinned."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.small_project import QUICK, ROOT, lay_out

SOURCES = sorted(path for folder in ("ddpm", "stages") for path in (ROOT / folder).rglob("*.py"))
CIFAR = ROOT / "ddpm/sources/cifar.py"  # its files are pickles, read by an unpickler that makes only arrays
RULES = "S102,S301,S302,S307,S602,S604,S605"  # exec, pickle, marshal, eval and shells
PICKLES = re.compile(
    r"^[ \t]*(?:import|from) (?:_?pickle|cPickle|cloudpickle|dill|joblib|marshal|shelve|jsonpickle)\b"
    r"|allow_pickle=(?!False)|weights_only=(?!True)|yaml\.load\((?!.*BaseLoader)",
    re.MULTILINE,
)


def test_no_source_loads_what_could_run():
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--ignore-noqa", "--select", RULES, "ddpm", "stages"]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in SOURCES:
        text = path.read_text()
        assert PICKLES.findall(text) == ["import pickle"] * (path == CIFAR), path
        assert text.count("torch.load(") == text.count("weights_only=True"), path


# every stage in one process, which records whatever unpickling asks for
PIPELINE = """
import sys
asked = []
def hook(event, arguments):
    if event == "pickle.find_class":
        asked.append(".".join(arguments))
sys.addaudithook(hook)
from stages import __main__ as runner
for stage in ("check", "download", "preprocess", "reference", "train", "sample", "evaluate"):
    try:
        runner.run(stage)
    except SystemExit as stop:
        assert not stop.code, (stage, stop.code)
print("asked:", asked)
"""


@pytest.mark.slow
def test_nothing_is_unpickled_by_the_pipeline(tmp_path):
    lay_out(tmp_path, **QUICK)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "DDPM_TRACKING": "off"}
    command = [sys.executable, "-c", PIPELINE]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "asked: []"
    assert (tmp_path / "metrics/evaluate.json").exists()


DOCUMENTS = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob(".ci/*"))]
SERVER = re.compile(r"^(?:export .*\n)?.*\bmlflow (?:ui|server)\b.*$", re.MULTILINE)


def test_every_documented_server_listens_on_this_machine_alone_or_asks_for_a_password():
    commands = [block for path in DOCUMENTS for block in SERVER.findall(path.read_text())]
    assert any("mlflow ui" in command for command in commands)
    for command in commands:
        asks = ("mlflow server", "--app-name basic-auth", "MLFLOW_AUTH_ADMIN_PASSWORD=$(openssl rand")
        guarded = all(part in command for part in asks)
        assert guarded or "--host 127.0.0.1" in command, command


def test_a_workflow_runs_what_a_commit_names_and_nothing_of_the_project_may_write():
    for path in (ROOT / ".github/workflows").iterdir():
        whole = yaml.safe_load(path.read_text())
        assert whole["permissions"] == {"contents": "read"}
        for job in whole["jobs"].values():
            actions = [step["uses"] for step in job["steps"] if "uses" in step]
            assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions), path
            if "permissions" in job:
                commands = "\n".join(step.get("run", "") for step in job["steps"])
                assert not re.search(r"make|pip|python|venv|bash|\./", commands), path


def test_what_is_published_is_built_by_tools_with_hashes_and_without_a_cache():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    for job in jobs.values():
        assert not any("cache" in step.get("with", {}) or "cache" in step.get("uses", "") for step in job["steps"])
    commands = [step["run"] for step in jobs["build"]["steps"] if "pip" in step.get("run", "")]
    assert commands
    assert all("--require-hashes" in command or "--no-index" in command for command in commands)
    tools = (ROOT / ".ci/build.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", tool) for tool in tools)


def test_nobody_is_told_to_install_somebody_elses_package():
    """The package index has another project's `ddpm`; this one's distribution has a name of its own."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = [(ROOT / path).read_text() for path in listed.stdout.split("\0") if path.endswith((".md", ".py", ".yml"))]
    told = re.findall(r"pip install [^`\n]*?\b(?<!\./)(ddpm[\w-]*)(?=[\[=<>' `]|$)", "\n".join(texts))
    assert set(told) == {name}


def test_the_environment_is_read_by_name_and_never_as_a_whole():
    """So nothing of it can get into a param, a tag or a file by accident."""
    texts = filter(lambda text: "environ" in text, (path.read_text() for path in SOURCES))
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Attribute) and getattr(node.value, "attr", "") == "environ":
            assert node.attr in {"get", "setdefault", "pop"}, ast.unparse(node)
        if isinstance(node, ast.Call):
            handed = [*node.args, *(found.value for found in node.keywords)]
            assert "environ" not in [getattr(value, "attr", "") for value in handed], ast.unparse(node)


def pins(name: str = "constraints.txt") -> dict[str, str]:
    text = (ROOT / name).read_text()
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)}


def requirements(*extras: str) -> list[Requirement]:
    """The dependencies that pyproject.toml declares, with those of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chosen = (project["optional-dependencies"][extra] for extra in extras)
    return [Requirement(text) for text in itertools.chain(project["dependencies"], *chosen)]


def test_a_lock_has_what_the_constraints_leave_open_in_versions_that_are_allowed():
    allowed = {each.name: each.specifier for each in requirements("train")}
    for path in (ROOT / "locks").iterdir():
        locked = pins(f"locks/{path.name}")
        assert locked.keys() == {"torch", "torchvision"}
        assert not locked.keys() & pins().keys()
        assert all(version in allowed[name] for name, version in locked.items())


def needed() -> dict[str, str]:
    """Every installed distribution that pyproject.toml's dependencies and its extra ``dev`` lead to, with its version.

    Without torch, torchvision and what only they bring: each platform has its own build. Without setuptools, which
    `pip freeze` leaves out as a part of the environment.
    """
    waiting, found = requirements("train", "photos", "dev"), dict[str, str]()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        if name in {"ddpm-referee", "torch", "torchvision", "setuptools", *found}:
            continue
        with suppress(PackageNotFoundError):  # for another platform or version of Python
            installed = distribution(name)
            found[name] = installed.version
            for inner in map(Requirement, installed.requires or ()):
                if not inner.marker or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                    waiting.append(inner)
    return found


def test_every_installed_distribution_is_pinned_to_its_version():
    pinned = pins()
    wrong = {name: (version, pinned.get(name)) for name, version in needed().items() if pinned.get(name) != version}
    assert not wrong, "make setup, then the command in the first lines of constraints.txt"

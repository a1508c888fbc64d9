"""Runs that were never trained: records with given scores, and the DVC experiments that hold them."""

import copy
import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from ddpm.arms.run import Recipe
from ddpm.base import files
from ddpm.base.paths import RUN
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.runs import library
from ddpm.runs.record import Fingerprint, Record, now
from ddpm.study.plan import Plan, Study
from tests.small import PARAMS

BASELINE = "0123456789abcdef0123456789abcdef01234567"  # the commit that the experiments started from
CODE = {"ddpm/training": "c0de00000000"}  # digests of the files that made a run
COMPARABLE = {"samples": 12, "sampling": {"steps": 5, "precision": "float32"}}
COSTS = {"images_seen": 96, "parameters": 1000, "evaluations": 5}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# of a program, which has no others
SCORED_BY = ("data", "evaluate", "sample.count")


def params(**changes) -> dict:
    """The small params with some keys set: sections joined by two underscores (``train__steps=3``)."""
    changed = copy.deepcopy(PARAMS)
    for key, value in changes.items():
        *sections, name = key.split("__")
        block = changed
        for section in sections:
            block = block.setdefault(section, {})
        block[name] = value
    return changed


def working(**changes) -> Config:
    return config.parse(params(**changes), "test")


@cache
def _flat(changes: str) -> dict:
    """``working`` with these changes, as JSON, as a record has it. Read only."""
    return json.loads(json.dumps(library.relevant(working(**json.loads(changes)).flat())))


def result(
    schedule: str = "cosine", seed: int = 0, fd: float = 1.0, params=None, comparable=None, when: float = 0.0, **fields
) -> Record:
    """A record. params: changes as ``params()`` takes them. comparable: changes of the fingerprint's content. when: in
    seconds. fields: of COSTS, ``precision``, ``processor``, and the fields of Record."""
    flat = _flat(json.dumps({"diffusion__schedule": {"name": schedule}, **(params or {})}))
    if fields.get("program"):
        flat = {key: value for key, value in flat.items() if key.startswith(SCORED_BY)}
    flat = {**flat, "seed": seed} if "seed" in flat else flat
    content = COMPARABLE | (comparable or {})
    environment = {"training_precision": fields.pop("precision", "float32")}
    environment["processor"] = fields.pop("processor", "a CPU")
    values = {
        "name": f"{schedule}-{seed}", "seed": seed, "finished": EPOCH + timedelta(seconds=when), "params": flat,
        "scores": {"classifier.fd": fd}, "costs": {name: fields.pop(name, cost) for name, cost in COSTS.items()},
        "environment": environment, "fingerprint": {"hash": files.digest(content), "comparable": content}, "code": CODE,
    }  # fmt: skip
    return Record(**values | fields)


def bare(seed: int = 0, comparable: dict | None = None, **changes) -> Record:
    """A record with few params, and fields of it changed. comparable: the fingerprint's content."""
    content = comparable or {"samples": 8, "sampling": {"steps": 4}}
    fields = {
        "name": "workspace", "seed": seed, "finished": now(), "scores": {"classifier.fd": 1.5},
        "params": {"seed": seed, "train.steps": 10, "model.unet.multipliers": [1, 2], "data.source": None},
        "fingerprint": Fingerprint(hash=files.digest(content), comparable=content),
    }  # fmt: skip
    return Record(**fields | changes)


def rescored(run: Record, seed: int, scores: dict[str, float]) -> Record:
    """The run with another seed and other scores, unchecked: checking takes longer than anything else here."""
    name = run.name.rpartition("-")[0] + f"-{seed}"
    return run.model_copy(update={"name": name, "seed": seed, "scores": scores, "params": run.params | {"seed": seed}})


def study(*schedules: str, **plan) -> Study:
    """A study of these schedules, with cosine as the baseline."""
    names = ("cosine", *schedules)
    arms = {name: {"diffusion.schedule.name": name} for name in names}
    recipes = {name: Recipe(params(), working(diffusion__schedule={"name": name})) for name in names}
    plan = {"question": "Which?", "arms": arms, "looks": (8, 12, 16, 20), **plan}
    return Study("schedules", Plan(**plan), recipes)


def grid(schedules: dict[str, float], seeds: Iterable[int], spread: float = 0.01) -> list[Record]:
    """A run per schedule, with the given mean distance, and per seed, which moves all nearly alike."""
    runs = []
    for number, (schedule, mean) in enumerate(schedules.items()):
        for seed in seeds:
            fd = mean + spread * (seed % 3) + spread / 10 * ((seed * 7 + number * 3) % 5)
            runs.append(result(schedule, seed, scores={"classifier.fd": fd, "classifier.kid_mean": fd / 100}))
    return runs


def write(run: Record, folder: Path = Path()) -> None:
    """Write the record into a working folder, as its latest run."""
    (folder / RUN).parent.mkdir(parents=True, exist_ok=True)
    (folder / RUN).write_text(run.text())


def record(folder: Path, runs: Iterable[Record | tuple[str, dict[str, str]]] = (), base: str = "") -> None:
    """Make the folder a git repository, unless it is one, and put the runs where DVC keeps its experiments; of some the
    name, and the text of files. base: the commit that they started from, if that is in the repository."""
    git("init", "--quiet", "--template=", cwd=folder)
    stream = []
    for run in runs:
        name, contents = (run.name, {str(RUN): run.text()}) if isinstance(run, Record) else run
        stream += [f"commit {reference(name)}", "committer t <t@example.org> 1700000000 +0000"]
        stream += ["data 0", *([f"from {base}"] if base else []), "deleteall"]
        for path, text in contents.items():
            stream += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
    git("fast-import", "--quiet", cwd=folder, given="\n".join([*stream, ""]).encode())


def reference(name: str) -> str:
    """Where DVC keeps an experiment of that name."""
    return f"refs/exps/{BASELINE[:2]}/{BASELINE[2:]}/{name}"


def git(*arguments: str, cwd: Path | None = None, given: bytes = b"") -> str:
    answer = subprocess.run(["git", *arguments], cwd=cwd, input=given, check=True, capture_output=True)
    return answer.stdout.decode().strip()

"""A study's results in git: its finished experiments, each a commit that DVC lists as an experiment.

They are under refs/exps/<the study's commit>/, where ``dvc exp list``, ``apply`` and ``push`` find them. The message
names the study and plan that made them, so another experiment of the same name is not mistaken for one of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pygit2

from ddpm.base.errors import UserError
from ddpm.base.files import read_json, write_json
from ddpm.compare import pairing, runs, snapshots
from ddpm.compare.runs import Run
from ddpm.compare.snapshots import Snapshot
from ddpm.params import file
from ddpm.runs.library import below, experiments, repository
from ddpm.study import tuning
from ddpm.study.grid import named
from ddpm.study.plan import Experiment, Study

FOLDER = Path(".ddpm/studies")
TRAILER = re.compile(r"^(Study|Plan|Seconds|Diverged): (\S+)$", re.MULTILINE)
DECISIVE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, with the plan
UNCHANGED = (pygit2.enums.FileStatus.CURRENT, pygit2.enums.FileStatus.IGNORED)  # since the last commit
FIRST = "a plan is fixed in git before its first seed"
FIX = "remove it with `dvc exp remove {}`, or give the study another name"


class Result(NamedTuple):
    """A finished experiment. base: the commit that it started from. seconds: the duration of all its stages; of
    those that DVC's cache had, at least as long as training and sampling took when they ran. diverged: whether its
    training did, so that it has no scores: what a run for tuning may find."""

    name: str
    commit: str
    base: str
    plan: str
    seconds: float
    diverged: bool = False


def reference(base: str, name: str) -> str:
    """The git reference under which DVC looks for an experiment."""
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def state(study: Study) -> Path:
    """The folder for files of this machine alone: locks, logs, failures."""
    return FOLDER / study.name


class Damaged(UserError):
    """An experiment's commit that is not what ``publish`` writes."""


def recorded(study: Study) -> tuple[list[Result], dict[str, str]]:
    """Every finished experiment of the study, whatever commit made it, and why others are left out, by name.

    Raises UserError if another study or plan, or a person, made one of the same name.
    """
    names, found, damaged = {experiment.name for experiment in study.lines()}, [], {}
    for name, commit in experiments(repository()):
        if name not in names:
            continue
        trailers = dict(TRAILER.findall(commit.raw_message.decode(errors="replace")))
        if trailers.get("Study") != study.name:
            owner = f"study {trailers['Study']}" if "Study" in trailers else "`dvc exp run`"
            raise UserError(f"{name}: {owner} made an experiment of this name: {FIX.format(name)}")
        try:
            if not 0 <= (seconds := float(trailers["Seconds"])) < math.inf:
                raise ValueError("Seconds")
            base, plan = str(commit.parent_ids[0]), trailers["Plan"]
        except (LookupError, ValueError):
            reason = "its commit lacks a parent, or Plan or Seconds in its message"
            damaged[name] = f"{name}: {reason}: {FIX.format(name)}"
            continue
        found.append(Result(name, str(commit.id), base, plan, seconds, "Diverged" in trailers))
    return found, damaged


def exists(base: str, name: str) -> bool:
    """Whether the experiment is finished."""
    return reference(base, name) in repository().references


class Ledger:
    """A study's finished experiments, and the one commit that they all ran.

    commit: of the first result, or HEAD before there is one. moved: whether HEAD has moved since. damaged: why
    experiments are left out, by name. tried: what the runs for tuning found, as of ``settle``. refusal: why the results
    are not of this plan, which raises UserError unless ``any_plan``; empty if they are.
    """

    def __init__(self, study: Study, any_plan: bool = False):
        self.study = study
        self.runs: dict[str, Run] = {}
        self.tried: tuple[tuning.Tried, ...] = ()
        self.update()
        git, note = repository(), state(study) / "study.json"
        head = str(git.revparse_single("HEAD").id)
        bases = Counter(result.base for result in self.all)
        known = str(read_json(note)["commit"]) if note.exists() else ""
        self.commit: str = known if known in bases else bases.most_common(1)[0][0] if bases else head
        self.moved = self.commit != head
        self.refusal = ""
        if changed := [result for result in self.all if result.plan != study.hash]:
            edited = [path for path in decisive(study, git) if git.status_file(path) not in UNCHANGED]
            command = f"git diff {' '.join(edited)}" if edited else f"git log -p {study.path}"
            self.refusal = (
                f"{study.path}: the plan is not the one that {len(changed)} results were made under, such as "
                f"{changed[0].name}: `{command}` shows what changed; undo it, or give the study another name"
            )
            if not any_plan:
                raise UserError(self.refusal)

    def update(self) -> None:
        """Read the results again."""
        self.all, self.damaged = recorded(self.study)

    @property
    def done(self) -> dict[str, Result]:
        """The results of the study's commit, by name."""
        return {result.name: result for result in self.all if result.base == self.commit}

    @property
    def seconds(self) -> float | None:
        """Mean duration of the experiments done; None before the first."""
        return fmean(took) if (took := [result.seconds for result in self.done.values()]) else None

    def fix(self, trusted: str | None = None) -> None:
        """Record which commit the study runs. Raises UserError unless git has everything that it depends on, and HEAD
        or a local branch contains the commit, or ``trusted`` names it: results may come from anybody, and the code that
        runs must not."""
        if not self.all:
            check_committed(self.study)
        git = repository()
        tips = [git.head.target, *(git.branches.local[name].peel(pygit2.Commit).id for name in git.branches.local)]
        if trusted:
            try:
                tips = [git.revparse_single(trusted).peel(pygit2.Commit).id]
            except (KeyError, ValueError, pygit2.GitError) as error:
                raise UserError(f"--commit: {trusted} is not a commit here; allowed: {self.commit[:10]}") from error
        if not any(
            str(tip) == self.commit or git.descendant_of(tip, self.commit) for tip in tips if self.commit in git
        ):
            raise UserError(
                f"{self.study.path}: results that somebody made elsewhere ask for the code of commit "
                f"{self.commit[:10]}, which no branch here contains; read `git diff HEAD {self.commit[:10]}`, and run "
                f"it by --commit {self.commit[:10]}, or remove the results by `dvc exp remove`"
            )
        write_json(state(self.study) / "study.json", {"commit": self.commit, "plan": self.study.hash})

    def settle(self) -> None:
        """Choose the values of the variants that are done with tuning. Raises UserError like ``run``, and if runs for
        tuning were not scored alike."""
        done, over = self.done, self._finished(self.study.tuning())
        scored = {each.name: self.run(each) for each in over if not done[each.name].diverged}
        if scored:
            pairing.check_fingerprints(scored.values(), ["sample"])  # each seed draws images of its own
        scores = dict.fromkeys((each.name for each in over), math.nan)
        scores |= {name: run.scores[self.study.plan.primary] for name, run in scored.items()}
        self.tried = tuning.tries(self.study, scores)
        self.study = self.study.settled(tuning.chosen(self.study, self.tried))

    def found(self) -> dict[str, dict[int, Run]]:
        """Every finished run for the verdict, by variant and seed, without damaged ones. Raises UserError like
        ``run``."""
        found: dict[str, dict[int, Run]] = {variant: {} for variant in self.study.params}
        for each, run in self._readable(self.study.experiments()):
            found[each.variant][each.seed] = run
        return found

    def alternatives(self) -> dict[tuple[str, int | None], dict[int, Run]]:
        """Every finished run that only ``claim: best`` needs, by arm and place in the grid, then by seed, without
        damaged ones. Raises UserError like ``run``."""
        runs: dict[tuple[str, int | None], dict[int, Run]] = {}
        for each, run in self._readable(self.study.alternatives()):
            runs.setdefault((each.variant, each.alternative), {})[each.seed] = run
        return runs

    def missing(self, planned: Iterable[Experiment]) -> list[Experiment]:
        """Those that are not done."""
        done = self.done
        return [each for each in planned if each.name not in done]

    def _finished(self, planned: Iterable[Experiment]) -> list[Experiment]:
        """Those that are done, if the values that they run with are known."""
        done = self.done
        return [each for each in planned if each.name in done and not self.study.is_open(each)]

    def _readable(self, planned: Iterable[Experiment]) -> Iterator[tuple[Experiment, Run]]:
        """The finished ones with their runs; others are noted as damaged."""
        for each in self._finished(planned):
            try:
                yield each, self.run(each)
            except Damaged as error:
                self.damaged[each.name] = str(error)

    def run(self, experiment: Experiment) -> Run:
        """The run of a finished experiment. Raises UserError if it can't be read or has other params."""
        name = experiment.name
        if name not in self.runs:
            git = repository()
            commit = git[self.done[name].commit].peel(pygit2.Commit)
            self.runs[name] = checked(self.study, experiment, snapshots.read(git, name, "dvc", commit))
        return self.runs[name]


def checked(study: Study, experiment: Experiment, snapshot: Snapshot) -> Run:
    """The run in a snapshot. Raises UserError if its files are not those of a finished run with these params, and
    Damaged if they can't be read."""
    try:
        run = runs.of_snapshot(snapshot)
    except UserError as error:
        raise Damaged(f"{experiment.name}: {error}: {FIX.format(experiment.name)}") from error
    if (primary := study.plan.primary) not in run.scores:
        raise UserError(f"{experiment.name}: it has no {primary}, which {study.path} is about")
    planned = experiment.config.flat() | dict(experiment.changed)
    if run.seed != experiment.seed or (other := runs.differences(run.params, planned)):
        key = "seed" if run.seed != experiment.seed else other[0]
        raise UserError(
            f"{experiment.name}: it ran with another {key} than {study.path} says: {FIX.format(experiment.name)}"
        )
    return run


def decisive(study: Study, git: pygit2.Repository) -> list[str]:
    """The files that a plan consists of, in the repository: its own first. Raises UserError if it is elsewhere."""
    try:
        plan = str(study.path.resolve().relative_to(Path(git.workdir).resolve()))
    except ValueError as error:
        raise UserError(f"{study.path}: not in this repository: {FIRST}") from error
    return [plan, *([] if study.plan.base else [str(below(git) / file.PATH)])]


def check_committed(study: Study) -> None:
    """Raises UserError unless the plan, the code and the params are in the last commit."""
    git = repository()
    plan, *base = decisive(study, git)
    files = [plan, *base, *(str(below(git) / name) for name in DECISIVE)]
    if plan not in git.revparse_single("HEAD").peel(pygit2.Commit).tree:
        raise UserError(f"{study.path}: not committed: {FIRST}: `git add` it, and commit")
    for path, flags in git.status().items():
        if flags != pygit2.enums.FileStatus.IGNORED and any(Path(path).is_relative_to(name) for name in files):
            raise UserError(
                f"{path}: has changes that are not committed: a study runs a commit: commit it, or undo them"
            )


def publish(
    experiment: Experiment, study: Study, base: str, changed: Mapping[str, bytes], seconds: float, diverged: str = ""
) -> None:
    """Write a finished run's files (path in the repository -> content) as an experiment that DVC knows. diverged: what
    its training said when it did.

    Raises UserError if there is an experiment of that name.
    """
    git = repository()
    start = git[base].peel(pygit2.Commit)
    index = pygit2.Index()
    index.read_tree(start.tree)
    for path, content in changed.items():
        index.add(pygit2.IndexEntry(path, git.create_blob(content), pygit2.enums.FileMode.BLOB))
    try:
        who = git.default_signature
    except KeyError:  # git knows no name
        who = pygit2.Signature("ddpm study", "ddpm@localhost")
    other = ""
    if experiment.tried is not None or experiment.alternative is not None:
        other = f", {named(experiment.tried or experiment.changed)}"
    message = (
        f"ddpm study {study.name}: {experiment.variant}, seed {experiment.seed}{other}\n\n"
        f"Study: {study.name}\nPlan: {study.hash}\nSeconds: {seconds:.1f}\n"
    ) + (f"Diverged: true\n\n{diverged}\n" if diverged else "")
    try:
        git.create_commit(reference(base, experiment.name), who, who, message, index.write_tree(git), [start.id])
    except pygit2.GitError as error:
        raise UserError(f"{experiment.name}: {error}: {FIX.format(experiment.name)}") from error


def note_failure(study: Study, name: str, reason: str) -> None:
    write_json(state(study) / f"{name}.failed", {"reason": reason})


def failures(study: Study) -> dict[str, str]:
    """Name -> reason, for experiments that failed here and have not succeeded since."""
    found = {}
    for path in state(study).glob("*.failed"):
        with suppress(UserError):  # made since it was listed
            found[path.stem] = str(read_json(path)["reason"])
    return found

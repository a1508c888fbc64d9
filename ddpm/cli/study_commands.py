"""The commands of ``ddpm study``."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.cli.app import Json, Names, NoPilot, Plan
from ddpm.cli.terminal import answer
from ddpm.compare import sanity
from ddpm.compare.too_early import exit_code
from ddpm.study import lines, plan, planning, results, runner, sharing, slurm, status, verdict
from ddpm.study.plan import Study
from ddpm.study.results import Ledger
from ddpm.study.runner import Share

app = App(name="study")
LOOP = Group("From a question to a verdict", sort_key=1)
ELSEWHERE = Group("Other machines, other budgets", sort_key=2)
Slots: TypeAlias = Annotated[int | None, Parameter(validator=Number(gte=1), help="at a time (one per core or GPU)")]
Minutes: TypeAlias = Annotated[float | None, Parameter(validator=Number(gt=0, lt=math.inf))]
Remote: TypeAlias = Annotated[str, Parameter(help="of git")]


@app.command(group=LOOP)
def new(
    name: str,
    /,
    *,
    vary: Names,
    base: str | None = None,
    common: Annotated[Names, Parameter("--set")] = (),
    looks: tuple[int, ...] = (),
    spending: Literal["pocock", "evalue"] = "pocock",
) -> None:
    """Write a study's file, with comments.

    examples:
      ddpm study new loss --vary diffusion.loss.name=simple,min_snr

    Args:
        vary: params keys and their values, as KEY=A,B
        base: a preset (params.yaml)
        common: params keys of all arms, as KEY=VALUE
        looks: seeds at which it may be decided (8 12 16 20)
        spending: how the looks share the error rate
    """
    path = planning.write(name, vary, common, base, looks, spending)
    print(f"{path}: complete it, commit it, and `ddpm study plan {name}`")


@app.command(name="plan", group=LOOP)
def print_plan(file: Plan, /, *, slots: Slots = None, json: Json = False, no_pilot: NoPilot = False) -> None:
    """Show its experiments, what exists, the cost, the power at each look.

    examples:
      ddpm study plan studies/loss.yaml
    """
    study = plan.load(file)
    ledger = Ledger(study)
    if not ledger.all:
        planning.check_sources(study)
    state, at_once = status.of(ledger), _slots(slots, study)
    cost = planning.cost(state, pilot=not no_pilot)
    power = verdict.power(study)
    costs = {"cost": cost._asdict(), "power": [row._asdict() for row in power]}
    answer(json, status.to_dict(state, at_once) | costs, planning.text(state, at_once, cost, power))


@app.command(group=LOOP)
def run(
    file: Plan,
    /,
    *,
    slots: Slots = None,
    json: Json = False,
    line: int | None = None,
    max_time: Minutes = None,
    commit: str | None = None,
    push: bool = False,
) -> int:
    """Run what is missing, and decide; after any stop, the same command continues.

    Exit code 1 if an experiment failed.

    examples:
      ddpm study run studies/loss.yaml
      ddpm study run studies/loss.yaml --line 3  # one experiment, for job arrays

    Args:
        line: only this experiment of the plan, for job arrays
        max_time: minutes; then stop (exit code 75)
        commit: run the code of this commit, which made the first results, off all branches
        push: push each result to the git remote origin, as `push` does
    """
    study = plan.load(file)
    sanity.check_decisive([study.plan.primary], study.plan.blind_to, f"{file}: blind_to", study.settings)
    ledger = Ledger(study)
    if not ledger.all:
        planning.check_sources(study)
    ledger.fix(commit)
    if ledger.moved:
        print(f"{study.name} continues with commit {ledger.commit[:10]}, which made its first results", file=sys.stderr)
    share = (lambda: sharing.push(study, list(ledger.done.values()))) if push else None
    with runner.within(max_time):
        if line is not None:
            return lines.run(line, ledger, runner.gpus(study), share)
        return _run(ledger, _slots(slots, study), share, json)


def _run(ledger: Ledger, at_once: int, share: Share | None, json: bool) -> int:
    from ddpm.study import publication

    with status.shown(ledger, at_once, plain=json) as say:
        going = runner.Runner(ledger, at_once, runner.gpus(ledger.study), say, share)
        findings = going.run()
    findings, written = publication.write(ledger, findings)
    answer(json, verdict.to_dict(findings) | {"failed": going.failed}, verdict.describe(findings), "", *written)
    for reason in going.failed.values():
        print(f"failed: {printable(reason)}", file=sys.stderr)
    if share:
        share()  # results that a remote refused earlier
    return 1 if going.failed else exit_code(findings.findings, findings.primary)


@app.command(name="verdict", group=LOOP)
def print_verdict(file: Plan, /, *, json: Json = False) -> int:
    """Judge what is finished by now, and run nothing.

    examples:
      ddpm study verdict studies/loss.yaml
    """
    from ddpm.study import publication

    ledger = Ledger(plan.load(file))
    if not ledger.done:
        raise UserError(f"{file}: none of its experiments is finished: `ddpm study run {file}` runs them")
    findings, written = publication.write(ledger, runner.Runner(ledger, 1, (), print).judge())
    answer(json, verdict.to_dict(findings), verdict.describe(findings), "", *written)
    return exit_code(findings.findings, findings.primary)


@app.command(name="status", group=LOOP)
def print_status(file: Plan, /, *, slots: Slots = None, json: Json = False) -> None:
    """Show what is done, running, failed and missing, and the time left.

    examples:
      ddpm study status studies/loss.yaml  # from another terminal, while it runs
    """
    study = plan.load(file)
    ledger = Ledger(study, any_plan=True)
    if ledger.refusal:
        print(f"warning: {ledger.refusal}", file=sys.stderr)
    state, at_once = status.of(ledger), _slots(slots, study)
    answer(json, status.to_dict(state, at_once), status.text(state, at_once))


@app.command(name="slurm", group=ELSEWHERE)
def print_job(file: Plan, /, *, time: Minutes = None, no_pilot: NoPilot = False) -> None:
    """Print a job script for Slurm that runs what is missing up to the next look.

    examples:
      ddpm study slurm studies/loss.yaml | sbatch  # an experiment a job, as an array

    Args:
        time: limit of one job in minutes (twice the forecast)
    """
    study = plan.load(file)
    print(slurm.script(status.of(Ledger(study)), time, pilot=not no_pilot), end="")
    results.state(study).mkdir(parents=True, exist_ok=True)  # where Slurm writes the logs: it makes no folder


@app.command(name="push", group=ELSEWHERE)
def push_results(file: Plan, /, *, remote: Remote = sharing.ORIGIN) -> None:
    """Send the results to a git remote, and their data to DVC's remote.

    examples:
      ddpm study push studies/loss.yaml
    """
    study = plan.load(file)
    sent = sharing.push(study, list(Ledger(study).done.values()), remote)
    print(f"{remote}: {len(sent)} experiments sent")


@app.command(group=ELSEWHERE)
def pull(file: Plan, /, *, remote: Remote = sharing.ORIGIN) -> None:
    """Take what other machines pushed.

    examples:
      ddpm study pull studies/loss.yaml
    """
    taken = sharing.pull(plan.load(file), remote)
    print(f"{remote}: {len(taken)} experiments taken; `ddpm study status {file}`")


def _slots(given: int | None, study: Study) -> int:
    return given or len(runner.gpus(study)) or cores()

"""The commands of ``ddpm`` about params, scores, verdicts and the project; torch is imported where it is needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Path as FileKind

from ddpm.base.errors import UserError, printable
from ddpm.base.machine import SITE_CACHE
from ddpm.base.paths import BASELINE
from ddpm.cli.app import MAIN, ONE_OF, PROJECT, SCORES, Folders, Json, Names, Tables, app, list_files
from ddpm.cli.terminal import answer, write_params
from ddpm.referee import Alike

track = App(name="track", help="Complete the run in MLflow.", group=PROJECT)
app.command(track)


@app.command(group=MAIN, sort_key=1)
def preset(
    name: Annotated[str | None, Parameter(help=list_files("presets"))] = None,
    /,
    *,
    on: str | None = None,
    ladder: str | None = None,
    force: bool = False,
) -> None:
    """Write a preset, or the champion of a ladder, over params.yaml.

    The first lines of a preset state its cost and expected scores.

    examples:
      ddpm preset fashion_mnist      # refused if params.yaml is not committed
      ddpm preset digits --force     # overwrites them
      ddpm preset edm --on cifar10   # the method of edm with the data of cifar10
      ddpm preset --ladder digits    # the champion, the best recipe so far

    Args:
        on: preset that gives data, network and budget, instead of its own base
        ladder: a ladder's name in ladders/, instead of a preset
        force: overwrite uncommitted changes of params.yaml
    """
    from ddpm.params import file, presets

    if (name is None) == (ladder is None) or (ladder and on):
        raise UserError("preset: allowed: the name of a preset, with --on or without, or --ladder NAME")
    if ladder:
        from ddpm.ladder import climb, draft, terms

        contest = climb.load(terms.LADDERS / f"{ladder}.yaml")
        text, what = draft.champion_params(climb.read(contest)), f"champion of {ladder!r}"
    else:
        text, what = presets.text(str(name), on), f"preset {name!r}" + (f" on {on!r}" if on else "")
    write_params(text, force)
    print(f"{file.PATH} is now the {what}; run it with `dvc repro`")


@app.command(group=MAIN, sort_key=2)
def check(*, no_pilot: bool = False) -> None:
    """Check params.yaml, and estimate the time and memory of the next run.

    examples:
      ddpm check             # is it possible, and how long will it take?
      ddpm check --no-pilot  # is it possible?

    Args:
        no_pilot: skip the step that measures time and memory
    """
    from ddpm.params import config, file, possible
    from ddpm.tools import clone

    checked = config.load()
    clone.check_dvc()
    found = clone.find_images(checked)
    possible.check_scores(checked, found.train, found.classes)
    if found.line:
        print(found.line)

    from ddpm.model import build  # torch takes a second: after what is checked without
    from ddpm.tools import forecast

    network = build.network(checked)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{file.PATH}: ok; {checked.model.name} with {parameters:,} parameters", flush=True)
    if not no_pilot:
        print(*forecast.lines(checked, forecast.time_step(checked), found.train), sep="\n")


@app.command(group=MAIN, sort_key=3)
def summary(*, json: Json = False) -> None:
    """Show the current model's scores, their meaning, and its pictures.

    examples:
      ddpm summary         # scores next to real images', pictures, next steps
      ddpm summary --json  # every number, as in metrics/run.json
    """
    from ddpm.params import config
    from ddpm.report import render, summary
    from ddpm.report.blocks import Chapter
    from ddpm.runs import library

    run = library.workspace()
    try:
        library.current(config.load())
    except UserError as error:
        print(f"warning: {printable(str(error))}", file=sys.stderr)
    answer(json, run.model_dump(mode="json"), render.text([Chapter("", summary.show_summary(run))]))


@app.command(group=MAIN, sort_key=4)
def runs(*, json: Json = False) -> None:
    """List all runs with their differing params, scores and state.

    examples:
      ddpm runs         # a line for each: what differs, seed, scores, state
      ddpm runs --json  # for a program, with every score
    """
    from ddpm.params import config
    from ddpm.report import overview, render
    from ddpm.report.blocks import Chapter

    listed, notes = overview.gather(config.load())
    columns, _ = shutil.get_terminal_size((1000, 24))  # without a terminal: what reads a pipe may want all
    text = render.text([Chapter("", overview.show_runs(listed, notes))], columns)
    answer(json, listed, text)


@app.command(group=SCORES)
def compare(
    *,
    by: Names,
    may_differ: tuple[Alike, ...] = (),
    runs: Folders = (),
    out: Path | None = None,
    tables: Tables = (),
    json: Json = False,
) -> int:
    """Judge which arm is better, from runs paired by training seed.

    examples:
      ddpm compare --by diffusion.schedule.name  # each against that of params.yaml
      ddpm compare --by sample.sampler sample.steps --may-differ evaluations
      ddpm compare --by diffusion.schedule.name --out verdict.html --table t.tex

    Args:
        by: params keys, such as diffusion.schedule.name
        may_differ: facts in which compared runs may differ
        runs: more runs: folders of runs, such as metrics/studies/NAME
        out: folder for verdict.md, .json and pictures; or a page to write, .html
    """
    from ddpm.cli.study_commands import publish
    from ddpm.params import config
    from ddpm.referee import comparison
    from ddpm.runs import library

    judgement = comparison.compare(library.everywhere(runs), by, config.load(), may_differ)
    return publish(judgement, [], out, tables, json)


@app.command(group=SCORES)
def judge(
    scores: Path,
    /,
    *,
    better: Names,
    arm: str = "arm",
    seed: str = "seed",
    baseline: str | None = None,
    primary: str | None = None,
    margin: Names = (),
    gate: bool = False,
    out: Path | None = None,
    tables: Tables = (),
    json: Json = False,
) -> int:
    """Judge a table of any program's scores: a row for each run.

    examples:
      ddpm judge scores.csv --better lower  # columns arm, seed, and metrics
      ddpm judge scores.csv --better lower --gate  # is one run of an arm worse?
      ddpm judge wandb.csv --arm optimizer --better val/loss=lower,acc=higher

    Args:
        scores: CSV file, such as an export of MLflow or W&B
        better: lower or higher, or COLUMN=lower,COLUMN=higher to judge only these
        arm: column that names the run's arm
        seed: column of the run's seed; runs of the same seed are paired
        baseline: arm that the others are compared with (the first row's)
        primary: metric that decides (the first)
        margin: smallest gap that matters, such as acc=0.005 (0)
        gate: judge one run of each arm; exit codes are those of `ddpm gate`
        out: folder for verdict.md, .json and pictures; or a page to write, .html
    """
    from ddpm.cli.study_commands import publish
    from ddpm.verdicts import table
    from ddpm.verdicts.verdict import NO_ANSWER

    if scores.resolve() in map(Path.resolve, tables):
        raise UserError(f"--table: {scores} holds the scores; allowed: another file")
    judgement = table.judge(scores, better, margin, baseline, primary, arm, seed, gate)
    if not gate:
        return publish(judgement, [], out, tables, json)
    ends = {one.outcome for one in judgement.verdicts if one.metric == judgement.primary}
    word, code = ("regression", 1) if "worse" in ends else ("alarm", NO_ANSWER) if "not yet" in ends else ("pass", 0)
    if not json:
        print(f"gate: {word}\n")
    publish(judgement, [], out, tables, json)
    return code


@app.command(group=SCORES)
def report(*, out: Annotated[Path, Parameter(validator=FileKind(ext=("html", "md")))] = Path("report.html")) -> None:
    """Write a page about the current model.

    examples:
      ddpm report                 # scores, samples, memorisation
      ddpm report --out report.md

    Args:
        out: page to write: HTML in one file, or .md with its pictures
    """
    from ddpm.report import page

    page.write(out)
    print(f"{out}: the page of the current model")


@app.command(group=SCORES)
def gate(
    *,
    update: Annotated[bool, Parameter(group=ONE_OF)] = False,
    runs: Folders = (),
    confirm: bool = False,
    json: Annotated[Json, Parameter(group=ONE_OF)] = False,
) -> int:
    """Judge the scores against metrics/baseline.json.

    Exit code 0: pass; 1: regression; 2: no verdict; 3: alarm, without --confirm.

    examples:
      ddpm gate            # fails if scores are clearly worse
      ddpm gate --confirm  # trains three fresh seeds after an alarm
      ddpm gate --update   # make the runs with these params the new baseline

    Args:
        update: write the baseline, from runs of five seeds or more
        runs: more runs: folders of runs, such as metrics/studies/NAME
        confirm: after an alarm, train its fresh seeds
    """
    from ddpm.params import config as params
    from ddpm.referee import gate
    from ddpm.report import judgement as shown
    from ddpm.report import render
    from ddpm.verdicts.verdict import NO_ANSWER

    config = params.load()
    if update:
        print(*gate.update(config, runs), f"{BASELINE} is written; `ddpm gate` compares with it", sep="\n")
        return 0
    decision = gate.decide(config, runs)
    if confirm and decision.missing:
        _train(decision.missing)
        decision = gate.decide(config, runs)
    judgement, bad, alarms, missing = decision
    head = f"regression in {', '.join(bad)}" if bad else "pass"
    if missing:
        seeds = " ".join(map(str, missing))
        head = f"alarm in {', '.join(alarms)}: `ddpm gate --confirm` runs the seeds that decide ({seeds})"
    answer(
        json,
        shown.to_dict(judgement) | {"regressions": bad, "alarms": alarms, "missing": missing},
        f"gate: {head}\n",
        render.text(shown.chapters(judgement, [])),
    )
    return 1 if bad else NO_ANSWER if missing else 0


def _train(seeds: Iterable[int]) -> None:
    """Run an experiment with each seed, which leaves the working folder as it is. Raises UserError if one fails."""
    # the stages' Python; and DVC's cache, which it would look for in the experiment's own folder
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"DVC_SITE_CACHE_DIR": str(SITE_CACHE.absolute())} | os.environ | {"PATH": path}
    for seed in seeds:
        print(f"an alarm: training with seed {seed} to confirm or clear it", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "-S", f"seed={seed}"]
        if subprocess.run(command, check=False, stdout=2, env=variables).returncode:  # stdout is for the answer
            raise UserError(f"gate --confirm: `{' '.join(command[2:])}` failed; its output is above")


@app.command(group=PROJECT)
def variants(*, json: Json = False) -> None:
    """List all variants with their papers.

    examples:
      ddpm variants  # every schedule, loss, sampler ...
    """
    from ddpm.base import variant
    from ddpm.params.config import FAMILIES

    shelves = {key: variant.members(family) for key, family in FAMILIES.items()}
    lines = []
    for key, members in shelves.items():
        lines += [f"{key}  (ddpm/variants/{FAMILIES[key]}/)", *(f"  {name:20} {members[name]}" for name in members)]
    answer(json, shelves, *lines)


@track.command
def sync() -> None:
    """Write the run of the current results, or complete it.

    examples:
      ddpm track sync  # after a training whose MLflow server was down
    """
    from ddpm.tracking import tracker

    if (run := tracker.sync()) is None:
        raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
    print(f"MLflow run {run} is complete")

"""The arguments of ``ddpm``: its commands and their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ddpm.base import variant
from ddpm.base.paths import MODEL_FILE
from ddpm.cli import commands, study, use
from ddpm.cli.terminal import EXIT_CODES, Commands, command, complete
from ddpm.params import presets
from ddpm.sampling.settings import Spacing

ABOUT = "Presets, checks, verdicts, sampling from a model file, tracking. DVC runs the stages."


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ddpm", description=ABOUT, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    added = top.add_subparsers(metavar="COMMAND", required=True)

    about = f"Presets: {', '.join(presets.names())}. Each states its cost and expected scores in its first lines."
    preset = command(added, "preset", commands.write_preset, "write a preset over params.yaml", about)
    preset.add_argument("name")
    preset.add_argument(
        "--on", default=presets.BASE, metavar="PRESET", help="takes data, network and budget from it (%(default)s)"
    )
    preset.add_argument("--force", action="store_true", help="overwrite uncommitted changes of params.yaml")

    check = command(
        added, "check", commands.check_params, "check params.yaml, and estimate the time and memory of the next run"
    )
    check.add_argument("--no-pilot", action="store_true", help="skip the few steps that measure time and memory")

    sanity = command(
        added,
        "sanity",
        commands.check_scores,
        "damage real test images, and see which scores notice it",
    )
    sanity.add_argument("--json", action="store_true", help="the content of metrics/sanity.json")

    listing = command(added, "variants", commands.list_variants, "list what you can choose, with its papers")
    listing.add_argument("--json", action="store_true", help="as JSON, by params key and name")

    sample = command(added, "sample", commands.sample_from_file, "draw images from a model file, anywhere")
    sample.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    sample.add_argument("-n", "--count", type=int, default=64, help="images (%(default)s)")
    sample.add_argument("--out", type=Path, default=Path("grid.png"), help="picture to write (%(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="one of sample.seeds draws that set again (%(default)s)")
    sample.add_argument("--sampler", default="ddim", help=f"{', '.join(variant.names('samplers'))} (%(default)s)")
    sample.add_argument("--steps", type=int, default=50, help="steps of the chain to visit (%(default)s)")
    sample.add_argument("--spacing", default="uniform", choices=get_args(Spacing), help="(%(default)s)")
    sample.add_argument("--class", nargs="+", dest="classes", metavar="CLASS", help="numbers or names, in turn (all)")
    sample.add_argument("--guidance", type=float, default=1.0, metavar="WEIGHT", help="1: none (%(default)s)")
    sample.add_argument("--guide", metavar="FILE", help="guide away from this worse model (the model without a class)")
    sample.add_argument("--batch-size", type=int, default=256, help="(%(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")

    gate = command(
        added, "gate", commands.gate_scores, "compare the scores with metrics/baseline.json; 1 if they are worse"
    )
    form = gate.add_mutually_exclusive_group()
    form.add_argument("--update", action="store_true", help="write the baseline, from runs of at least five seeds")
    form.add_argument("--json", action="store_true", help="the checks as JSON")
    gate.add_argument(
        "--champion", nargs="?", const="ddpm", metavar="MODEL",
        help="on a pass, register the current model in MLflow and move the alias champion of MODEL (ddpm) to it",
    )  # fmt: skip

    study.add(added)
    use.add(added)

    _add_results(added)
    _add_others(added)

    track = command(added, "track", None, "complete the run in MLflow, or register the model there")
    track_commands = track.add_subparsers(metavar="COMMAND", required=True)
    sync = command(track_commands, "sync", commands.track_sync, "write the run of the current results, or complete it")
    sync.add_argument("--study", type=Path, metavar="FILE", help="write the runs of that study, also of other machines")
    registered = command(
        track_commands, "register", commands.track_register, "make the current model a version in MLflow's registry"
    )
    registered.add_argument("--name", default="ddpm", help="of the registered model (%(default)s)")

    samplers = variant.names("samplers")
    complete(top, added, {"name": presets.names(), "sampler": samplers, "samplers": samplers})
    return top


def _add_results(added: Commands) -> None:
    """Commands that show the results of one model, or of many."""
    runs = command(added, "runs", commands.list_runs, "list all runs: what differs in each, its scores, its state")
    runs.add_argument("--mlflow", action="store_true", help="include those that only MLflow has")
    runs.add_argument("--json", action="store_true", help="as JSON, with every score")

    compare = command(
        added, "compare", commands.compare_runs, "say which variant is better, from runs paired by training seed"
    )
    what = compare.add_mutually_exclusive_group(required=True)
    what.add_argument("--by", nargs="+", metavar="KEY", help="params keys, such as diffusion.schedule.name")
    what.add_argument("--between", nargs=2, metavar=("BASELINE", "OTHER"), help="two experiments or git revisions")
    compare.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="(those that all runs have)")
    compare.add_argument("--all-pairs", action="store_true", help="every pair, not only each against the baseline")
    compare.add_argument("--allow-budget-mismatch", action="store_true", help="compare runs that cost more or less")
    compare.add_argument("--allow-code-mismatch", action="store_true", help="compare runs of different code")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="write verdict.md, .csv, .json and .png there")
    compare.add_argument("--json", action="store_true", help="print the content of verdict.json instead of the table")

    summary = command(
        added, "summary", commands.print_summary, "show the current model in five lines: its scores, and where to look"
    )
    form = summary.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="every number, by stage")
    form.add_argument("--json", action="store_true", help="every number as JSON, by stage")

    frontier = command(
        added, "frontier", commands.draw_frontier, "measure quality against cost, over samplers and evaluations"
    )
    frontier.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    frontier.add_argument("--samplers", nargs="+", metavar="NAME", help="(all)")
    frontier.add_argument("--evaluations", nargs="+", type=int, metavar="N", help="of the network (5 10 20 50 100)")
    frontier.add_argument("--weights", nargs="+", type=float, metavar="W", help="weights of guidance (params.yaml's)")
    frontier.add_argument("--spacing", choices=get_args(Spacing), help="(what suits each sampler's few steps)")

    page = command(added, "report", commands.write_report, "write one HTML file about the current model")
    page.add_argument("--by", nargs="+", default=[], metavar="KEY", help="add its variants, as in `ddpm compare`")
    page.add_argument("--allow-budget-mismatch", action="store_true", help="compare runs that cost more or less")
    page.add_argument("--allow-code-mismatch", action="store_true", help="compare runs of different code")
    page.add_argument("--out", type=Path, default=Path("report.html"), help="(%(default)s)")


def _add_others(added: Commands) -> None:
    """Commands that share a model, or help before anything runs."""
    ema = command(
        added, "ema", commands.write_average, "write a model file with another average of the weights (train.posthoc)"
    )
    ema.add_argument("--length", type=float, required=True, help="as in sample.ema_length: the paper's sigma_rel")
    ema.add_argument("--model", type=Path, default=MODEL_FILE, help="with the folder ema/ next to it (%(default)s)")
    ema.add_argument("--out", type=Path, default=Path("ema.safetensors"), help="a new file (%(default)s)")

    export = command(added, "export", commands.export_model, "write the model and its card to a folder, to share")
    export.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    export.add_argument("--out", type=Path, default=Path("export"), help="folder to write, a new one (%(default)s)")
    export.add_argument("--format", choices=("ddpm", "diffusers"), default="ddpm", help="(%(default)s)")

    taken = command(
        added, "import", commands.import_model, "make a model file from a folder that export or diffusers wrote"
    )
    taken.add_argument("source", type=Path, metavar="FOLDER|FILE")
    taken.add_argument("--out", type=Path, default=Path("model.safetensors"), help="a new file (%(default)s)")

    doctor = command(
        added, "doctor", commands.examine, "show what is here and what is missing; exit code 1 if something is"
    )
    doctor.add_argument("--offline", action="store_true", help="count what has to be downloaded as missing")
    doctor.add_argument("--json", action="store_true", help="as JSON")

    schema = command(added, "schema", commands.write_schema, "write the JSON schema of params.yaml, for editors")
    schema.add_argument("--out", type=Path, help="file to write (the one in the package, which params.yaml names)")

"""The arguments of ``ddpm``: its commands and their options."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import get_args

from ddpm.base import variant
from ddpm.base.paths import MODEL_FILE
from ddpm.cli.terminal import EXIT_CODES, Commands, command, complete, either, group, option
from ddpm.params import presets
from ddpm.sampling.settings import Spacing

ABOUT = "Presets, checks, verdicts, sampling from a model file, tracking. DVC runs the stages."
ROWS = 8  # of the test split, if `ddpm use` is given no images
SIDES = ("left", "right", "top", "bottom", "centre")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return minutes


# options that several commands have
MODEL = option("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
STEPS = option("--steps", type=int, default=50, help="steps of the chain to visit (%(default)s)")
DEVICE = option("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
JSON = option("--json", action="store_true", help="as JSON")
NO_PILOT = option("--no-pilot", action="store_true", help="skip the few steps that measure time and memory")
BUDGETS = option("--allow-budget-mismatch", action="store_true", help="compare runs that cost more or less")
CODE = option("--allow-code-mismatch", action="store_true", help="compare runs of different code")
PLAN = option("file", type=Path)
SLOTS = option("--slots", type=_positive, metavar="N", help="experiments at a time (one per core or GPU)")
REMOTE = option("--remote", default="origin", help="of git (%(default)s)")
OF_CLASS = option(
    "--class", nargs="+", dest="classes", metavar="CLASS",
    help="draw of this class: numbers or names, for the images in turn (without a class)",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ddpm", description=ABOUT, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    added = top.add_subparsers(metavar="COMMAND", required=True)
    command(
        added, "preset", "write_preset", "write a preset over params.yaml",
        option("name"),
        option("--on", default=presets.BASE, metavar="PRESET",
               help="takes data, network and budget from it (%(default)s)"),
        option("--force", action="store_true", help="overwrite uncommitted changes of params.yaml"),
        about=f"Presets: {', '.join(presets.names())}. Each states its cost and expected scores in its first lines.",
    )  # fmt: skip
    what = "check params.yaml, and estimate the time and memory of the next run"
    command(added, "check", "check_params", what, NO_PILOT)
    command(added, "sanity", "check_scores", "damage real test images, and see which scores notice it", JSON)
    command(added, "variants", "list_variants", "list what you can choose, with its papers", JSON)
    command(
        added, "sample", "sample_from_file", "draw images from a model file, anywhere",
        MODEL,
        option("-n", "--count", type=int, default=64, help="images (%(default)s)"),
        option("--out", type=Path, default=Path("grid.png"), help="picture to write (%(default)s)"),
        option("--seed", type=int, default=0, help="one of sample.seeds draws that set again (%(default)s)"),
        option("--sampler", default="ddim", help=f"{', '.join(variant.names('samplers'))} (%(default)s)"),
        STEPS,
        option("--spacing", default="uniform", choices=get_args(Spacing), help="(%(default)s)"),
        option("--class", nargs="+", dest="classes", metavar="CLASS", help="numbers or names, in turn (all)"),
        option("--guidance", type=float, default=1.0, metavar="WEIGHT", help="1: none (%(default)s)"),
        option("--guide", metavar="FILE", help="guide away from this worse model (the model without a class)"),
        option("--batch-size", type=int, default=256, help="(%(default)s)"),
        DEVICE,
    )  # fmt: skip
    command(
        added, "gate", "gate_scores", "compare the scores with metrics/baseline.json; 1 if they are worse",
        either(
            option("--update", action="store_true", help="write the baseline, from runs of at least five seeds"),
            option("--json", action="store_true", help="the checks as JSON"),
        ),
        option("--champion", nargs="?", const="ddpm", metavar="MODEL",
               help="on a pass, register the model in MLflow and move the alias champion of MODEL (ddpm) to it"),
    )  # fmt: skip
    _add_study(group(added, "study", "take a question to a verdict: plan, run and judge a study"))
    _add_use(group(added, "use", "change given images with the model: inpaint, vary, interpolate, invert"))
    _add_results(added)
    _add_others(added)
    track = group(added, "track", "complete the run in MLflow, or register the model there")
    study = option("--study", type=Path, metavar="FILE", help="write the runs of that study, also of other machines")
    command(track, "sync", "track_sync", "write the run of the current results, or complete it", study)
    what = "make the current model a version in MLflow's registry"
    name = option("--name", default="ddpm", help="of the registered model (%(default)s)")
    command(track, "register", "track_register", what, name)

    samplers = variant.names("samplers")
    complete(top, added, {"name": presets.names(), "sampler": samplers, "samplers": samplers})
    return top


def _add_results(added: Commands) -> None:
    """Commands that show the results of one model, or of many."""
    command(
        added, "runs", "list_runs", "list all runs: what differs in each, its scores, its state",
        option("--mlflow", action="store_true", help="include those that only MLflow has"),
        option("--json", action="store_true", help="as JSON, with every score"),
    )  # fmt: skip
    command(
        added, "compare", "compare_runs", "say which variant is better, from runs paired by training seed",
        either(
            option("--by", nargs="+", metavar="KEY", help="params keys, such as diffusion.schedule.name"),
            option("--between", nargs=2, metavar=("BASELINE", "OTHER"), help="two experiments or git revisions"),
            required=True,
        ),
        option("--metrics", nargs="+", default=[], metavar="NAME", help="(those that all runs have)"),
        option("--all-pairs", action="store_true", help="every pair, not only each against the baseline"),
        BUDGETS,
        CODE,
        option("--out", type=Path, metavar="FOLDER", help="write verdict.md, .json and .png there"),
        option("--json", action="store_true", help="print the content of verdict.json instead of the table"),
    )  # fmt: skip
    command(
        added, "summary", "print_summary", "show the current model in five lines: its scores, and where to look",
        either(
            option("--all", action="store_true", help="every number, by stage"),
            option("--json", action="store_true", help="every number as JSON, by stage"),
        ),
    )  # fmt: skip
    command(
        added, "frontier", "draw_frontier", "measure quality against cost, over samplers and evaluations",
        MODEL,
        option("--samplers", nargs="+", metavar="NAME", help="(all)"),
        option("--evaluations", nargs="+", type=int, metavar="N", help="of the network (5 10 20 50 100)"),
        option("--weights", nargs="+", type=float, metavar="W", help="weights of guidance (params.yaml's)"),
        option("--spacing", choices=get_args(Spacing), help="(what suits each sampler's few steps)"),
    )  # fmt: skip
    command(
        added, "report", "write_report", "write one HTML file about the current model",
        option("--by", nargs="+", default=[], metavar="KEY", help="add its variants, as in `ddpm compare`"),
        BUDGETS,
        CODE,
        option("--out", type=Path, default=Path("report.html"), help="(%(default)s)"),
    )  # fmt: skip


def _add_others(added: Commands) -> None:
    """Commands that share a model, or help before anything runs."""
    command(
        added, "ema", "write_average", "write a model file with another average of the weights (train.posthoc)",
        option("--length", type=float, required=True, help="as in sample.ema_length: the paper's sigma_rel"),
        option("--model", type=Path, default=MODEL_FILE, help="with the folder ema/ next to it (%(default)s)"),
        option("--out", type=Path, default=Path("ema.safetensors"), help="a new file (%(default)s)"),
    )  # fmt: skip
    command(
        added, "export", "export_model", "write the model and its card to a folder, to share",
        MODEL,
        option("--out", type=Path, default=Path("export"), help="folder to write, a new one (%(default)s)"),
        option("--format", choices=("ddpm", "diffusers"), default="ddpm", help="(%(default)s)"),
    )  # fmt: skip
    command(
        added, "import", "import_model", "make a model file from a folder that export or diffusers wrote",
        option("source", type=Path, metavar="FOLDER|FILE"),
        option("--out", type=Path, default=Path("model.safetensors"), help="a new file (%(default)s)"),
    )  # fmt: skip
    offline = option("--offline", action="store_true", help="count what has to be downloaded as missing")
    what = "show what is here and what is missing; exit code 1 if something is"
    command(added, "doctor", "examine", what, offline, JSON)
    out = option("--out", type=Path, help="file to write (the one in the package, which params.yaml names)")
    command(added, "schema", "write_schema", "write the JSON schema of params.yaml, for editors", out)


def _add_study(added: Commands) -> None:
    command(
        added, "new", "study.write_new", "write a study's file, with comments",
        option("name", metavar="NAME"),
        option("--vary", nargs="+", required=True, metavar="KEY=A,B", help="params keys and their values"),
        option("--base", metavar="PRESET", help="(params.yaml)"),
        option("--looks", nargs="+", type=int, metavar="N", help="seeds at which it may be decided (8 12 16 20)"),
        option("--spending", default="pocock", metavar="HOW",
               help="pocock, obrien_fleming, linear or evalue (%(default)s)"),
    )  # fmt: skip
    what = "show its experiments, what exists, the cost, the power at each look"
    command(added, "plan", "study.print_plan", what, PLAN, SLOTS, JSON, NO_PILOT)
    what = "count or measure a training step of each variant, for the plan's costs"
    command(added, "costs", "study.print_costs", what, PLAN)
    command(
        added, "run", "study.run", "run what is missing, and decide; after any stop, the same command continues",
        PLAN, SLOTS, JSON,
        option("--line", type=int, metavar="K", help="only the K-th experiment of the plan, for job arrays"),
        option("--max-time", type=_minutes, metavar="MINUTES", help="then stop (exit code 75); continue later"),
        option("--push", action="store_true", help="push each result to the git remote origin, as `push` does"),
    )  # fmt: skip
    what = "show what is done, running, failed and missing, and the time left"
    command(added, "status", "study.print_status", what, PLAN, SLOTS, JSON)
    command(added, "verdict", "study.print_verdict", "judge what is finished by now, and run nothing", PLAN, JSON)
    what = "send the results to a git remote, and their data to DVC's remote"
    command(added, "push", "study.push", what, PLAN, REMOTE)
    command(added, "pull", "study.pull", "take what other machines pushed", PLAN, REMOTE)


def _add_use(added: Commands) -> None:
    what = {
        "inpaint": "draw a part of each image, and keep the rest (RePaint)",
        "vary": "draw images like the given ones (SDEdit)",
        "interpolate": "draw a row from each image to the next",
        "invert": "find the noise from which the model draws each image, and draw it again",
    }
    own = {
        "inpaint": [
            option("--part", default="centre",
                   help=f"{', '.join(SIDES)}, or a picture that is white where to draw (%(default)s)"),
            option("--rounds", type=int, default=10, help="how often each step is taken (%(default)s)"),
            OF_CLASS,
        ],
        "vary": [
            option("--strengths", type=float, nargs="+", default=[0.25, 0.5, 0.75], metavar="S",
                   help="how much noise to add, above 0 and up to 1: a row for each (0.25 0.5 0.75)"),
            OF_CLASS,
        ],
        "interpolate": [
            option("--count", type=int, default=9, help="images in a row, with the two given ones (%(default)s)")
        ],
        "invert": [],
    }  # fmt: skip
    for name, options in own.items():
        command(
            added, name, f"use.{name}", what[name],
            MODEL,
            either(
                option("--images", type=Path, nargs="+", metavar="FILE", help="pictures, cropped to the model's shape"),
                option("--rows", type=int, nargs="+", metavar="I", help=f"of the test split (the first {ROWS})"),
            ),
            option("--out", type=Path, default=Path(f"{name}.png"), help="picture to write (%(default)s)"),
            option("--seed", type=int, default=0, help="(%(default)s)"),
            STEPS,
            DEVICE,
            *options,
        )  # fmt: skip

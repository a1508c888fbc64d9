"""The ``ddpm`` command: presets, checks, verdicts, sampling from a model file, tracking. DVC runs the stages."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import get_args

from ddpm import terminal
from ddpm.base import variant
from ddpm.base.errors import UserError, exit_code, masked, printable
from ddpm.base.files import atomic_path, read_json
from ddpm.base.paths import BASELINE, METRICS, MODEL_FILE, REFERENCE
from ddpm.base.settings import section
from ddpm.params import config, file, presets
from ddpm.sampling.settings import Sample, Spacing
from ddpm.terminal import Commands, print_json

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def main(arguments: list[str] | None = None) -> None:
    """Entry point; exits with 0, or 2 after one line on stderr that says what to fix."""

    def run() -> int | None:
        parsed = parser().parse_args(arguments)
        code: int | None = parsed.run(parsed)
        return code

    sys.exit(exit_code(run))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="ddpm", description=__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    about = f"Presets: {', '.join(presets.names())}. Each states its cost and expected scores in its first lines."
    preset = commands.add_parser("preset", help="write a preset over params.yaml", description=about)
    preset.add_argument("name")
    preset.add_argument("--force", action="store_true", help="overwrite uncommitted changes of params.yaml")
    preset.set_defaults(run=write_preset)

    check = commands.add_parser("check", help="check the whole of params.yaml, and estimate what the next run takes")
    check.add_argument("--no-pilot", action="store_true", help="skip the few steps that measure time and memory")
    check.set_defaults(run=check_params)

    listing = commands.add_parser("variants", help="list what can be chosen, with the papers")
    listing.add_argument("--json", action="store_true", help="as JSON, by params key and name")
    listing.set_defaults(run=list_variants)

    sample = commands.add_parser("sample", help="sample from a model file, anywhere")
    sample.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    sample.add_argument("-n", "--count", type=int, default=64, help="images (%(default)s)")
    sample.add_argument("--out", type=Path, default=Path("grid.png"), help="picture to write (%(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="one of sample.seeds draws its set again (%(default)s)")
    sample.add_argument("--sampler", default="ddim", help=f"{', '.join(variant.names('samplers'))} (%(default)s)")
    sample.add_argument("--steps", type=int, default=50, help="steps of the chain to visit (%(default)s)")
    sample.add_argument("--spacing", default="uniform", choices=get_args(Spacing), help="(%(default)s)")
    sample.add_argument("--batch-size", type=int, default=256, help="(%(default)s)")
    sample.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    sample.set_defaults(run=sample_from_file)

    _add_runs(commands)

    _add_compare(commands)

    gate = commands.add_parser("gate", help="the current scores against metrics/baseline.json: 1 if they are worse")
    form = gate.add_mutually_exclusive_group()
    form.add_argument("--update", action="store_true", help="write the baseline, from runs of at least five seeds")
    form.add_argument("--json", action="store_true", help="the checks as JSON")
    gate.set_defaults(run=gate_scores)

    _add_pages(commands)

    _add_exchange(commands)

    _add_aids(commands)

    track = commands.add_parser("track", help="MLflow runs")
    track_commands = track.add_subparsers(metavar="COMMAND", required=True)
    sync = track_commands.add_parser("sync", help="write the run of the current results, or complete it")
    sync.set_defaults(run=track_sync)
    registered = track_commands.add_parser("register", help="make the current model a version in MLflow's registry")
    registered.add_argument("--name", default="ddpm", help="of the registered model (%(default)s)")
    registered.set_defaults(run=track_register)

    samplers = variant.names("samplers")
    terminal.dress(top, commands, {"name": presets.names(), "sampler": samplers, "samplers": samplers})
    return top


def _add_aids(commands: Commands) -> None:
    """What helps before anything runs."""
    doctor = commands.add_parser("doctor", help="what this machine and folder have, and what is missing: then 1")
    doctor.add_argument("--offline", action="store_true", help="what has to be downloaded is missing too")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=examine)

    schema = commands.add_parser("schema", help="write the JSON schema of params.yaml, for editors")
    schema.add_argument("--out", type=Path, help="(in the package, where params.yaml looks for it)")
    schema.set_defaults(run=write_schema)


def _add_pages(commands: Commands) -> None:
    """What shows the current model's results."""
    summary = commands.add_parser("summary", help="the current model in five lines: its scores, and where to look")
    form = summary.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="every number, by stage")
    form.add_argument("--json", action="store_true", help="every number as JSON, by stage")
    summary.set_defaults(run=print_summary)

    frontier = commands.add_parser("frontier", help="quality against cost: one model over samplers and evaluations")
    frontier.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    frontier.add_argument("--samplers", nargs="+", metavar="NAME", help="(all)")
    frontier.add_argument("--evaluations", nargs="+", type=int, metavar="N", help="of the network (5 10 20 50 100)")
    frontier.add_argument("--spacing", choices=get_args(Spacing), help="(what suits each sampler's few steps)")
    frontier.set_defaults(run=draw_frontier)

    page = commands.add_parser("report", help="one HTML file of all that is known of the current model")
    page.add_argument("--by", nargs="+", default=[], metavar="KEY", help="its variants too: as in `ddpm compare`")
    page.add_argument("--allow-budget-mismatch", action="store_true", help="compare runs that cost more or less")
    page.add_argument("--allow-code-mismatch", action="store_true", help="compare runs that other code made")
    page.add_argument("--out", type=Path, default=Path("report.html"), help="(%(default)s)")
    page.set_defaults(run=write_report)


def _add_runs(commands: Commands) -> None:
    runs = commands.add_parser("runs", help="all runs in a table: what differs in each, its scores, its state")
    runs.add_argument("--mlflow", action="store_true", help="those too that MLflow alone has")
    runs.add_argument("--json", action="store_true", help="as JSON, with every score")
    runs.set_defaults(run=list_runs)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="which variant is better, over runs paired by training seed")
    what = compare.add_mutually_exclusive_group(required=True)
    what.add_argument("--by", nargs="+", metavar="KEY", help="params keys, such as diffusion.schedule.name")
    what.add_argument("--between", nargs=2, metavar=("BASELINE", "OTHER"), help="two experiments or git revisions")
    compare.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="(those that all runs have)")
    compare.add_argument("--all-pairs", action="store_true", help="every pair, not each against the baseline alone")
    compare.add_argument("--allow-budget-mismatch", action="store_true", help="compare runs that cost more or less")
    compare.add_argument("--allow-code-mismatch", action="store_true", help="compare runs that other code made")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="write verdict.md, .csv, .json and .png there")
    compare.add_argument("--json", action="store_true", help="print what verdict.json says, in place of the table")
    compare.set_defaults(run=compare_runs)


def _add_exchange(commands: Commands) -> None:
    export = commands.add_parser("export", help="the model with a card, as a folder to share")
    export.add_argument("--model", type=Path, default=MODEL_FILE, help="(%(default)s)")
    export.add_argument("--out", type=Path, default=Path("export"), help="folder to write, a new one (%(default)s)")
    export.add_argument("--format", choices=("ddpm", "diffusers"), default="ddpm", help="(%(default)s)")
    export.set_defaults(run=export_model)

    taken = commands.add_parser("import", help="a model file of a folder that was exported, or that diffusers saved")
    taken.add_argument("source", type=Path, metavar="FOLDER|FILE")
    taken.add_argument("--out", type=Path, default=Path("model.safetensors"), help="a new file (%(default)s)")
    taken.set_defaults(run=import_model)


def write_preset(parsed: argparse.Namespace) -> None:
    text = presets.text(parsed.name)
    if not parsed.force:
        _refuse_uncommitted(file.PATH)
    with atomic_path(file.PATH) as temporary:
        temporary.write_text(text)
    print(f"{file.PATH} is now the preset {parsed.name!r}; run it by `dvc repro`")


def _refuse_uncommitted(path: Path) -> None:
    try:
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", path], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise UserError(
            "git: not installed, so uncommitted changes can't be seen; install it, or pass --force"
        ) from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"{Path.cwd()}: {error.stderr}; run this in the project's clone, or pass --force") from error
    if status.stdout and path.exists():
        raise UserError(
            f"{path}: has uncommitted changes, which a preset would overwrite: commit them, or pass --force"
        )


def check_params(parsed: argparse.Namespace) -> None:
    from ddpm import doctor
    from ddpm.forecast import estimate
    from ddpm.model import architecture
    from ddpm.scoring import extractor
    from ddpm.scoring.scores import check_counts

    checked = config.load()
    for name in checked.evaluate.extractors:
        check_counts(checked.evaluate, extractor.get(name), {"sample.count": checked.sample.count})
    for found in (doctor.repository(), doctor.branch(), *([] if doctor.fetched() else [doctor.source(checked.data)])):
        if found.state == "missing":
            raise UserError(f"{found.found}; {found.fix}")
    network = architecture.build(checked)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{file.PATH}: ok; {checked.model.name} with {parameters:,} parameters", flush=True)
    if not parsed.no_pilot:
        print(*estimate.report(checked), sep="\n")


def list_variants(parsed: argparse.Namespace) -> None:
    from ddpm.params import catalogue

    if parsed.json:
        print_json({key: catalogue.members(family) for key, family in catalogue.SHELVES.items()})
    else:
        print(catalogue.listing())


def sample_from_file(parsed: argparse.Namespace) -> None:
    import torch

    from ddpm.compute import devices
    from ddpm.model.file import load_model
    from ddpm.pictures import grids
    from ddpm.sampling.generator import Generator
    from ddpm.sampling.samples import noise_seed

    if parsed.out.suffix.lower() not in PICTURE_SUFFIXES:
        raise UserError(
            f"--out: {parsed.out} does not end in a picture's suffix; allowed: {', '.join(PICTURE_SUFFIXES)}"
        )
    options = section(
        Sample,
        {
            "count": parsed.count,
            "seeds": (parsed.seed,),
            "batch_size": parsed.batch_size,
            "sampler": variant.build("samplers", {"name": parsed.sampler}, "--sampler"),
            "steps": parsed.steps,
            "spacing": parsed.spacing,
        },
    )
    device = devices.resolve(parsed.device)
    model = load_model(parsed.model / MODEL_FILE.name if parsed.model.is_dir() else parsed.model, device)
    generator = Generator.of(model, options, device)
    seed = noise_seed(model.config.seed, options.seeds[0])
    batches = generator.batches(options.count, options.batch_size, seed, model.image_shape)
    grids.save_grid(torch.cat([batch for _, batch in batches]), parsed.out)
    print(f"{parsed.out}: {options.count} images, {generator.evaluations} evaluations each")


def draw_frontier(parsed: argparse.Namespace) -> None:
    from tabulate import tabulate

    from ddpm.compare import frontier
    from ddpm.compute import devices
    from ddpm.pictures import plots

    settings = config.load()
    samplers = frontier.chosen_samplers(parsed.samplers or variant.names("samplers"))
    measured = frontier.Frontier(parsed.model, REFERENCE, settings, devices.resolve(settings.device))
    points = measured.points(samplers, parsed.evaluations or frontier.EVALUATIONS, parsed.spacing)
    frontier.write_csv(METRICS / "frontier.csv", points)
    plots.lines(METRICS / "frontier.png", frontier.panels(points))
    print(f"{frontier.title(points)}\n")
    print(tabulate(frontier.front(points), tablefmt="plain", disable_numparse=True))
    print(f"\n{frontier.CLOCKS_SAY}")
    print(f"{len(points)} points, {measured.measured} cells measured now: {METRICS / 'frontier.csv'}, frontier.png")


def list_runs(parsed: argparse.Namespace) -> None:
    from ddpm.compare import overview

    found = overview.gather(config.load(), parsed.mlflow)
    if parsed.json:
        print_json([run._asdict() for run in found])
    else:
        print(overview.table(found, terminal.width()))


def compare_runs(parsed: argparse.Namespace) -> None:
    from ddpm.compare import runs, tables, verdict

    working, options = config.load(), (parsed.metrics, parsed.allow_budget_mismatch)
    if parsed.between:
        before, after = map(runs.at_revision, parsed.between)
        found = verdict.between(before, after, working.compare, *options)
    else:
        all_options = (*options, parsed.allow_code_mismatch, parsed.all_pairs)
        found = verdict.compare(runs.gather(), parsed.by, working, *all_options)
    written = tables.write(found, parsed.out) if parsed.out else []
    if parsed.json:
        print_json(tables.to_dict(found))
    else:
        print(tables.table(found), *([""] if written else []), *written, sep="\n")


def gate_scores(parsed: argparse.Namespace) -> int:
    """Exit code 0 for a pass, 1 for a regression; 2, as ever, where nothing can be said."""
    from ddpm.compare import gate, measured, snapshots

    try:
        settings, fingerprint, scores = config.load(), measured.fingerprint(), measured.scores()
        snapshots.check_metrics()
        if parsed.update:
            print(*gate.update(settings), f"{BASELINE} is written; `ddpm gate` says what it is worth", sep="\n")
            return 0
        checks = gate.gate(scores, fingerprint, gate.read_baseline(), settings.gate)
        text = gate.markdown(checks, settings.gate)
        gate.summarize(text)
    except UserError as error:
        line = printable(masked(str(error)))
        if parsed.json:
            print_json({"passed": None, "error": line})
        gate.summarize(f"### ddpm gate: not comparable\n\n{line}")
        raise
    if parsed.json:
        print_json({"passed": not gate.failed(checks), "checks": [check.model_dump() for check in checks]})
    else:
        print(text)
    return 1 if gate.failed(checks) else 0


def write_report(parsed: argparse.Namespace) -> None:
    from ddpm.pages import report
    from ddpm.tracking import tracker

    report.write(parsed.out, parsed.by, parsed.allow_budget_mismatch, parsed.allow_code_mismatch)
    print(f"{parsed.out}: open it in a browser")
    try:
        if run_id := tracker.attach(parsed.out):
            print(f"and an artifact of MLflow run {run_id}")
    except UserError as error:
        print(f"warning: not logged with a run of MLflow: {error}", file=sys.stderr)


def export_model(parsed: argparse.Namespace) -> None:
    from ddpm.sharing import exchange

    exchange.export_model(parsed.model, parsed.out, parsed.format)
    print(f"{parsed.out}: {parsed.model} as a folder to share; read its README.md before you do")


def import_model(parsed: argparse.Namespace) -> None:
    from ddpm.sharing import exchange

    model = exchange.import_model(parsed.source, parsed.out)
    unknown = model.facts.get("imported", {}).get("unknown", [])
    print(f"{parsed.out}: {model.config.model.name} for {'x'.join(map(str, model.image_shape))} images")
    if unknown:
        print(f"its config has stand-ins for what {parsed.source} does not say: {', '.join(unknown)}")


def print_summary(parsed: argparse.Namespace) -> None:
    from ddpm.compare import snapshots, summary

    measured = {stage: read_json(METRICS / f"{stage}.json") for stage in ("train", "sample", "evaluate")}
    try:
        snapshots.check_metrics()
    except UserError as error:
        print(f"warning: {printable(masked(str(error)))}", file=sys.stderr)
    if parsed.json:
        print_json(measured)
    else:
        print(*(summary.numbers(measured) if parsed.all else summary.lines(config.load(), measured)), sep="\n")


def examine(parsed: argparse.Namespace) -> int:
    """Exit code 1 when something needed is missing."""
    from ddpm import doctor

    findings = doctor.examine()
    lacking = doctor.lacking(findings, parsed.offline)
    if parsed.json:
        print_json({"ok": not lacking, "findings": [found._asdict() for found in findings]})
    else:
        print(doctor.listing(findings, parsed.offline))
    return 1 if lacking else 0


def write_schema(parsed: argparse.Namespace) -> None:
    from ddpm.params import schema

    print(f"{schema.write(parsed.out or schema.PATH)}: name it in the first line of a params file, or in your editor")


def track_sync(_: argparse.Namespace) -> None:
    from ddpm.tracking import tracker

    print(f"MLflow run {_written(tracker.sync())} is complete")


def track_register(parsed: argparse.Namespace) -> None:
    from ddpm.tracking import serving

    uri = _written(serving.register(parsed.name))
    print(f"{uri}: `mlflow models serve -m {uri} --env-manager local --host 127.0.0.1 -p 5001` draws its images")


def _written(answer: str | None) -> str:
    """Raises UserError where there is none."""
    if answer is None:
        raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
    return answer

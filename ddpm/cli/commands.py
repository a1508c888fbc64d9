"""What each command of ``ddpm`` does. Only the commands that need torch, MLflow and others import them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ddpm.base import variant
from ddpm.base.errors import UserError, masked, printable
from ddpm.base.files import atomic_path, read_json, sha256
from ddpm.base.paths import BASELINE, METRICS, PROCESSED, REFERENCE
from ddpm.base.settings import section
from ddpm.cli import terminal
from ddpm.cli.terminal import answer, picture_path
from ddpm.params import config, credit, file, presets
from ddpm.sampling.settings import Guidance, Sample


def write_preset(parsed: argparse.Namespace) -> None:
    import pygit2

    from ddpm.compare import snapshots

    text = presets.text(parsed.name, parsed.on)
    git = None if parsed.force else snapshots.repository()
    as_committed = (pygit2.enums.FileStatus.CURRENT, pygit2.enums.FileStatus.IGNORED)
    if git and file.PATH.exists() and git.status_file(str(snapshots.below(git) / file.PATH)) not in as_committed:
        raise UserError(
            f"{file.PATH}: has uncommitted changes, which a preset would overwrite: commit them, or pass --force"
        )
    with atomic_path(file.PATH) as temporary:
        temporary.write_text(text)
    on = "" if parsed.on == presets.BASE else f" on {parsed.on!r}"
    print(f"{file.PATH} is now the preset {parsed.name!r}{on}; run it by `dvc repro`")


def check_params(parsed: argparse.Namespace) -> None:
    from ddpm import doctor
    from ddpm.scoring import limits

    checked = config.load()
    limits.check_channels(checked.evaluate, checked.data.channels)
    limits.check_suited(checked.evaluate)
    limits.check_counts(checked.evaluate, {"sample.count": checked.sample.count})
    for found in (doctor.repository(), doctor.branch(), *([] if doctor.fetched() else [doctor.source(checked.data)])):
        if found.state == "missing":
            raise UserError(f"{found.found}; {found.fix}")

    from ddpm.forecast import estimate
    from ddpm.model import build  # torch takes a second: after what is checked without

    network = build.network(checked)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{file.PATH}: ok; {checked.model.name} with {parameters:,} parameters", flush=True)
    if not parsed.no_pilot:
        print(*estimate.report(checked), sep="\n")


def check_scores(parsed: argparse.Namespace) -> None:
    from ddpm import sanity as measurement
    from ddpm.compare import sanity, tables
    from ddpm.compute import devices

    checked = config.load()
    device = devices.resolve(checked.device)
    found = measurement.measure(checked.evaluate, checked.data, checked.sample.count, PROCESSED, REFERENCE, device)
    measurement.write(found, PROCESSED)
    lines = [sanity.explanation(found), *sanity.findings(found), f"{sanity.PATH}, {sanity.PICTURE}"]
    table = tables.plain([(sanity.title(found), sanity.table(found))], lines)
    answer(parsed, found.model_dump(mode="json"), table)


def list_variants(parsed: argparse.Namespace) -> None:
    from ddpm.params import catalogue

    shelves = {key: variant.members(family) for key, family in catalogue.FAMILIES.items()}
    answer(parsed, shelves, catalogue.listing())


def sample_from_file(parsed: argparse.Namespace) -> None:
    import torch

    from ddpm.compute import devices
    from ddpm.model.file import load_model
    from ddpm.pictures import grids
    from ddpm.sampling.generator import Generator
    from ddpm.sampling.samples import noise_seed

    picture_path(parsed.out)
    given = {name: getattr(parsed, name) for name in ("count", "batch_size", "steps", "spacing")}
    sampler = variant.build("samplers", {"name": parsed.sampler}, "--sampler")
    given["classes"] = tuple(parsed.classes) if parsed.classes else None
    if parsed.guide and not Path(parsed.guide).is_file():
        raise UserError(f"--guide: {parsed.guide}: no such model file")
    guide = {"model": parsed.guide, "sha256": sha256(Path(parsed.guide)) if parsed.guide else None}
    guided = section(Guidance, {"weight": parsed.guidance, **guide})
    options = section(Sample, {**given, "seeds": (parsed.seed,), "sampler": sampler, "guidance": guided})
    device = devices.resolve(parsed.device)
    model = load_model(parsed.model, device)
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
    points = measured.points(samplers, parsed.evaluations or frontier.EVALUATIONS, parsed.spacing, parsed.weights)
    frontier.write_csv(METRICS / "frontier.csv", points)
    plots.lines(METRICS / "frontier.png", frontier.panels(points))
    print(f"{frontier.title(points)}\n")
    print(tabulate(frontier.front(points), tablefmt="plain", disable_numparse=True))
    print(f"\n{frontier.CLOCKS_SAY}")
    print(f"{len(points)} points, {measured.measured} cells measured now: {METRICS / 'frontier.csv'}, frontier.png")


def list_runs(parsed: argparse.Namespace) -> None:
    from ddpm.compare import overview

    found = overview.gather(config.load())
    answer(parsed, [run._asdict() for run in found], overview.table(found, terminal.width()))


def compare_runs(parsed: argparse.Namespace) -> int:
    from ddpm.compare import noise_levels, runs, tables, too_early, verdict

    working = config.load()
    options = parsed.metrics, parsed.may_differ, parsed.all_pairs
    found = verdict.compare(runs.gather(), parsed.by, working, *options)
    levels = noise_levels.differences({arm.label: arm.runs for arm in found.arms}, working.compare.confidence)
    found = replace(found, notes=(*found.notes, *noise_levels.lines(levels)))
    written = [*tables.write(found, parsed.out), *noise_levels.draw(levels, parsed.out)] if parsed.out else []
    table = tables.plain(tables.tables(found), tables.notes(found))
    answer(parsed, tables.to_dict(found), table, *([""] if written else []), *written)
    return too_early.exit_code(found.verdicts, found.metrics[0])


def gate_scores(parsed: argparse.Namespace) -> int:
    """Exit code 0 for a pass, 1 for a regression; 2, as usual, if no verdict is possible."""
    from ddpm.compare import gate, measured, sanity, snapshots

    try:
        settings, comparable, scores = config.load(), measured.comparable(), measured.scores()
        snapshots.check_metrics()
        decisive = gate.decisive(scores, settings.gate)
        sanity.check_decisive(decisive, settings.gate.blind_to, "gate.blind_to", settings)
        if parsed.update:
            print(*gate.update(settings), f"{BASELINE} is written; `ddpm gate` says what it is worth", sep="\n")
            return 0
        checks = gate.gate(scores, comparable, gate.read_baseline(), settings)
        text = gate.markdown(checks, settings.gate)
        gate.summarize(text)
    except UserError as error:
        line = printable(masked(str(error)))
        if parsed.json:
            answer(parsed, {"passed": None, "error": line})
        gate.summarize(f"### ddpm gate: not comparable\n\n{line}")
        raise
    answer(parsed, {"passed": not gate.failed(checks), "checks": [check.model_dump() for check in checks]}, text)
    return 1 if gate.failed(checks) else 0


def write_report(parsed: argparse.Namespace) -> None:
    from ddpm.pages import report
    from ddpm.tracking import tracker

    report.write(parsed.out, parsed.by, parsed.may_differ)
    print(f"{parsed.out}: open it in a browser")
    try:
        if run_id := tracker.sync(attached=parsed.out):
            print(f"and an artifact of MLflow run {run_id}")
    except UserError as error:
        print(f"warning: not logged with a run of MLflow: {error}", file=sys.stderr)


def write_average(parsed: argparse.Namespace) -> None:
    from ddpm.model import averages

    averages.save(parsed.model, parsed.length, parsed.out)
    print(f"{parsed.out}: the average of length {parsed.length:g}; `ddpm sample --model {parsed.out}` draws from it")


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
    except credit.Miscredited:
        raise
    except UserError as error:
        print(f"warning: {printable(masked(str(error)))}", file=sys.stderr)
    if parsed.json:
        answer(parsed, measured)
    else:
        print(*(summary.numbers(measured) if parsed.all else summary.lines(config.load(), measured)), sep="\n")


def examine(parsed: argparse.Namespace) -> int:
    """Exit code 1 if something needed is missing."""
    from ddpm import doctor

    findings = doctor.examine()
    lacking = doctor.lacking(findings, parsed.offline)
    found = {"ok": not lacking, "findings": [found._asdict() for found in findings]}
    answer(parsed, found, doctor.listing(findings, parsed.offline))
    return 1 if lacking else 0


def write_schema(parsed: argparse.Namespace) -> None:
    from ddpm.params import schema

    print(f"{schema.write(parsed.out or schema.PATH)}: name it in the first line of a params file, or in your editor")


def track_sync(parsed: argparse.Namespace) -> None:
    if parsed.study:
        from ddpm.cli import study

        study.track(parsed.study)
        return
    from ddpm.tracking import tracker

    if (run := tracker.sync()) is None:
        raise UserError("MLflow: nothing was written: DDPM_TRACKING is off")
    print(f"MLflow run {run} is complete")

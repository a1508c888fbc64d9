"""A study's verdict published: its files, its pictures and its page, and its runs in MLflow."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ddpm.base.errors import UserError, printable
from ddpm.report import compared, render
from ddpm.report.blocks import chapter
from ddpm.report.noise_levels import Difference
from ddpm.study import curves, logged, runner, tuning, verdict
from ddpm.study.results import Ledger
from ddpm.study.verdict import Findings


def write(ledger: Ledger, findings: Findings) -> tuple[Findings, list[Path]]:
    """Write the verdict, its pictures and its page, and log them; return the verdict with all its notes, and the paths
    of the files."""
    ledger.update()
    levels = compared.differences(ledger.found(), ledger.study.settings.compare.confidence)
    where = filter(None, (difference.sentence() for difference in levels))
    findings = replace(findings, notes=(*findings.notes, *where))
    pictured = compared.draw_levels(levels, runner.paths(ledger.study)[0].parent)
    written = [*runner.write(ledger.study, findings), *pictured, _report(ledger, findings, levels)]
    _log(ledger, written)
    return findings, written


def _report(ledger: Ledger, findings: Findings, levels: Sequence[Difference]) -> Path:
    """Write the study's page; return its path."""
    study, path = ledger.study, runner.paths(ledger.study)[0].with_name("report.html")
    arms = compared.of_runs({variant: runs for variant, runs in ledger.found().items() if runs})
    found = compared.Compared(
        arms,
        findings.findings,
        list(verdict.titled(findings)),
        [note for note in findings.notes if not note.startswith("where in the noise")],
        "no experiment is finished",
        levels,
        partial(curves.draw, findings.curves) if findings.curves else None,
        tuning.panels(findings.tuning, findings.primary),
        verdict.headlines(findings),
    )
    shown = {
        "Answer": compared.answers,
        "Samples": compared.samples,
        "Verdict": compared.verdict,
        "Curves": compared.curves,
    }
    chapters = [chapter(title, partial(builder, found)) for title, builder in shown.items()]
    render.write_html(path, study.plan.question, "ddpm study", chapters)
    return path


def _log(ledger: Ledger, written: list[Path]) -> None:
    """Log the study in MLflow; a failure there fails nothing here."""
    if os.environ.get("DDPM_TRACKING") != "off":
        try:
            logged.sync(ledger, written)
        except UserError as error:
            again = f"`ddpm track sync --study {ledger.study.path}` logs the study later"
            print(f"warning: {printable(str(error))}; {again}", file=sys.stderr)

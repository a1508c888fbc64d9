"""``ddpm gate`` as CI calls it: its exit code, what it prints, and that nothing doubtful ever passes."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ddpm.base import files
from ddpm.base.paths import BASELINE, RUN, SCORED
from ddpm.params import config, presets
from ddpm.referee import gate
from ddpm.runs import library
from tests import command
from tests.scored import record, result, write

COMPARABLE = {"samples": 1437, "sampling": {"steps": 50}}
# by training seed
HONEST = [
    {"classifier.fd": 0.25 + 0.01 * s, "classifier.is_mean": 8.9, "classifier.recall": 0.9 - 0.002 * s,
     "bits_per_dim": 1.5 + 0.01 * s} for s in range(6)
]  # fmt: skip
COPYING = {"memorisation.pixels.share": 0.31, "memorisation.pixels.limit": 0.14}
FD, RECALL, BITS = "classifier.fd", "classifier.recall", "bits_per_dim"


@pytest.fixture(autouse=True)
def _in_a_scored_folder(folder, monkeypatch) -> None:
    """params.yaml, the record of an honest seed by the code that is here, and the baseline of six."""
    monkeypatch.setenv("DDPM_TRACKING", "off")
    Path("params.yaml").write_text(presets.text("digits_2026"))
    Path("ddpm").mkdir()
    Path("ddpm/x.py").write_text("as it ran")
    record(folder)
    write(run_of(0))
    store(map(run_of, range(6)))


def run_of(seed: int, scores: dict[str, float] | None = None, **fields):
    """A run of params.yaml with another seed."""
    flat = json.loads(json.dumps(library.relevant(config.load().flat()))) | {"seed": seed}
    values = {"name": f"exp-{seed}", "params": flat, "code": {"ddpm/x.py": files.md5(Path("ddpm/x.py"))[:12]}}
    content = COMPARABLE | fields.pop("comparable", {})
    run = result(seed=seed, comparable=content, scores=HONEST[seed % 6] if scores is None else scores)
    return run.model_copy(update=values | fields)


def store(runs) -> None:
    BASELINE.write_text(f"[{','.join(run.text() for run in runs)}]")


def rescore(scores: dict[str, float], without: str = "", **fields) -> None:
    """Change scores of the working folder, and remove one."""
    changed = HONEST[0] | scores
    changed.pop(without, None)
    write(run_of(0, changed, **fields))


def run(*arguments: str) -> int:
    return command.run("gate", *arguments)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a gate that can't decide, with the baseline as it was."""
    before = BASELINE.read_bytes() if BASELINE.is_file() else b""
    line = command.refused(capsys, "gate", *arguments)
    assert before == (BASELINE.read_bytes() if BASELINE.is_file() else b"")
    return line


@pytest.mark.parametrize(("scores", "bad", "outcomes"), [
    ({}, [], {FD: "inconclusive", BITS: "inconclusive", "classifier.is_mean": "equivalent"}),
    ({FD: 0.40}, [FD], {FD: "worse"}),
    ({BITS: 1.65}, [BITS], {BITS: "worse"}),
    ({BITS: 9.0}, [BITS], {BITS: "useless"}),
    ({RECALL: 0.5}, [], {RECALL: "worse"}),  # it does not decide
    ({FD: 0.1}, [], {FD: "better"}),
    (COPYING, ["memorisation.pixels"], {FD: "inconclusive"}),
    (COPYING | {"memorisation.pixels.share": 0.14}, [], {}),
    # what compare calls too early
    ({FD: 0.40, f"yardsticks.gaussian.{FD}": 0.1}, [FD], {FD: "worse"}),
])  # fmt: skip
def test_what_passes_and_what_fails(scores, bad, outcomes, capsys):
    rescore(scores)
    assert run() == bool(bad)
    text = capsys.readouterr().out
    assert text.startswith(f"gate: {'regression in ' + ', '.join(bad) if bad else 'pass'}\n")
    assert ("copies train images (pixels)" in text) == ("memorisation.pixels" in bad)
    assert run("--json") == bool(bad)
    answer = json.loads(capsys.readouterr().out)
    assert answer["regressions"] == bad
    verdicts = {verdict["metric"]: verdict["outcome"] for verdict in answer["verdicts"]}
    assert [*verdicts] == [FD, BITS, "classifier.is_mean", RECALL]
    assert verdicts | outcomes == verdicts
    widths = {verdict["metric"]: verdict["high"] - verdict["low"] for verdict in answer["verdicts"]}
    assert widths[FD] == pytest.approx(widths[BITS])  # those that decide share the error rate equally


def bounds(capsys) -> list[float]:
    """The numbers of the gate's note on the distance, in its unit: alarm, failure, confirmation, noticed in half and in
    nine tenths of runs."""
    run()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{FD}: worse than")]
    return [float(number) for number in re.findall(r"(\S+) \(\d+%\)", line)]


def test_the_bounds_and_what_would_be_noticed_are_printed(capsys):
    alarm, failure, confirm, *noticed = bounds(capsys)
    mean, sd = np.mean([one[FD] for one in HONEST]), np.std([one[FD] for one in HONEST], ddof=1)
    for gap, code in ((0.99 * alarm, 0), (1.01 * alarm, 3), (0.99 * failure, 3), (1.01 * failure, 1)):
        rescore({FD: mean + gap})
        assert run() == code
    drawn = sd * np.random.default_rng(0).standard_normal((4, 10**5))
    for gap, chance in zip(noticed, (0.5, 0.9), strict=True):
        first, fresh = gap + drawn[0], gap + drawn[1:].mean(0)
        fails = (first > failure) | (first > alarm) & (fresh > confirm)
        assert np.mean(fails) == pytest.approx(chance, abs=0.02)


def make(folder, seeds, scores: dict[str, float], name: str = "exp", **fields) -> None:
    record(folder, [run_of(seed, HONEST[0] | scores, name=f"{name}-{seed}", **fields) for seed in seeds])


def test_an_alarm_is_decided_by_the_next_three_seeds_of_the_same_params_and_code(folder, capsys):
    _, _, confirm, *_ = bounds(capsys)
    mean = np.mean([one[FD] for one in HONEST])
    rescore({FD: 0.33})
    assert run("--json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["regressions"], answer["alarms"], answer["missing"]) == ([], [FD], [6, 7, 8])
    assert answer["verdicts"][0]["outcome"] == "not yet"
    make(folder, (9, 10, 11), {FD: 0.2})  # nobody chooses the seeds
    make(folder, (6, 7, 8), {FD: 0.2}, name="old", code={"ddpm/x.py": "0" * 12})
    make(folder, (6, 7), {FD: mean + 1.01 * confirm})
    assert run() == 3
    assert "(8)" in capsys.readouterr().out
    for factor, code in ((0.99, 0), (1.01, 1)):
        Path("theirs").mkdir(exist_ok=True)
        eighth = mean + (3 * factor - 2.02) * confirm
        Path("theirs/8.json").write_text(run_of(8, HONEST[0] | {FD: eighth}).text())
        assert run("--json", "--from", "theirs") == code
        answer = json.loads(capsys.readouterr().out)
        assert answer["regressions"] == [FD] * code
        assert (answer["missing"], answer["verdicts"][0]["seeds"]) == ([], [6, 7, 8])
        assert answer["verdicts"][0]["arm_scores"][2] == eighth
        assert (answer["verdicts"][0]["low"] > 0) == code
        assert answer["verdicts"][0]["outcome"] == ("worse" if code else "inconclusive")
    make(folder, [8], {FD: 0.2} | COPYING)
    assert run("--json") == 1
    assert json.loads(capsys.readouterr().out)["regressions"] == ["memorisation.pixels"]


@pytest.mark.parametrize(("change", "code"), [(0.0, 0), (1e-9, 3)])
def test_a_run_that_is_one_of_the_baselines_raises_no_alarm(change, code, capsys):
    worst = {0: HONEST[0] | {FD: 0.33}}
    store(run_of(seed, worst.get(seed)) for seed in range(20))
    rescore({FD: 0.33 + change})
    assert run("--json") == code
    answer = json.loads(capsys.readouterr().out)
    assert (answer["regressions"], answer["alarms"]) == ([], [FD] if code else [])
    assert run() == code
    assert ("alarm: fresh seeds decide" in capsys.readouterr().out) == bool(code)


def test_confirm_runs_the_missing_seeds(folder, capsys, monkeypatch):
    runs, real, fails = [], subprocess.run, []

    def train(command: list[str], **options) -> subprocess.CompletedProcess:
        if "dvc" not in command:
            return real(command, **options)
        assert Path(options["env"]["DVC_SITE_CACHE_DIR"]).is_absolute()
        runs.append(command[2:])
        seed = int(command[-1].removeprefix("seed="))
        make(folder, [] if seed in fails else [seed], {FD: 0.25})
        return subprocess.CompletedProcess(command, int(seed in fails))

    monkeypatch.setattr(subprocess, "run", train)
    assert run("--confirm") == 0
    rescore({FD: 0.9})
    assert run("--confirm") == 1
    assert not runs  # there was nothing to confirm
    rescore({FD: 0.33})
    make(folder, [6], {FD: 0.25})
    fails.append(8)
    assert run("--confirm") == 2
    assert "seed=8" in capsys.readouterr().err
    fails.clear()
    assert run("--confirm") == 0
    assert runs == [["dvc", "exp", "run", "--temp", "-S", f"seed={seed}"] for seed in (7, 8, 8)]


@pytest.mark.parametrize("path", [RUN, BASELINE])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff"])
def test_a_file_that_is_missing_or_damaged(path, content, capsys):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, *(["--json"] if content else []))
    assert line.startswith(f"{path}: ")
    assert content is None or path == RUN or "`ddpm gate --update` makes a new one" in line


def test_scores_of_other_code():
    Path("ddpm/x.py").write_text("edited")
    assert run() == 2


def test_update_writes_the_baseline_of_all_seeds_which_then_gates(folder):
    """Runs of other params and of other programs take no part, a seed counts once, and folders of records are looked
    into."""
    longer = run_of(8, HONEST[0] | {FD: 9.0})
    longer.params["train.batch_size"] = 7
    more = HONEST[4] | {"inception.fid": 3.0}  # which not every run has
    record(folder, [*map(run_of, range(4)), run_of(4, more), longer])
    Path("theirs").mkdir()
    Path("theirs/5.json").write_text(run_of(5, HONEST[5] | COPYING | {"memorisation.pixels.share": 0.1}).text())
    SCORED.mkdir()
    (SCORED / "edm2-0.json").write_text(run_of(0, {FD: 9.0}, program="edm2", params={}, code={}).text())
    BASELINE.unlink()
    assert run("--update", "--from", "theirs") == 0
    assert {stored.seed: stored.scores for stored in gate.read()} == dict(enumerate(HONEST))
    assert run() == 0
    rescore({FD: 0.5})
    assert run() == 1


@pytest.mark.parametrize(
    ("seeds", "fields", "says"),
    [
        (1, {}, "gate --update: only seed 0 "),
        (4, {}, "seeds 0 1 2 3"),
        (6, {"code": {"ddpm/x.py": "0" * 12}}, "code differs in ddpm/x.py: "),
        (6, {"comparable": {"samples": 9}}, "fingerprints differ"),
        (6, {"scores": HONEST[3] | COPYING}, "seed 3"),
        (6, {"scores": {"classifier.is_mean": 8.9}}, "gate.metrics: "),
    ],
)
def test_update_refuses_too_few_seeds_and_runs_that_make_no_baseline(seeds, fields, says, folder, capsys):
    runs = [run_of(seed, **fields) if seed == 3 else run_of(seed) for seed in range(seeds)]
    record(folder, [*runs, run_of(seeds - 1, HONEST[5], name="again")])
    assert says in refused(capsys, "--update")

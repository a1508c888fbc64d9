"""``ddpm gate`` as CI calls it: its exit code, what it prints and where, and that nothing doubtful ever passes."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from ddpm import cli
from ddpm.base import files
from ddpm.base.paths import BASELINE, RUN
from ddpm.params import config, presets
from ddpm.runs import library
from ddpm.runs.record import Record
from tests.scored import record, result, write

COMPARABLE: dict[str, Any] = {"samples": 1437, "sampling": {"steps": 50}}
PARAMS = presets.text("digits")
# by training seed
HONEST = [
    {"classifier.fd": 0.25 + 0.01 * s, "classifier.is_mean": 8.9, "classifier.recall": 0.9 - 0.002 * s,
     "bits_per_dim": 1.5 + 0.01 * s} for s in range(6)
]  # fmt: skip
COPYING = {"share": 0.31, "expected": 0.05, "limit": 0.14, "ratio": 0.6}
JUDGED = ("classifier.fd", "classifier.recall", "bits_per_dim")


@pytest.fixture(autouse=True)
def _in_a_scored_folder(folder, monkeypatch) -> None:
    """params.yaml, the record of an honest seed by the code that is here, and the baseline of six."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    Path("params.yaml").write_text(PARAMS)
    Path("ddpm").mkdir()
    Path("ddpm/x.py").write_text("as it ran")
    record(folder)
    write(run_of(0))
    scores = {name: entry(name, [run[name] for run in HONEST]) for name in JUDGED}
    files.write_json(BASELINE, {"preset": "digits_small", "comparable": COMPARABLE, "scores": scores})


def run_of(seed: int, scores: dict[str, float] | None = None, **fields: Any) -> Record:
    """A run of params.yaml with another seed."""
    flat = json.loads(json.dumps(library.relevant(config.load().flat()))) | {"seed": seed}
    values = {"name": f"exp-{seed}", "params": flat, "code": {"ddpm/x.py": files.md5(Path("ddpm/x.py"))[:12]}}
    content = COMPARABLE | fields.pop("comparable", {})
    made = result(seed=seed, comparable=content, scores=HONEST[seed % 6] if scores is None else scores)
    return made.model_copy(update=values | fields)


def entry(name: str, values: list[float]) -> dict[str, Any]:
    direction = "higher" if name.endswith("recall") else "lower"
    return {"mean": mean(values), "sd": stdev(values), "n": len(values), "direction": direction}


def rescore(**changes: float | None) -> None:
    """Scores of the working folder, their dots as two underscores; None removes one."""
    scores = HONEST[0] | {name.replace("__", "."): value for name, value in changes.items()}
    write(run_of(0, {name: value for name, value in scores.items() if value is not None}))


def copying(share: float = 0.31) -> dict[str, float]:
    return {f"memorisation__pixels__{name}": value for name, value in (COPYING | {"share": share}).items()}


def rebase(place: str, value: Any) -> None:
    """Set one value of the baseline, at ``a/b``; None removes it."""
    content = inner = json.loads(BASELINE.read_text())
    *path, last = place.split("/")
    for key in path:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    BASELINE.write_text(json.dumps(content))


def edit(old: str, new: str) -> None:
    """Change params.yaml in what no run depends on."""
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["gate", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a gate that can't decide, with nothing on stdout."""
    before = BASELINE.read_bytes() if BASELINE.is_file() else b""
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert before == (BASELINE.read_bytes() if BASELINE.is_file() else b"")
    (line,) = output.err.splitlines()
    return line.removeprefix("error: ")


# --- its three answers


def test_an_honest_run_passes_and_says_every_metric(capsys):
    assert run() == 0
    text = capsys.readouterr().out
    assert text.startswith("### ddpm gate: pass\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split()[1] for row in rows] == ["**classifier.fd**", "classifier.recall", "**bits_per_dim**"]
    assert all(row.split()[-2] == "ok" for row in rows)


@pytest.mark.parametrize(
    ("scores", "code", "says"),
    [
        ({"classifier__fd": 0.40}, 1, "### ddpm gate: regression in classifier.fd\n"),
        ({"bits_per_dim": 1.65}, 1, "### ddpm gate: regression in bits_per_dim\n"),
        ({"classifier__recall": 0.5}, 0, "| worse (does not decide) |"),
        ({"classifier__fd": 0.1}, 0, "If the change was meant to do that, `ddpm gate --update`"),
        # an update would accept the regression too
        ({"classifier__fd": 0.1, "bits_per_dim": 1.65}, 1, "Better than the baseline: classifier.fd.\n"),
        (copying(), 1, "31.0% of the samples come near to a train image"),
        (copying() | {"classifier__fd": 0.1}, 1, "### ddpm gate: regression in memorisation.pixels.share\n"),
        (copying(0.14), 0, "### ddpm gate: pass\n"),
    ],
)
def test_what_passes_and_what_fails(scores, code, says, capsys):
    rescore(**scores)
    assert run() == code
    text = capsys.readouterr().out
    assert says in text
    assert ("--update" in text) == (code == 0 and "classifier__fd" in scores)
    assert run("--json") == code
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] == (code == 0)
    assert bool([check for check in found["checks"] if check["decides"] and check["is_worse"]]) == bool(code)


def test_the_users_own_metrics_k_and_floors_decide(capsys):
    rescore(classifier__recall=0.5)
    edit("metrics: [fid, fd, bits_per_dim]", "metrics: [fd, recall]")
    assert run() == 1
    rescore(classifier__fd=0.32)  # 2.4 standard deviations
    assert run() == 0
    edit("k: 3.0", "k: 1.0")
    assert run() == 1
    rescore()
    rebase("scores/classifier.fd/sd", 1e-6)  # seeds that lay close by luck: 0.01 above, floor 0.02
    for value, code in ((0.24, 0), (0.22, 1)):
        rebase("scores/classifier.fd/mean", value)
        assert run() == code


@pytest.mark.parametrize(
    ("deciding", "share"), [("[fd, bits_per_dim]", "4.0%"), ("[fd, recall, bits_per_dim]", "6.0%")]
)
def test_how_often_honest_runs_fail_is_said_and_warned_of_above_one_in_twenty(deciding, share, capsys):
    for name in JUDGED:
        rebase(f"scores/{name}/n", 5)
    edit("metrics: [fid, fd, bits_per_dim]", f"metrics: {deciding}")
    assert run() == 0
    text = capsys.readouterr().out
    assert f"At most {share} of honest runs" in text
    assert ("take a baseline of more seeds" in text) == (share == "6.0%")


@pytest.mark.parametrize(("value", "code"), [(0.25, 0), (0.9, 1)])
def test_the_same_markdown_is_added_to_the_workflows_page(value, code, capsys, monkeypatch):
    Path("summary.md").write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    rescore(classifier__fd=value)
    assert run() == code
    assert Path("summary.md").read_text() == "earlier\n" + capsys.readouterr().out


def test_what_could_not_be_compared_is_said_there_and_in_json_too(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "nowhere/summary.md")
    assert run() == 2
    assert "error: GITHUB_STEP_SUMMARY: nowhere/summary.md cannot be written to" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    BASELINE.unlink()
    line = refused(capsys)
    assert Path("summary.md").read_text() == f"### ddpm gate: not comparable\n\n{line}\n"
    assert run("--json") == 2
    assert json.loads(capsys.readouterr().out) == {"passed": None, "error": line}


# --- what is never a pass


@pytest.mark.parametrize("path", [RUN, BASELINE])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff", b"null", b"{}"])
def test_a_file_that_is_missing_or_damaged(path, content, capsys):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert refused(capsys).startswith(f"{path}: ")


@pytest.mark.parametrize("name", JUDGED)
def test_a_metric_of_the_baseline_that_was_not_scored(name, capsys):
    rescore(**{name.replace(".", "__"): None})
    assert f"{name} is missing, which {BASELINE} has" in refused(capsys)


def test_a_metric_that_decides_and_that_the_baseline_lacks(capsys):
    rebase("scores/classifier.fd", None)
    assert refused(capsys).startswith(f"{BASELINE}: classifier.fd is missing, which gate.metrics lets decide")


@pytest.mark.parametrize("arguments", [[], ["--update"]])
@pytest.mark.parametrize("what", ["code", "params"])
def test_scores_of_other_code_or_params(arguments, what, capsys):
    if what == "code":
        Path("ddpm/x.py").write_text("edited")
    else:
        edit("seed: 0", "seed: 1")
    line = refused(capsys, *arguments)
    assert line.startswith("metrics/ are not of the params and code that are checked out: ")
    assert line.endswith("; run `dvc repro`")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"samples": 100}, "samples (1437 there, 100 here)"),
        ({"sampling": {"steps": 49}}, "sampling.steps (50 there, 49 here)"),
        ({"images": {"sha256": "0123456789abcdef"}}, "images.sha256 (absent there, 0123456789ab here)"),
    ],
)
def test_what_differs_in_scores_that_are_not_comparable_is_named(other, said, capsys):
    write(run_of(0, comparable=other))
    line = refused(capsys)
    assert said in line
    assert "`ddpm preset digits_small && dvc repro`" in line
    assert line.endswith(", or `ddpm gate --update` makes a new one")
    rebase("preset", None)
    assert "ddpm preset" not in refused(capsys)
    write(run_of(0, HONEST[0] | {f"memorisation.pixels.{name}": value for name, value in COPYING.items()},
                 comparable=other))  # fmt: skip
    assert "--update" not in refused(capsys)  # no baseline is made of what copies


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("mean", value) for value in (float("nan"), "0.25", None)),
        *(("sd", value) for value in (-0.01, float("inf"), None)),
        *(("n", value) for value in (4, 5.5, "6")),
        *(("direction", value) for value in ("higher", "up")),
        ("margin", 1.0),
    ],
)
def test_a_baseline_that_was_mangled_by_hand(place, value, capsys):
    rebase(f"scores/classifier.fd/{place}", value)
    line = refused(capsys)
    assert line.startswith(f"{BASELINE}: ")
    assert "`ddpm gate --update` makes a new one" in line


@pytest.mark.parametrize("name", ["classifier.fdd", "classifier.kid_std"])
def test_a_baseline_of_what_is_no_score(name, capsys):
    rebase(f"scores/{name}", entry("fd", [0.1, 0.2, 0.3, 0.4, 0.5]))
    assert refused(capsys).startswith(f"{BASELINE}: ")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("metrics: [fdd]", "gate.metrics: unknown 'fdd' (did you mean 'fd'?); allowed: fid, fd, "),
        ("metrics: [fid]", "gate.metrics: none of fid is among the scores (classifier.fd, "),
        ("metrics: []", "params.yaml: gate.metrics: "),
        ("metrics: [fid, fd, bits_per_dim]\n  k: 0", "params.yaml: "),
    ],
)
def test_params_that_let_nothing_sensible_decide(new, message, capsys):
    edit("metrics: [fid, fd, bits_per_dim]", new)
    assert refused(capsys).startswith(message)


def test_a_floor_of_no_known_metric(capsys):
    edit("    fd: 0.02", "    fdd: 0.02")
    assert refused(capsys).startswith("params.yaml: compare.floors.fdd")


# --- ddpm gate --update


def test_update_writes_the_baseline_of_all_seeds_which_then_gates(folder, capsys):
    """Runs of other params or of another fingerprint take no part, and a seed counts once."""
    far = HONEST[0] | {"classifier.fd": 9.0}
    longer = run_of(8, far)
    longer.params["train.batch_size"] = 7
    record(folder, [*map(run_of, range(6)), run_of(7, far, comparable={"samples": 9}), longer])
    BASELINE.unlink()
    assert run("--update") == 0
    assert "left out, of another fingerprint: 1" in capsys.readouterr().out
    baseline = json.loads(BASELINE.read_text())
    assert (baseline["preset"], baseline["comparable"]) == ("digits", COMPARABLE)
    assert baseline["scores"].keys() == HONEST[0].keys()
    for name in JUDGED:
        assert baseline["scores"][name] == pytest.approx(entry(name, [each[name] for each in HONEST]))
    assert run() == 0
    rescore(classifier__fd=0.5)
    assert run() == 1


@pytest.mark.parametrize("seeds", [1, 4])
def test_update_wants_five_seeds(seeds, folder, capsys):
    again = run_of(seeds - 1, HONEST[5], name="again")
    record(folder, [*map(run_of, range(seeds)), again])
    line = refused(capsys, "--update")
    assert line.startswith(f"gate --update: {seeds} training seeds (0")
    assert "allowed: at least 5" in line


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"code": {"ddpm/x.py": "0" * 12}}, "code differs in ddpm/x.py: "),
        ({"scores": HONEST[3] | {f"memorisation.pixels.{name}": value for name, value in COPYING.items()}},
         "exp-3 (seed 3) copies train images (pixels): no baseline"),
    ],
)  # fmt: skip
def test_update_refuses_runs_of_other_code_and_copies(fields, says, folder, capsys):
    record(folder, [run_of(seed, **fields) if seed == 3 else run_of(seed) for seed in range(6)])
    line = refused(capsys, "--update")
    assert says in line
    assert "exp-3" in line


def test_update_leaves_out_what_not_every_run_has(folder, capsys):
    few = {name: value for name, value in HONEST[3].items() if name != "bits_per_dim"}
    record(folder, [run_of(seed, few if seed == 3 else None) for seed in range(6)])
    assert run("--update") == 0
    assert "bits_per_dim: left out, not every run has it" in capsys.readouterr().out
    assert "bits_per_dim" not in json.loads(BASELINE.read_text())["scores"]

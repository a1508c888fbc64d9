"""``ddpm gate`` as CI calls it: its exit code, what it prints and where, and that nothing doubtful ever passes."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml

import ddpm
from ddpm import cli
from ddpm.base.files import digest
from ddpm.params import config
from ddpm.runs import alike as results
from ddpm.runs.alike import Gathered, Run
from tests.scored import CODE, Experiment, md5, record, settle

PARAMS = Path(ddpm.__file__).parent / "presets" / "digits.yaml"
COMPARABLE: dict[str, Any] = {"samples": 1437, "sampling": {"steps": 50}}
HASH = digest(COMPARABLE)
SEEDS = 6
# by training seed
HONEST = [
    {"classifier": {"fd": 0.25 + 0.01 * s, "is_mean": 8.9, "recall": 0.9 - 0.002 * s}, "bits_per_dim": 1.5 + 0.01 * s}
    for s in range(SEEDS)
]
BASELINE = "metrics/baseline.json"


@pytest.fixture(autouse=True)
def _in_a_scored_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """params.yaml, the scores of an honest seed and their fingerprint, and the baseline of six."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    shutil.copy(PARAMS, "params.yaml")
    Path("metrics").mkdir()
    write("evaluate", {**HONEST[0], "real": {"classifier": {"fd": 0.1}}})
    write("fingerprint", {"hash": HASH, "comparable": COMPARABLE, "environment": {"threads": 2}})
    columns = {
        "classifier.fd": [run["classifier"]["fd"] for run in HONEST],
        "classifier.recall": [run["classifier"]["recall"] for run in HONEST],
        "bits_per_dim": [run["bits_per_dim"] for run in HONEST],
    }
    scores = {name: entry(name, values) for name, values in columns.items()}
    write("baseline", {"preset": "digits_small", "comparable": COMPARABLE, "scores": scores})


def entry(name: str, values: list[float]) -> dict[str, Any]:
    direction = "higher" if name.endswith("recall") else "lower"
    return {
        "mean": mean(values),
        "sd": stdev(values),
        "n": len(values),
        "direction": direction,
    }


def write(name: str, value: Any) -> None:
    Path(f"metrics/{name}.json").write_text(json.dumps(value))
    settle()


def change(name: str, place: str, value: Any) -> None:
    """Set one value of a metrics file, at ``a/b``; None removes it."""
    content = json.loads(Path(f"metrics/{name}.json").read_text())
    *path, last = place.split("/")
    inner = content
    for key in path:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    write(name, content)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["gate", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a gate that can't decide, with nothing on stdout."""
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line.removeprefix("error: ")


# --- its three answers


def test_an_honest_run_passes_and_says_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert text.startswith("### ddpm gate: pass\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split()[1] for row in rows] == ["**classifier.fd**", "classifier.recall", "**bits_per_dim**"]
    assert all(row.split()[-2] == "ok" for row in rows)


@pytest.mark.parametrize(("place", "value"), [("classifier/fd", 0.40), ("bits_per_dim", 1.65)])
def test_a_metric_that_decides_and_is_worse_fails(capsys: pytest.CaptureFixture[str], place: str, value: float) -> None:
    name = place.replace("/", ".")
    change("evaluate", place, value)
    assert run() == 1
    text = capsys.readouterr().out
    assert text.startswith(f"### ddpm gate: regression in {name}\n")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| **{name}**")]
    assert row.endswith("| **regression** |")


def test_one_that_does_not_decide_is_told_and_passes_until_the_params_let_it_decide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    change("evaluate", "classifier/recall", 0.5)
    assert run() == 0
    assert "| worse (does not decide) |" in capsys.readouterr().out
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("metrics: [fid, fd, bits_per_dim]", "metrics: [fd, recall]"))
    assert run() == 1


def test_better_than_the_baseline_is_a_pass_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    change("evaluate", "classifier/fd", 0.1)
    assert run() == 0
    text = capsys.readouterr().out
    assert "| improved " in text
    assert "Better than the baseline: classifier.fd. If the change was meant to do that, `ddpm gate --update`" in text


def test_an_update_is_not_offered_under_a_regression(capsys: pytest.CaptureFixture[str]) -> None:
    change("evaluate", "classifier/fd", 0.1)
    change("evaluate", "bits_per_dim", 1.65)
    assert run() == 1
    text = capsys.readouterr().out
    assert "Better than the baseline: classifier.fd." in text
    assert "--update" not in text


def test_the_floor_saves_a_run_when_seeds_lay_close_by_luck() -> None:
    change("baseline", "scores/classifier.fd/sd", 1e-6)
    change("baseline", "scores/classifier.fd/mean", 0.24)
    assert run() == 0  # 0.01 above, floor 0.02
    change("baseline", "scores/classifier.fd/mean", 0.22)
    assert run() == 1


def test_k_is_read_from_the_params() -> None:
    change("evaluate", "classifier/fd", 0.32)  # 2.4 standard deviations
    assert run() == 0
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("k: 3.0", "k: 1.0"))
    assert run() == 1


@pytest.mark.parametrize(
    ("seeds", "deciding", "warned"), [(5, "[fd, bits_per_dim]", False), (5, "[fd, recall, bits_per_dim]", True)]
)
def test_how_often_honest_runs_fail_is_said_and_warned_of_above_one_in_twenty(
    capsys: pytest.CaptureFixture[str], seeds: int, deciding: str, warned: bool
) -> None:
    for name in ("classifier.fd", "classifier.recall", "bits_per_dim"):
        change("baseline", f"scores/{name}/n", seeds)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("metrics: [fid, fd, bits_per_dim]", f"metrics: {deciding}"))
    assert run() == 0
    text = capsys.readouterr().out
    assert f"At most {'6.0%' if warned else '4.0%'} of honest runs" in text
    assert ("take a baseline of more seeds" in text) == warned


# --- copies


def copying(share: float) -> dict[str, Any]:
    return {"pixels": {"share": share, "expected": 0.05, "limit": 0.14, "ratio": 0.6}}


def test_a_run_that_copies_train_images_fails_though_its_scores_are_better(capsys: pytest.CaptureFixture[str]) -> None:
    change("evaluate", "classifier/fd", 0.1)
    for share, code in ((0.14, 0), (0.31, 1)):
        change("evaluate", "memorisation", copying(share))
        assert run() == code
        text = capsys.readouterr().out
        (row,) = [line for line in text.splitlines() if line.startswith("| **memorisation.pixels.share**")]
        assert row.split("|")[-2].strip() == ("**regression**" if code else "ok")
        assert ("31.0% of the samples come near to a train image" in text) == bool(code)
        assert "Better than the baseline: classifier.fd." in text
        assert ("--update" in text) == (code == 0)
    assert text.startswith("### ddpm gate: regression in memorisation.pixels.share\n")
    assert run("--json") == 1
    told = json.loads(capsys.readouterr().out)
    (check,) = [check for check in told["checks"] if check["is_worse"]]
    assert (told["passed"], check["name"], check["limit"]) == (False, "memorisation.pixels.share", 0.14)


@pytest.mark.parametrize(
    "place", ["baseline:comparable/samples", "evaluate:classifier/recall", "baseline:scores/classifier.fd"]
)
def test_an_update_is_not_offered_where_the_baseline_does_not_fit_a_run_that_copies(
    capsys: pytest.CaptureFixture[str], place: str
) -> None:
    name, _, key = place.partition(":")
    change(name, key, None)
    assert refused(capsys).endswith(", or `ddpm gate --update` makes a new one")
    change("evaluate", "memorisation", copying(0.31))
    assert "--update" not in refused(capsys)


def test_what_an_older_version_measured_of_copies_decides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    change("evaluate", "memorisation", {"pixels": {"share": 0.9, "ratio": 0.6}})
    assert run() == 0
    assert "memorisation" not in capsys.readouterr().out


# --- on GitHub


@pytest.mark.parametrize(("value", "code"), [(0.25, 0), (0.9, 1)])
def test_the_same_markdown_is_added_to_the_workflows_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: float, code: int
) -> None:
    Path("summary.md").write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    change("evaluate", "classifier/fd", value)
    assert run() == code
    assert Path("summary.md").read_text() == "earlier\n" + capsys.readouterr().out


def test_what_could_not_be_compared_is_said_there_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path(BASELINE).unlink()
    line = refused(capsys)
    assert Path("summary.md").read_text() == f"### ddpm gate: not comparable\n\n{line}\n"


def test_a_page_that_cannot_be_written_is_no_pass(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "nowhere/summary.md")
    assert run() == 2
    assert "error: GITHUB_STEP_SUMMARY: nowhere/summary.md cannot be written to" in capsys.readouterr().err


# --- for other programs


@pytest.mark.parametrize("page", ["nowhere/summary.md", None])
def test_a_gate_that_cannot_tell_says_so_in_json_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, page: str | None
) -> None:
    if page:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", page)
    else:
        Path(BASELINE).unlink()
    assert run("--json") == 2
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["passed"] is None
    assert output.err == f"error: {found['error']}\n"


# --- what is never a pass


@pytest.mark.parametrize("name", ["evaluate", "fingerprint", "baseline"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b'"x"', b"\xff", b"null"])
def test_a_file_that_is_missing_or_damaged(
    capsys: pytest.CaptureFixture[str], name: str, content: bytes | None
) -> None:
    path = Path(f"metrics/{name}.json")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert refused(capsys).startswith(f"{path}: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.25", True, [0.25], {}])
@pytest.mark.parametrize("place", ["classifier/fd", "classifier/recall"])
def test_a_score_that_is_no_finite_number(capsys: pytest.CaptureFixture[str], place: str, value: Any) -> None:
    change("evaluate", place, value)
    line = refused(capsys)
    assert line.startswith(f"metrics/evaluate.json: {place.replace('/', '.')}")


@pytest.mark.parametrize("place", ["classifier/fd", "classifier/recall", "bits_per_dim", "classifier"])
def test_a_metric_of_the_baseline_that_was_not_scored(capsys: pytest.CaptureFixture[str], place: str) -> None:
    change("evaluate", place, None)
    line = refused(capsys)
    assert line.startswith("metrics/evaluate.json: ")
    assert "is missing, which metrics/baseline.json has" in line


@pytest.mark.parametrize("arguments", [[], ["--update"]])
@pytest.mark.parametrize(("file", "text"), [("ddpm/x.py", "edited"), ("params.yaml", ""), ("dvc.lock", "")])
def test_metrics_of_other_code_or_params(
    runs: list[Run], capsys: pytest.CaptureFixture[str], arguments: list[str], file: str, text: str
) -> None:
    Path("ddpm").mkdir()
    Path("ddpm/x.py").write_text("as it ran")
    ran = {"params": {"params.yaml": {"seed": "0"}}, "deps": [{"path": "ddpm/x.py", "md5": md5("as it ran")}]}
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["evaluate"] |= ran
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    listed = {"cmd": "true", "params": ["seed"], "deps": ["ddpm/x.py"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": listed}}))
    before = Path(BASELINE).read_bytes()
    assert run(*arguments) == 0

    Path(file).write_text(text or Path(file).read_text().replace("seed: 0 ", "seed: 1 ").replace("md5: ", "md5: 0"))
    Path(BASELINE).write_bytes(before)
    capsys.readouterr()
    line = refused(capsys, *arguments)
    assert line.startswith("metrics/ are not of the params and code that are checked out: ")
    assert line.endswith("; run `dvc repro`")
    assert Path(BASELINE).read_bytes() == before


def test_a_metric_that_decides_and_that_the_baseline_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    change("baseline", "scores/classifier.fd", None)
    assert refused(capsys).startswith("metrics/baseline.json: classifier.fd is missing, which gate.metrics lets decide")


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"samples": 100}, "samples (1437 there, 100 here)"),
        ({"sampling": {"steps": 49}}, "sampling.steps (50 there, 49 here)"),
        ({"images": {"sha256": "0123456789abcdef"}}, "images.sha256 (absent there, 0123456789ab here)"),
    ],
)
def test_what_differs_in_scores_that_are_not_comparable_is_named(
    capsys: pytest.CaptureFixture[str], sampling: dict[str, Any], said: str
) -> None:
    other = COMPARABLE | sampling
    write("fingerprint", {"hash": digest(other), "comparable": other})
    line = refused(capsys)
    assert said in line
    assert "`ddpm preset digits_small && dvc repro`" in line
    change("baseline", "preset", None)
    assert "ddpm preset" not in refused(capsys)


def test_a_fingerprint_whose_content_was_changed_but_for_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    change("fingerprint", "comparable/samples", 100)
    assert "metrics/fingerprint.json: its hash is not that of its content" in refused(capsys)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("classifier.fd/mean", float("nan")),
        ("classifier.fd/mean", "0.25"),
        ("classifier.fd/mean", None),
        ("classifier.fd/sd", -0.01),
        ("classifier.fd/sd", float("inf")),
        ("classifier.fd/sd", None),
        ("classifier.fd/n", 4),
        ("classifier.fd/n", 5.5),
        ("classifier.fd/n", "6"),
        ("classifier.fd/direction", "higher"),
        ("classifier.fd/direction", "up"),
        ("classifier.fd/margin", 1.0),
        ("classifier.fd", 0.25),
        ("classifier.fdd", entry("fd", [0.1, 0.2])),
        ("classifier.kid_std", entry("fd", [0.1, 0.2, 0.3, 0.4, 0.5])),
    ],
)
def test_a_baseline_that_was_mangled_by_hand(capsys: pytest.CaptureFixture[str], place: str, value: Any) -> None:
    change("baseline", f"scores/{place}", value)
    line = refused(capsys)
    assert line.startswith("metrics/baseline.json: ")
    assert "`ddpm gate --update` makes a new one" in line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("metrics: [fdd]", "gate.metrics: unknown 'fdd' (did you mean 'fd'?); allowed: fid, fd, "),
        ("metrics: [fid]", "gate.metrics: none of fid is among the scores (classifier.fd, "),
        ("metrics: []", "params.yaml: gate.metrics: "),
        ("metrics: [fid, fd, bits_per_dim]\n  k: 0", "params.yaml: "),
    ],
)
def test_params_that_let_nothing_sensible_decide(capsys: pytest.CaptureFixture[str], given: str, message: str) -> None:
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("metrics: [fid, fd, bits_per_dim]", given))
    assert refused(capsys).startswith(message)


def test_a_floor_of_no_known_metric(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("    fd: 0.02", "    fdd: 0.02"))
    assert refused(capsys).startswith("params.yaml: compare.floors.fdd")


# --- ddpm gate --update


def result(seed: int, scores: dict[str, Any], **changes: Any) -> Run:
    params = config.load().flat()
    flat = {f"classifier.{name}": value for name, value in scores["classifier"].items()}
    values: dict[str, Any] = {
        "name": f"exp-{seed}",
        "source": "dvc",
        "params": {**params, "seed": seed},
        "scores": {**flat, "bits_per_dim": scores["bits_per_dim"]},
        "seed": seed,
        "images_seen": 1,
        "parameters": 1,
        "evaluations": 50,
        "fingerprint": HASH,
        "fingerprint_without_sampling": HASH,
        "sampling_precision": "float32",
        "code": CODE,
        "when": float(seed),
    }
    return Run(**values | changes)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that can be gathered; a test may change them."""
    found = [result(seed, scores) for seed, scores in enumerate(HONEST)]
    monkeypatch.setattr(results, "gather", lambda: Gathered(tuple(found), ("a note of the gathering",)))
    return found


def test_update_writes_the_baseline_which_then_gates(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    Path(BASELINE).unlink()
    assert run("--update") == 0
    text = capsys.readouterr().out
    assert text.startswith("a note of the gathering\nmetrics/baseline.json is written")
    baseline = json.loads(Path(BASELINE).read_text())
    assert (baseline["preset"], baseline["comparable"]) == ("digits", COMPARABLE)
    written = baseline["scores"]
    assert written.keys() == {"classifier.fd", "classifier.is_mean", "classifier.recall", "bits_per_dim"}
    expected = entry("classifier.fd", [run["classifier"]["fd"] for run in HONEST])
    assert written["classifier.fd"] == pytest.approx(expected)
    assert written["classifier.recall"]["direction"] == "higher"
    assert run() == 0


@pytest.mark.parametrize("kept", [1, 4])
def test_update_wants_five_seeds_and_leaves_the_old_baseline(
    runs: list[Run], capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    before = Path(BASELINE).read_bytes()
    del runs[kept:]
    line = refused(capsys, "--update")
    assert line.startswith(f"gate --update: {kept} training seeds (0")
    assert "allowed: at least 5" in line
    assert Path(BASELINE).read_bytes() == before


def test_update_counts_a_seed_once(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    runs[4:] = [result(3, HONEST[4], when=9.0)]
    assert "4 training seeds (0, 1, 2, 3)" in refused(capsys, "--update")


def test_update_takes_no_run_of_other_params_or_of_another_fingerprint(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    far = copy.deepcopy(HONEST[0])
    far["classifier"]["fd"] = 9.0
    runs.append(result(7, far, fingerprint="0" * 64))
    runs.append(result(8, far, params={**runs[0].params, "train.batch_size": 7}))
    assert run("--update") == 0
    assert "left out, of another fingerprint: 1" in capsys.readouterr().out
    written = json.loads(Path(BASELINE).read_text())["scores"]["classifier.fd"]
    assert (written["n"], written["mean"]) == (6, pytest.approx(0.275))


def test_update_refuses_runs_of_several_versions_of_the_code(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    runs[3] = result(3, HONEST[3], code={"ddpm/training": "another"})
    before = Path(BASELINE).read_bytes()
    line = refused(capsys, "--update")
    assert line.startswith("gate --update: ")
    assert "exp-3" in line
    assert Path(BASELINE).read_bytes() == before


def test_update_refuses_a_run_with_a_number_that_is_not_finite(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    runs[3].scores["classifier.fd"] = float("nan")
    before = Path(BASELINE).read_bytes()
    assert "exp-3 (seed 3): classifier.fd: nan is not allowed" in refused(capsys, "--update")
    assert Path(BASELINE).read_bytes() == before


def test_update_makes_no_baseline_of_a_run_that_copies(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    runs[3].scores.update({f"memorisation.pixels.{name}": value for name, value in copying(0.31)["pixels"].items()})
    before = Path(BASELINE).read_bytes()
    assert "exp-3 (seed 3) copies train images (pixels): no baseline" in refused(capsys, "--update")
    assert Path(BASELINE).read_bytes() == before


def test_update_leaves_out_what_not_every_run_has(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    del runs[0].scores["bits_per_dim"]
    assert run("--update") == 0
    assert "bits_per_dim: left out, not every run has it" in capsys.readouterr().out
    assert "bits_per_dim" not in json.loads(Path(BASELINE).read_text())["scores"]


def experiment(name: str, fd: float, **params: Any) -> Experiment:
    """An experiment with this file's fingerprint, in dvc.lock too."""
    plain = Experiment(name, fd, params).contents()
    path, own = "metrics/fingerprint.json", json.dumps({"hash": HASH, "comparable": COMPARABLE})
    return Experiment(name, fd, params, {path: own, "dvc.lock": plain["dvc.lock"].replace(md5(plain[path]), md5(own))})


def test_update_reads_the_experiments_that_dvc_keeps(tmp_path: Path) -> None:
    runs = [experiment(f"seed-{seed}", 1 + seed / 100, seed=seed) for seed in range(5)]
    record(tmp_path, [*runs, experiment("longer", 9.0, seed=5, train__steps=24)])
    runs[0].write(tmp_path)
    assert run("--update") == 0
    written = json.loads(Path(BASELINE).read_text())["scores"]
    assert written["classifier.fd"] == pytest.approx(entry("classifier.fd", [1.0, 1.01, 1.02, 1.03, 1.04]))
    assert run() == 0
    change("evaluate", "classifier/fd", 1.2)
    assert run() == 1

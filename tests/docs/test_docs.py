"""README.md and docs/ describe what the code does: commands parse or run, examples work, links hold, lines are real.

A block of shell has a comment above it. ``run`` blocks are run here, with what follows the colon prepared; ``needs: X``
blocks are parsed by the commands' own parsers, and their -S keys and values are checked as params.yaml is.
"""

import importlib
import importlib.util
import itertools
import json
import re
import shutil
import sys
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import pygit2
import pytest
import torch
import yaml

from ddpm import cli
from ddpm.arms.run import apply_overrides
from ddpm.base import files, sections
from ddpm.base.errors import exit_code
from ddpm.cli.app import app
from ddpm.ladder import program_contest, terms
from ddpm.model.model_file import read_tensors, write_tensors
from ddpm.params import config, file, presets
from ddpm.referee import gate
from ddpm.runs import library
from ddpm.study import loading
from tests.pages import PAGES, ROOT, Block, blocks
from tests.scored import grid, params, record, result, write
from tests.small_project import merged

LINKING = [*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
ELSEWHERE = {"run: clone", "run: .ci/run", "run: program"}  # test_fresh_clone.py, test_any_program.py
RUN = {"run", "run: model", "run: digits", "run: scores", "run: schedules", "run: gate"} | ELSEWHERE
WORDS = 30_000  # of all pages, so that they are read
NEEDS = {"needs: the pipeline", "needs: a GPU", "needs: other machines", "needs: a server", "needs: Slurm",
         "needs: an address",          "needs: DVC's queue, for minutes"}  # fmt: skip
# programs whose lines are not checked
TRUSTED = {"git", "mkdir", "source", "mlflow", "export", "pip", "parallel", "sbatch"}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MAKE_TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)


def shell() -> list[Block]:
    return [block for block in blocks() if block.language == "sh"]


def test_every_page_has_blocks_that_say_how_they_are_tested():
    assert len(shell()) > 20
    for block in blocks():
        assert block.language in {"sh", "python", "mermaid", "yaml"}, block
        if block.language == "sh":
            assert block.mark in RUN | NEEDS, block
        if block.language == "python" and block.page != "tutorial.md":  # a notebook, which CI runs
            assert re.fullmatch(r"file: ddpm/(variants/\w+|networks)/\w+\.py", block.mark), block


def test_the_pages_are_short_enough_to_be_read():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    words = {str(page.relative_to(ROOT)): len(page.read_text().split()) for page in pages}
    assert sum(words.values()) <= WORDS, dict(sorted(words.items(), key=lambda item: -item[1])[:10])


def test_the_contents_name_every_page():
    contents = (ROOT / "docs/README.md").read_text() + (ROOT / "docs/atlas.md").read_text()
    assert all(f"({page.name})" in contents for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_every_command_is_one_that_its_program_takes():
    checked = (block for block in shell() if block.mark != "run: program")  # whose lines are a script's
    for program, *arguments in (line for block in checked for line in block.lines):
        if program not in TRUSTED:
            CHECKS[program](arguments)


def test_every_key_and_value_that_is_set_may_stand_in_params():
    for block in shell():
        for words in block.lines:
            settings = [word for flag, word in itertools.pairwise(words) if flag == "-S"]
            for combination in itertools.product(*map(assignments, settings)):
                config.parse(apply_overrides(params_of(block.preset), dict(combination), "a page"), " ".join(words))


SHOWN = {  # mark of a block -> what reads it
    "study": lambda block, value: loading.parse(value, Path("studies/shown.yaml")),
    "workflow": lambda block, value: value["steps"],
    "program": lambda block, value: sections.parse(value, block.page, program_contest.ProgramTerms),
    "ladder": lambda block, value: sections.parse(value, block.page, terms.Terms),
    "": lambda block, value: config.parse(merged(params_of(block.preset), value), block.page),
}


def test_what_is_shown_of_a_file_may_stand_there(monkeypatch):
    monkeypatch.chdir(ROOT)
    for block in (block for block in blocks() if block.language == "yaml"):
        assert SHOWN[block.mark](block, yaml.safe_load(block.text)), block


@cache
def params_of(preset: str) -> dict:
    """Read only."""
    return file.decode(presets.text(preset), preset)


def assignments(setting: str) -> list:
    """Two assignments for ``key=a,b``."""
    key, _, values = setting.partition("=")
    each = [values] if values.startswith(("[", "{")) else values.split(",")
    return [(key, yaml.safe_load(value)) for value in each]


def parses_ddpm(arguments: list[str]) -> None:
    given = app.parse_args(arguments)[1].arguments
    for key in given.get("by", ()):
        assert key == "name" or any(sections.under(name, key) for name in config.load(ROOT / "params.yaml").flat()), key


def parses_dvc(arguments: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    parsed = get_main_parser().parse_args(arguments)
    assert set(getattr(parsed, "targets", None) or ()) <= STAGES.keys()


def parses_torchrun(arguments: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(arguments)
    assert parsed.module
    assert importlib.util.find_spec(parsed.training_script)


def parses_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
    else:
        example(arguments[0]).parser().parse_args(arguments[1:])


def example(path: str) -> ModuleType:
    """A script of examples/."""
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def finds_target(arguments: list[str]) -> None:
    assert set(arguments) <= set(MAKE_TARGETS), arguments


CHECKS = {"ddpm": parses_ddpm, "dvc": parses_dvc, "make": finds_target, "torchrun": parses_torchrun,
          "python": parses_python}  # fmt: skip


def test_every_target_of_make_and_every_file_of_the_project_that_is_named_exists():
    for page in LINKING:
        assert set(re.findall(r"`make (\w+)", page.read_text())) <= set(MAKE_TARGETS), page
        for name in re.findall(r"`((?:ddpm|stages|tests)/[\w/.]+)`", page.read_text()):
            assert (ROOT / name).exists(), (page, name)


@pytest.fixture
def project(folder, monkeypatch, model_file) -> Path:
    """A clone in which nothing ran, and everything that a ``run:`` block may need."""
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    (folder / ".dvc").mkdir()
    pygit2.init_repository(".")
    shutil.copy(ROOT / "ddpm/presets/digits_2026.yaml", "params.yaml")
    (folder / "data/model").mkdir(parents=True)
    shutil.copy(model_file, "data/model/model.safetensors")
    shutil.copytree(ROOT / "models", "models")
    return folder


def prepare(mark: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Prepare what a block runs on."""
    wanted = mark.removeprefix("run").removeprefix(": ")
    if wanted == "digits":
        tensors, written = read_tensors(ROOT / "models/digits/model.safetensors", "model", torch.device("cpu"))
        written["config"]["train"]["label_dropout"] = 0.0  # as in the default preset
        write_tensors(Path("data/model/model.safetensors"), tensors, written)
        (folder / "data/processed").symlink_to(request.getfixturevalue("digits"))
    if wanted == "schedules":
        shutil.rmtree(folder / ".git")
        (folder / "params.yaml").write_text(yaml.safe_dump(params()))
        record(folder, grid({"cosine": 1, "linear": 2}, range(6)))
    if wanted in {"scores", "gate"}:
        flat = json.loads(json.dumps(library.relevant(config.load(folder / "params.yaml").flat())))
        (folder / "stages").mkdir()
        (folder / "stages/train.py").touch()
        code = {"stages/train.py": files.md5(folder / "stages/train.py")[:12]}
        write(result(fd=0.25, code=code).model_copy(update={"params": flat}))
        stored = ",".join(result(seed=seed, fd=0.25 + seed / 100).text() for seed in range(5))
        (folder / "metrics/baseline.json").write_text(f"[{stored}]")
        assert gate.read()


# several pages say `ddpm check`
ONCE = {(block.mark, block.text): block for block in shell() if block.mark in RUN - ELSEWHERE}.values()
# longer than five seconds
LONG = [one for one in ONCE if one.mark == "run: digits" or "ddpm check" in one.text or "ddpm sample" in one.text]


@pytest.mark.parametrize(
    "block",
    [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in ONCE],
    ids=lambda block: f"{block.page}-{block.lines[0][0]}-{block.lines[0][-1]}",
)
def test_what_is_to_be_run_runs(block, project, request, capsys):
    prepare(block.mark, project, request)
    for name, text in block.files.items():
        Path(name).write_text(text)
    for program, *arguments in block.lines:
        if program == "python":
            code = exit_code(partial(example(arguments[0]).main, arguments[1:]))
        else:
            assert program == "ddpm"
            with pytest.raises(SystemExit) as ended:
                cli.main(arguments)
            code = ended.value.code
        output = capsys.readouterr()
        assert code == 0, (arguments, output.err)
        assert output.out
        if "--json" in arguments:
            json.loads(output.out)


def test_every_link_leads_somewhere():
    for page in LINKING:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("https://", "../../actions/")):  # the second: a page of the repository on GitHub
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), (page, target)
            assert not anchor or anchor in anchors(found), (page, target)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

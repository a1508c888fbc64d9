"""DVC follows no imports: dvc.yaml lists every file of ddpm/ with code that a stage can run, and all that DVC draws."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from ddpm.params import file, inputs
from ddpm.params.config import FAMILIES

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = file.read_params(ROOT / "params.yaml")
CHECK = "check"  # the stage that reads all of params.yaml; no score depends on it
# params section or field -> the folder of its variants; a stage that gets these params can run the chosen one
CHOICES = {key: family for key, family in FAMILIES.items() if not key.startswith("evaluate.")}
DEPS = {stage: inputs.stage(stage, PARAMS, ROOT / "dvc.yaml")[1] for stage in STAGES}


@cache
def imported(file: Path) -> set[Path]:
    """Files of ddpm/ and stages/ that ``file`` imports at run time, anywhere in it, packages' __init__.py included."""
    found: set[Path] = set()
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if getattr(getattr(node, "test", None), "id", "") != "TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                found |= {path for path in _module_files(parts[:end]) if path.exists()}
    return found


def _module_files(parts: list[str]) -> list[Path]:
    path = ROOT.joinpath(*parts)
    return [path.with_suffix(".py"), path / "__init__.py"] if parts[0] in {"ddpm", "stages"} else []


def chosen(family: str, key: str) -> Path:
    return ROOT / "ddpm/variants" / family / f"{inputs.lookup(PARAMS, key)['name']}.py"


@cache
def needed(stage: str) -> set[str]:
    """Code that the stage can run: its imports, and the variants chosen in its params, with their imports."""
    files = {ROOT / "stages" / f"{stage}.py"}
    files |= {chosen(family, key) for key, family in CHOICES.items() if _given(stage, key)}
    while new := set().union(*(imported(file) for file in files)) - files:
        files |= new
    # ddpm/__init__.py only rejects Windows
    return {str(file.relative_to(ROOT)) for file in files - {ROOT / "ddpm/__init__.py"} if _has_code(file)}


@cache
def _has_code(file: Path) -> bool:
    """Whether it contains more than a docstring."""
    return len(ast.parse(file.read_text()).body) > 1


def _given(stage: str, key: str) -> bool:
    return any(key == listed or key.startswith(f"{listed}.") for listed in STAGES[stage].get("params", []))


# the check computes nothing that another stage reads: it runs again when params.yaml changes, not when code does
@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {CHECK}))
def test_every_file_that_a_stage_imports_is_its_dependency(stage):
    known = [*DEPS[stage], *["ddpm/base"] * (stage == "download")]  # dvc.yaml says why not
    missing = {file for file in needed(stage) if not any(Path(file).is_relative_to(dep) for dep in known)}
    assert not missing, f"add to the deps of {stage} in dvc.yaml: {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_code_that_it_does_not_use(stage):
    """Otherwise an edit of it would run the stage again. Of extractors and metrics, any may be chosen."""
    used = {Path(file) for file in needed(stage) | _model_variants()}
    chosen_by_name = [f"ddpm/variants/{FAMILIES[key]}" for key in FAMILIES.keys() - CHOICES.keys()]
    code = [dep for dep in DEPS[stage] if inputs.is_code(dep) and dep not in chosen_by_name]
    assert [dep for dep in code if not any(file.is_relative_to(dep) for file in used)] == []


def test_an_edit_of_what_every_room_stands_on_fetches_nothing_again():
    assert "ddpm/base" not in DEPS["download"]


def _model_variants() -> set[str]:
    """Variants that the sample stage runs because the model file's metadata, not its params, chooses them."""
    files = {family: chosen(family, key) for key, family in CHOICES.items()}
    module = files["networks"].with_name(f"_{files['networks'].name}")
    return {str(path.relative_to(ROOT)) for path in (module, *files.values())}


def test_every_stage_comes_after_the_check():
    """Otherwise DVC would remove outputs before params.yaml is checked."""
    after = {*STAGES[CHECK]["outs"]}  # what is made after it; dvc.yaml has the stages in their order
    for stage in [name for name in STAGES if name != CHECK]:
        assert any(Path(dep).is_relative_to(out) for dep in STAGES[stage]["deps"] for out in after), stage
        after |= {*STAGES[stage]["outs"]}

"""docs/tutorial.md runs from top to bottom as a notebook, learns, and makes the pictures that it shows."""

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
SHOWN = re.findall(r"!\[[^]]+\]\(tutorial/([^)]+)\)", PAGE.read_text())


def printed(notebook: dict) -> str:
    outputs = (output for cell in notebook["cells"] if cell["cell_type"] == "code" for output in cell["outputs"])
    return "".join(line for output in outputs if output["output_type"] == "stream" for line in output["text"])


def test_everything_that_it_imports_is_there():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert len(nodes) > 10
    for node in nodes:
        exec(ast.unparse(node), {})  # noqa: S102


@pytest.mark.long
def test_the_tutorial_runs_and_learns(tmp_path):
    for name in ("jupytext", "nbclient"):
        pytest.importorskip(name, reason="it is of the extra docs, which make test-all installs")
    for path in ("Makefile", "docs/tutorial.md", "metrics/studies/schedule/verdict.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    # -o: without installing anything
    subprocess.run(["make", "-o", ".venv/.docs", "tutorial"], cwd=tmp_path, env=environment, check=True)
    text = printed(json.loads((tmp_path / "docs/tutorial.ipynb").read_text()))
    first, last = map(float, re.search(r"loss ([\d.]+) at first, ([\d.]+) at last", text).groups())
    assert last < first / 2
    fd = ast.literal_eval(re.search(r"^{'real.*}$", text, re.M).group())
    assert fd["real"] < min(fd["drawn"], fd["noisy"], fd["blurred"])
    assert fd["drawn"] < 20
    made = tmp_path / "docs/tutorial"
    assert sorted(SHOWN) == sorted(path.name for path in made.iterdir())
    for path in made.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 100

"""docs/tutorial.md runs from top to bottom as a notebook, learns, and makes the pictures that it shows."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"


def test_everything_that_it_imports_is_there():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    assert len(nodes) > 10
    for node in nodes:
        exec(ast.unparse(node), {})  # noqa: S102

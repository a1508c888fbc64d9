"""docs/tutorial.md runs from top to bottom as a notebook, learns, and makes the pictures that it shows."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"


def test_everything_that_it_imports_and_asks_of_that_is_there():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    nodes, scope = [node for block in blocks for node in ast.walk(ast.parse(block))], dict[str, object]()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), scope)  # noqa: S102
    asked = [
        (node.value.id, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    of_ours = [(name, attribute) for name, attribute in asked if name in scope]
    assert len(of_ours) > 10
    assert [f"{name}.{attribute}" for name, attribute in of_ours if not hasattr(scope[name], attribute)] == []

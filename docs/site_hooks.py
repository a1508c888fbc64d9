"""What mkdocs does to the pages of docs/ beyond its theme, so that they read on the site as they do on GitHub.

pdoc writes the API reference into api/. Links that leave docs/ lead there if they are to code, else to a copy of the
file on the site. Formulas become MathML, which browsers draw without a script. The tutorial is a notebook too, and
where the site is published from GitHub, a button opens it in Colab.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from warnings import catch_warnings, simplefilter

import jupytext
import pdoc
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).parents[1]
API, COPIES = "api", "files"
LINK = re.compile(r"(\[(?:`([\w.]+)`)?[^\]\[]*\]\()\.\./([^)#\s]+)(?:#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)
TUTORIAL = "tutorial.md"
PUBLISHED = ("GITHUB_REPOSITORY", "GITHUB_SHA")  # set on GitHub
FRONT = "README.md"
COLAB = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](\
https://colab.research.google.com/github/{}/blob/gh-pages/tutorial.ipynb)

"""
IN_COLAB = """\
!git clone https://github.com/{0} ddpm && cd ddpm && git checkout {1}
%pip install --quiet './ddpm[train]'
%cd ddpm/docs"""
SHOWN_AS_THEY_ARE = {".html", ".json", ".png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The API reference, one file for each module."""
    with TemporaryDirectory() as folder, catch_warnings():
        simplefilter("ignore")  # names that are imported for type checking alone
        pdoc.pdoc("ddpm", "stages", output_directory=Path(folder))
        for path in sorted(Path(folder).rglob("*.html")):
            name = f"{API}/{path.relative_to(folder)}"
            files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    return files


def published() -> tuple[str, str] | None:
    """The repository and commit that the site is published from; None for a site built by hand."""
    repository, commit = (os.environ.get(name, "") for name in PUBLISHED)
    return (repository, commit) if repository else None


def on_config(config: MkDocsConfig) -> None:
    """A link to the repository, on each page."""
    if source := published():
        config.repo_name, config.repo_url = source[0], f"https://github.com/{source[0]}"


def on_post_build(config: MkDocsConfig) -> None:
    """The search's index as a script: pages that are opened from a folder may read no JSON. The tutorial's notebook."""
    index = Path(config.site_dir, "search/search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")
    notebook = jupytext.read(Path(config.docs_dir, TUTORIAL))
    if source := published():
        notebook.cells.insert(0, new_code_cell(IN_COLAB.format(*source)))
    jupytext.write(notebook, Path(config.site_dir, TUTORIAL).with_suffix(".ipynb"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/, as links within the site."""

    def lead(found: re.Match[str]) -> str:
        return f"{found[1]}{target(found[2], found[3], files, config)})"

    button = ""
    if page.file.src_uri == TUTORIAL and (source := published()):
        button = COLAB.format(source[0])
    if page.file.src_uri == FRONT and config.repo_url:
        markdown = markdown.replace("git clone ADDRESS", f"git clone {config.repo_url}")
    return button + LINK.sub(lead, markdown)


def target(name: str | None, path: str, files: Files, config: MkDocsConfig) -> str:
    """Where a link to ``path``, relative to the project, leads. name: of the function or class that the link shows."""
    at = ROOT / path
    module = at if at.is_dir() else at.with_suffix("")
    if path.startswith(("ddpm", "stages")) and (at.suffix == ".py" or (at / "__init__.py").exists()):
        return f"{API}/{module.relative_to(ROOT)}.html" + (f"#{name}" if name and not name.startswith("ddpm.") else "")
    copy = f"{COPIES}/{path.strip('/')}" + ("" if at.suffix in SHOWN_AS_THEY_ARE else ".txt")
    if copy not in files.src_uris and at.is_dir():
        files.append(File.generated(config, copy, content="\n".join(sorted(each.name for each in at.iterdir()))))
    elif copy not in files.src_uris:
        files.append(File.generated(config, copy, abs_src_path=str(at)))
    return copy


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML."""

    def formula(found: re.Match[str]) -> str:
        return str(convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline"))

    return FORMULA.sub(formula, content)

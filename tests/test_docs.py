"""What the pages show is in the repository: code runs, quoted rules are the files', links lead somewhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {
    "docs/models.md": "a model from the hub",
    "docs/proving.md": "tests/testing/test_prove.py, which runs it block after block",
}
BLOCKS = [
    pytest.param(page, block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


def without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_code_on_a_page_runs_or_stands_in_a_file(page, block, tmp_path):
    if str(page.relative_to(ROOT)) in NEEDS:
        pytest.skip(f"it needs {NEEDS[str(page.relative_to(ROOT))]}")
    if block.startswith("@op\n") and "import" not in block:
        (rule,) = ast.parse(block).body
        file = next(ROOT.glob(f"tinygrad_lm/ops/{rule.name}.py"))
        there = next(node for node in ast.parse(file.read_text("utf-8")).body if getattr(node, "name", "") == rule.name)
        assert ast.get_docstring(there).splitlines()[0] == ast.get_docstring(rule)
        assert without_docstrings(rule) == without_docstrings(there)
        return
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) + re.findall(r'src(?:set)?="(.*?)"', text)
    for target in targets:
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_tree_in_the_readme_is_there():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where to read")[2].partition("## Results")[0]
    for name in re.findall(r"[a-z_]+/[a-z_]+\.py", tree):
        assert (ROOT / name).exists() or (ROOT / "tinygrad_lm" / name).exists(), name
    parts = {
        path.name for path in (ROOT / "tinygrad_lm").iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    assert not {part for part in parts if f"{part}/" not in tree}


PACKAGE = ROOT / "tinygrad_lm"
CORE = [PACKAGE / "backend.py", PACKAGE / "errors.py"]
CORE += sorted(path for part in ("engine", "ops", "nn", "optim", "models") for path in (PACKAGE / part).glob("*.py"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_file_of_the_core_says_what_it_adds_to_the_page(path):
    text = path.read_text(encoding="utf-8")
    assert not text or re.search(r"\bpage\b|examples/minimal\.py", ast.get_docstring(ast.parse(text)))

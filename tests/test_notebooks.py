"""The notebooks of examples/notebooks/: stored without outputs, and each runs to its end."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
# What the cells of each must have shown, as text, HTML or a picture.
SHOWN = {
    "1_backprop_in_ten_minutes": ["step 100: loss 0.0", "<details><summary", "In[8]:7  return self.out(ops.tanh("],
    "2_pretrain_look_sample": ["GPT: 105,216 parameters", "h.0 … h.1: 2 × Block", "step 100: validation loss", "PNG"],
    "3_prove_your_own_operation": ["softplus: 13 checks hold", '"every entry" does not hold', "DIFFER", "In[4]:9"],
}


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path):
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells(path, "code")] == [
        ([], None) for _ in cells(path, "code")
    ]
    assert cells(path, "markdown")[0]["source"][0].startswith("# ")
    for target in re.findall(r"\]\((.*?)\)", "".join("".join(cell["source"]) for cell in cells(path, "markdown"))):
        assert (FOLDER / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # the libraries' own: of sockets and event loops
def test_it_runs(path, tmp_path, monkeypatch):
    """In a kernel of its own, outside of the repository."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient, which runs notebooks, is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel, in which notebooks run, is not installed")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = "\n".join(texts(book))
    assert [text for text in SHOWN[path.stem] if text not in shown] == []
    assert not re.search(r"\b__\b", re.sub("srcdoc='.*?'", "", shown))  # no value has a prompt's name


def texts(book):
    """All outputs of a notebook as text; pictures as the name of their format."""
    for output in (output for cell in book.cells for output in cell.get("outputs", ())):
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            yield "PNG" if kind == "image/png" else str(data)

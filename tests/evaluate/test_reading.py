"""Data files: found or told where to get them; whole or refused."""

import gzip
import json

import pytest
from small_evaluation import json_file

from tinygrad_lm.errors import DataError
from tinygrad_lm.evaluate import choices, humaneval, lambada
from tinygrad_lm.evaluate.files import TaskFile, convert_lines, find_files, read_lines
from tinygrad_lm.evaluate.tasks import TASKS

GOOD = {"ctx": "A", "ctx_a": "A", "ctx_b": "", "activity_label": "X", "endings": ["b", "c"], "label": 1}


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_file_is_told_with_its_format_and_address(task, tmp_path):
    with pytest.raises(DataError) as error:
        find_files(task, TASKS[task].files, tmp_path)
    told = str(error.value)
    for file in TASKS[task].files:
        assert f"{task}: there is no {tmp_path / file.name}" in told
        assert f"format : {file.format}" in told
        assert f"from   : {file.url}" in told
    assert f"--tasks {task}=FILE" in told


def test_a_file_is_found_by_its_usual_name_or_by_the_one_given(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    files = [TaskFile("a", "", ""), TaskFile("b", "", "")]
    assert find_files("t", files, tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_files("t", files, "elsewhere", [tmp_path / "b", tmp_path / "a"]) == [tmp_path / "b", tmp_path / "a"]
    with pytest.raises(DataError, match=r"t: expected 2 paths after '=', separated by commas \(a, b\), found 1"):
        find_files("t", files, tmp_path, ["a"])
    (tmp_path / "b").unlink()
    with pytest.raises(DataError, match=r"there is no .*b") as error:
        find_files("t", files, tmp_path)
    assert str(error.value).count("there is no") == 1


def test_lines_are_cut_where_a_file_has_its_line_ends(tmp_path):
    """A line separator within a JSON string is a character as any other."""
    path = tmp_path / "x.jsonl"
    path.write_bytes("a\u2028b\r\nc\x85\n\nd".encode())
    assert read_lines(path) == ["a\u2028b", "c\x85", "", "d"]
    path.write_bytes(b"a\n")
    assert read_lines(path) == ["a"]
    zipped = tmp_path / "x.jsonl.gz"
    zipped.write_bytes(gzip.compress("é\nb\n".encode()))
    assert read_lines(zipped) == ["é", "b"]


ZIPPED = gzip.compress(b"abc" * 99, mtime=0)
CUT_OR_BENT = [b"", b"no gzip", ZIPPED[:-9], ZIPPED[:10] + b"\xff" * 20, gzip.compress(b"\xff", mtime=0)]


@pytest.mark.parametrize("content", CUT_OR_BENT, ids=["empty", "no gzip", "cut", "bent", "no UTF-8"])
def test_a_damaged_archive(content, tmp_path):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"HumanEval.jsonl.gz: expected gzipped UTF-8 text|expected JSON"):
        humaneval.read_humaneval(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: expected JSON, found '{' (Expecting property name"),
        ("", "line 2: expected JSON, found ''"),
        ("[1]", "line 2: expected an object with ctx: text, endings: a list, label: a whole number, found '[1]'"),
        (json.dumps({"ctx": "A"}), "line 2: expected ctx: text, endings: a list, label: a whole number; found no "),
        (json.dumps(GOOD | {"label": "1"}), "line 2: expected label: a whole number, found '1'"),
        (json.dumps(GOOD | {"label": 2}), "line 2: expected an answer from 0 to 1, found 2"),
        (json.dumps(GOOD | {"label": -1}), "line 2: expected an answer from 0 to 1, found -1"),
        (json.dumps(GOOD | {"endings": ["b"]}), "line 2: expected at least two choices"),
        (json.dumps(GOOD | {"endings": ["b", " "]}), "line 2: expected at least two choices, none of them empty"),
        (json.dumps(GOOD | {"endings": ["b", 3]}), "line 2: expected texts, found ['b', 3]"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_told_with_its_number(line, told, tmp_path):
    path = tmp_path / "hellaswag_val.jsonl"
    path.write_text("\n".join([json.dumps(GOOD), line, json.dumps(GOOD)]) + "\n")
    with pytest.raises(DataError) as error:
        choices.read_hellaswag(path)
    assert f"data file {path}: 1 damaged line; nothing was evaluated\n  {told}" in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json"])
def test_json_is_not_taken_for_passages(name, tmp_path):
    line = json.dumps({"text": 'one two "three"'}).encode()
    (tmp_path / name).write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    assert lambada.read_lambada(tmp_path / name) == [("one two", ' "three"')]


def test_all_damaged_lines_are_counted_and_the_first_told(tmp_path):
    path = tmp_path / "lambada.txt"
    path.write_text("two words\n" + "one\n" * 8)
    with pytest.raises(DataError) as error:
        lambada.read_lambada(path)
    told = str(error.value).split("\n")
    assert "8 damaged lines" in told[0]
    assert told[1] == "  line 2: expected a passage of at least two words, found 'one'"
    assert [line.split(":")[0] for line in told[2:]] == ["  line 3", "  line 4", "  line 5", "  line 6", "  and 3 more"]


def test_a_file_of_nothing():
    with pytest.raises(DataError, match="expected examples, found none"):
        convert_lines("x", [], str)


ARC = {
    "question": {"stem": "Q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
    "answerKey": "A",
}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (ARC | {"answerKey": "C"}, r"answerKey among the labels \['A', 'B'\], found 'C'"),
        ({"question": {"stem": "Q", "choices": []}, "answerKey": "A"}, r"among the labels \[\]"),
        (ARC | {"question": "Q"}, "expected question: an object, found 'Q'"),
        (ARC | {"question": ARC["question"] | {"choices": ["a"]}}, "object with text: text, label: text, found 'a'"),
    ],
)
def test_a_damaged_arc_line(record, told, tmp_path):
    with pytest.raises(DataError, match=f"line 2: .*{told}"):
        choices.read_arc(json_file(tmp_path / "arc.jsonl", ARC, record))


def test_damaged_piqa_labels(tmp_path):
    path = json_file(tmp_path / "valid.jsonl", *[{"goal": "g", "sol1": "a", "sol2": "b"}] * 2)
    labels = tmp_path / "valid-labels.lst"
    labels.write_text("0\n2\n")
    with pytest.raises(
        DataError, match=r"valid-labels.lst: 1 damaged line.*\n  line 2: expected a label 0 or 1, found '2'"
    ):
        choices.read_piqa(path, labels)
    labels.write_text("0\n")
    with pytest.raises(DataError, match=r"valid.jsonl has 2 lines, .*valid-labels.lst 1"):
        choices.read_piqa(path, labels)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("q,1,2,3,4,A\nq,1,2,3,A\n", "line 2: expected question, A, B, C, D and the answer's letter, found 5 columns"),
        ("q,1,2,3,4,E\n", "line 1: expected question"),
        ("q,1,2,3,4,AB\n", "line 1: expected question"),
        ("q,1,2,3,4,\n", "line 1: expected question"),
        ('q,1,2,3,4,"A\n', "expected CSV: unexpected end of data"),
    ],
)
def test_a_damaged_mmlu_file(content, told, tmp_path):
    for folder in ("test", "dev"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dev" / "x_dev.csv").write_text("q,1,2,3,4,A\n")
    (tmp_path / "test" / "x_test.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        choices.read_mmlu(tmp_path / "test", tmp_path / "dev")


def test_mmlu_s_files_must_be_there(tmp_path):
    with pytest.raises(DataError, match=r"expected files <subject>_test.csv in .*, found none"):
        choices.read_mmlu(tmp_path, tmp_path)
    (tmp_path / "x_test.csv").write_text("q,1,2,3,4,A\n")
    with pytest.raises(DataError, match=r"x_dev.csv: no such file"):
        choices.read_mmlu(tmp_path, tmp_path)

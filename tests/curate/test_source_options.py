"""How a source's files are read besides their format: which field, where documents end, and whose tokenizer."""

import json

import pytest
import raw_files
from small_mixture import prepare_inline, tokens_in

from tinygrad_lm.curate.output.provenance import recorded_config
from tinygrad_lm.curate.readers import plain
from tinygrad_lm.curate.readers.formats import format_of, record_text
from tinygrad_lm.curate.readers.record import Damaged
from tinygrad_lm.data.mixture.dataset import Dataset
from tinygrad_lm.data.mixture.mixture_file import load_mixture_config
from tinygrad_lm.data.tokenizers.json_tokenizer import JsonTokenizer
from tinygrad_lm.errors import ConfigError, DataError

END = "<|endoftext|>"
STORIES = [f"Story {i} of a small dragon.\nIt ends — of course." for i in range(40)]


def mixture_of(folder, file, tokenizer="published/tokenizer.json", **settings):
    """The path of a mixture file with one source; the tokenizer is of bytes and an end."""
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir(exist_ok=True)
    (folder / "published").mkdir(exist_ok=True)
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.pre_tokenizer, library.decoder = level, tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=[END], initial_alphabet=level.alphabet(), show_progress=False
    )
    library.train_from_iterator(STORIES, trainer)
    library.save(str(folder / "published" / "tokenizer.json"))
    (folder / "published" / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    lines = [f"tokenizer = {json.dumps(tokenizer)}", "validation = 0.2", "[[source]]", 'name = "one"', "weight = 1"]
    lines += [f'files = ["{file}"]', *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    (folder / "mix.toml").write_text("\n".join(lines))
    return folder / "mix.toml"


def documents_in(out):
    """The documents of both splits, decoded."""
    tokenizer = Dataset(out).tokenizer
    ids = [i for split in ("train", "val") for i in tokens_in(out, "one", split).tolist()]
    return sorted(tokenizer.decode(ids).split(END)[1:])


@pytest.mark.parametrize("tokenizer", ["published/tokenizer.json", "published"])
def test_stories_between_ends(tokenizer, tmp_path, capsys):
    """As TinyStories is published. The dataset keeps the tokenizer's files, and has stories to hold out."""
    mixture = mixture_of(tmp_path / "raw", "a.txt.gz", tokenizer, separator=END)
    raw_files.write_text(tmp_path / "raw" / "a.txt.gz", f"\n{END}\n".join(STORIES) + f"\n{END}\n")
    out = prepare_inline(mixture, tmp_path / "out")
    report = json.loads((out / "report.json").read_bytes())["one"]
    assert report["records"] == len(STORIES)
    assert report["val"]["documents"] > 0
    assert documents_in(out) == sorted(STORIES)
    assert isinstance(Dataset(out).tokenizer, JsonTokenizer)
    assert f"hold {END}" not in capsys.readouterr().out


def test_ends_that_are_ordinary_text_are_mentioned(tmp_path, capsys):
    mixture = mixture_of(tmp_path / "raw", "*.txt")
    for i in range(6):
        (tmp_path / "raw" / f"{i}.txt").write_text(f"{STORIES[i]}{END if i < 2 else ''}")
    out = prepare_inline(mixture, tmp_path / "out")
    assert f"source one: 2 documents hold {END} as ordinary text" in capsys.readouterr().out
    assert json.loads((out / "report.json").read_bytes())["one"]["records"] == 6


@pytest.mark.parametrize("file", ["a.jsonl", "a.jsonl.zst", "a.parquet"])
def test_a_field_of_another_name(file, tmp_path):
    """Of The Stack, OSCAR, RedPajama; null is no text."""
    mixture = mixture_of(tmp_path / "raw", file, field="content")
    path = tmp_path / "raw" / file
    rows = [{"content": text, "text": "another"} for text in STORIES] + [{"content": None, "text": "another"}] * 4
    if file.endswith("parquet"):
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        raw_files.write_text(path, "\n".join(map(json.dumps, rows)))
    out = prepare_inline(mixture, tmp_path / "out")
    assert documents_in(out) == sorted(STORIES)
    report = json.loads((out / "report.json").read_bytes())["one"]
    assert (report["damaged"], report["removed"]["no text"]["documents"]) == (0, 4)
    mixture.write_text(mixture.read_text().replace('"content"', '"text"'))
    with pytest.raises(ConfigError, match="field: content before, text now"):
        prepare_inline(mixture, tmp_path / "out")  # the same files, read otherwise


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("a.txt", {"field": "content"}, "field is for the formats jsonl, parquet, found text; leave it out"),
        ("a.jsonl", {"separator": END}, "separator is for the formats text, found jsonl; leave it out"),
        ("a.txt", {"separator": ""}, "separator: expected the text between documents, found ''"),
    ],
    ids=["field", "separator", "empty"],
)
def test_an_option_of_another_format(file, settings, message, tmp_path):
    mixture = mixture_of(tmp_path / "raw", file, **settings)
    (tmp_path / "raw" / file).write_text("text")
    with pytest.raises(DataError, match=message):
        prepare_inline(mixture, tmp_path / "out")


def test_options_are_recorded_where_they_are_given(tmp_path):
    """So a dataset that was begun without them is resumed."""
    for settings in ({}, {"separator": END}):
        config = load_mixture_config(mixture_of(tmp_path, "a.txt", **settings))
        recorded = recorded_config(config)["sources"]["one"]
        assert {key: recorded[key] for key in recorded.keys() & {"field", "separator"}} == settings


def separated(path, **options):
    format = format_of(path, **options)
    return [record_text(record, format) for record in format.read_records(path)]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 2**16])
def test_separators_are_found_wherever_blocks_end(block, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "BLOCK", block)
    (tmp_path / "a.txt").write_text("one##twö####  \n##three#")
    assert separated(tmp_path / "a.txt", separator="##") == ["one", "twö", "three#"]


def test_a_document_of_too_many_bytes_is_lost_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "LARGEST_RECORD", 1000)
    monkeypatch.setattr(plain, "BLOCK", 64)
    (tmp_path / "a.txt").write_text("##".join(["one", "x" * 5000, "two"]))
    first, lost, last = separated(tmp_path / "a.txt", separator="##")
    assert (first, last) == ("one", "two")
    assert isinstance(lost, Damaged)
    assert "more than 1,000 bytes without a separator" in lost.reason


def test_what_follows_damage_is_skipped_up_to_a_separator(tmp_path):
    """Two members, the first of them damaged: the document across the damage is lost, the others are not."""
    raw_files.write_text(tmp_path / "1.gz", "##".join(["one", "two" * 9000, "three"]))
    raw_files.write_text(tmp_path / "2.gz", " is half##four##five")
    broken = bytearray((tmp_path / "1.gz").read_bytes())
    broken[-6] ^= 0xFF  # of the checksum
    (tmp_path / "a.txt.gz").write_bytes(bytes(broken) + (tmp_path / "2.gz").read_bytes())
    found = separated(tmp_path / "a.txt.gz", separator="##")
    assert [text for text in found if not isinstance(text, Damaged)][-2:] == ["four", "five"]
    assert [type(text) for text in found].count(Damaged) == 1
    assert not any("three" in text for text in found if isinstance(text, str))


def test_a_tokenizer_without_an_end_cannot_part_documents(tmp_path):
    mixture = mixture_of(tmp_path / "raw", "a.txt")
    (tmp_path / "raw" / "a.txt").write_text("text")
    (tmp_path / "raw" / "published" / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="has no end-of-text token to separate documents"):
        prepare_inline(mixture, tmp_path / "out")

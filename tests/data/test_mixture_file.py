"""Mixture files: their content, and everything that can be wrong with one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lm.data.mixture.mixture_file import CleaningConfig, SourceConfig, load_mixture_config
from tinygrad_lm.data.mixture.source_weights import (
    GPT3_BILLIONS,
    GPT3_MIXTURE,
    LARGEST_DENOMINATOR,
    gpt3_epochs,
    period,
)
from tinygrad_lm.errors import DataError

WHOLE = """
tokenizer = "mine.tiktoken"
validation = 0.05
shard_tokens = 1_000
damage = 0.5

[clean]
rules = ["gopher"]
deduplicate = "exact"
decontaminate = ["eval/*.jsonl"]

[[source]]
name = "web"
weight = 0.6
files = ["crawl/*.gz", "more.txt"]
format = "wet"
[source.clean]
deduplicate = "fuzzy"
classifier = "quality.safetensors"

[[source]]
name = "counting"
weight = "1/3"
synthetic = { kind = "arithmetic", documents = 10_000, share = 0.25, words = [0.5, "a"] }

[[source]]
name = "there-already_2"
weight = "1/15"
shards = ["a/*.bin"]
validation_shards = ["b/*.bin"]
"""


def load(folder, text):
    path = folder / "mixture.toml"
    path.write_text(text)
    return load_mixture_config(path)


def source(name="web", weight="weight = 1", rest='files = ["a"]'):
    return f'[[source]]\nname = "{name}"\n{weight}\n{rest}\n'


def test_all_that_a_file_can_say(tmp_path):
    mixture = load(tmp_path, WHOLE)
    clean = CleaningConfig(("gopher",), "exact", ("eval/*.jsonl",))
    assert (mixture.folder, mixture.tokenizer, mixture.validation) == (tmp_path, "mine.tiktoken", 0.05)
    assert (mixture.shard_tokens, mixture.damage, mixture.preset) == (1000, 0.5, None)
    synthetic = {"kind": "arithmetic", "documents": 10_000, "share": 0.25, "words": [0.5, "a"]}
    web = CleaningConfig(("gopher",), "fuzzy", ("eval/*.jsonl",), "quality.safetensors")
    assert mixture.sources == (
        SourceConfig("web", Fraction(3, 5), files=("crawl/*.gz", "more.txt"), format="wet", clean=web),
        SourceConfig("counting", Fraction(1, 3), synthetic=synthetic, clean=clean),
        SourceConfig(
            "there-already_2", Fraction(1, 15), shards=("a/*.bin",), validation_shards=("b/*.bin",), clean=clean
        ),
    )
    numbers = (mixture.validation, mixture.damage, mixture.sources[1].synthetic["share"])
    assert all(type(value) is float for value in numbers)


def test_what_a_short_file_leaves_to_us(tmp_path):
    mixture = load(tmp_path, source())
    assert mixture.sources == (SourceConfig("web", Fraction(1), files=("a",)),)
    assert (mixture.tokenizer, mixture.validation, mixture.shard_tokens) == ("gpt2", 0.01, 100_000_000)
    assert (mixture.damage, mixture.sources[0].clean) == (0.01, CleaningConfig((), "none", (), None))


@given(counts=st.lists(st.integers(1, 999), min_size=1, max_size=5))
def test_weights_are_exact(counts, tmp_path_factory):
    """As fractions or decimals, whatever their floating-point sum."""
    folder, total = tmp_path_factory.getbasetemp(), sum(counts)
    text = "".join(source(f"s{i}", f'weight = "{n}/{total}"') for i, n in enumerate(counts))
    weights = [s.weight for s in load(folder, text).sources]
    assert weights == [Fraction(n, total) for n in counts]
    assert all((w * period(weights)).denominator == 1 for w in weights)


def test_a_tenth_three_times_is_three_tenths(tmp_path):
    text = "".join(source(f"s{i}", f"weight = {w}") for i, w in enumerate((0.1, 0.1, 0.1, 0.7)))
    assert sum(s.weight for s in load(tmp_path, text).sources) == 1
    text = "".join(source(f"s{i}", f"weight = {w}") for i, w in enumerate((0.7, 0.1, 0.1, 0.1)))
    assert 0.7 + 0.1 + 0.1 + 0.1 != 1
    assert sum(s.weight for s in load(tmp_path, text).sources) == 1


# ---- GPT-3's

FILES = 'files = ["a"]'


def test_gpt3s_mixture(tmp_path):
    text = 'preset = "gpt3"\n' + "".join(source(name, "") for name in GPT3_MIXTURE)
    weights = {s.name: s.weight for s in load(tmp_path, text).sources}
    assert weights == {
        "commoncrawl": Fraction(60, 101),
        "webtext2": Fraction(22, 101),
        "books1": Fraction(8, 101),
        "books2": Fraction(8, 101),
        "wikipedia": Fraction(3, 101),
    }


def test_gpt3s_weights_are_parted_among_those_that_have_none(tmp_path):
    text = 'preset = "gpt3"\n' + source("mine", "weight = 0.75") + source("books1", "") + source("webtext2", "")
    weights = {s.name: s.weight for s in load(tmp_path, text).sources}
    assert weights == {"mine": Fraction(3, 4), "books1": Fraction(8, 120), "webtext2": Fraction(22, 120)}


def test_gpt3s_epochs():
    """As in the paper, within the rounding of its three columns; except WebText2, which no rounding explains."""
    found = gpt3_epochs()
    printed = {name: epochs for name, (_, _, epochs) in GPT3_MIXTURE.items()}
    assert printed == {"commoncrawl": 0.44, "webtext2": 2.9, "books1": 1.9, "books2": 0.43, "wikipedia": 3.4}
    assert {name: round(value, 1 + (value < 1)) for name, value in found.items()} == {
        "commoncrawl": 0.43,
        "webtext2": 3.4,
        "books1": 2.0,
        "books2": 0.43,
        "wikipedia": 3.0,
    }
    fits = set()
    for name, (size, percent, epochs) in GPT3_MIXTURE.items():
        low = (percent - 0.5) / 100 * GPT3_BILLIONS / (size + 0.5)
        high = (percent + 0.5) / 100 * GPT3_BILLIONS / (size - 0.5)
        last = 0.005 if epochs < 1 else 0.05
        if low <= epochs + last and epochs - last <= high:
            fits.add(name)
    assert fits == GPT3_MIXTURE.keys() - {"webtext2"}


# ---- mistakes

WRONG = [
    ("", "expected one [[source]] or more, found none"),
    ("source = 3", "expected one [[source]] or more, found none"),
    ("source = [3]", "expected one [[source]] or more, found none"),
    ("x = ", "expected TOML: Invalid value"),
    ("x = " + "[" * 100_000, "expected TOML: "),
    ("tokeniser = 3\n" + source(), "the file: 'tokeniser' is unknown; expected one of tokenizer, validation, damage"),
    ('tokenizer = ""\n' + source(), "tokenizer: expected the name or the path of a tokenizer, found ''"),
    ("validation = 1\n" + source(), "the file: validation: expected a share from 0 to less than 1, found 1"),
    ("validation = -0.1\n" + source(), "validation: expected a share from 0 to less than 1, found -0.1"),
    ("validation = nan\n" + source(), "validation: expected a share from 0 to less than 1, found nan"),
    ("validation = false\n" + source(), "validation: expected a share from 0 to less than 1, found False"),
    ("damage = 1.5\n" + source(), "damage: expected a share from 0 to less than 1, found 1.5"),
    ("shard_tokens = 0\n" + source(), "shard_tokens: expected a whole number from 1 to 2147483647, found 0"),
    ("shard_tokens = 2147483648\n" + source(), "shard_tokens: expected a whole number"),
    ("shard_tokens = 1e3\n" + source(), "shard_tokens: expected a whole number"),
    ("shard_tokens = true\n" + source(), "shard_tokens: expected a whole number"),
    ('preset = "gpt4"\n' + source(), "preset: expected \"gpt3\", found 'gpt4'"),
    ('preset = "gpt3"\n' + source(weight=""), "preset gpt3 knows commoncrawl, webtext2, books1, books2, wikipedia"),
    ('preset = "gpt3"\n' + source() + source("books1", ""), "the given weights leave 0 for books1"),
    ("clean = 3\n" + source(), "[clean]: expected a table, found 3"),
    ("[clean]\nrules = 3\n" + source(), "[clean]: rules: expected a list of names, found 3"),
    ('[clean]\nrules = [""]\n' + source(), "[clean]: rules: expected a list of names, found ['']"),
    ('[clean]\ndeduplicate = "all"\n' + source(), '[clean]: deduplicate: expected "none", "exact" or "fuzzy"'),
    ('[clean]\ndecontaminate = "all"\n' + source(), "[clean]: decontaminate: expected a list of file patterns"),
    ("[clean]\nclassifier = 3\n" + source(), "[clean]: classifier: expected the path of a classifier, found 3"),
    ("[clean]\nlower = true\n" + source(), "[clean]: 'lower' is unknown"),
    (source() + "clean = 3", "source 'web': clean: expected a table, found 3"),
    (source() + "[source.clean]\nrules = 3", "source 'web': clean: rules: expected a list of names"),
    (source(rest='files = ["a"]\nfile = 3'), "source 'web': 'file' is unknown; expected one of name, files, format"),
    (source(rest=""), "source 'web': expected one of files, shards, synthetic, found none"),
    (source(rest="files = []"), "source 'web': files: expected a list of file patterns, found []"),
    (source(rest='files = "a"'), "source 'web': files: expected a list of file patterns, found 'a'"),
    (source(rest='files = ["a"]\nshards = ["b"]'), "expected one of files, shards, synthetic, found files and shards"),
    (source(rest="synthetic = 3"), "source 'web': synthetic: expected a table of texts and numbers, found 3"),
    (source(rest="synthetic = { day = 2020-01-01 }"), "synthetic: expected a table of texts and numbers"),
    (source(rest="synthetic = { p = inf }"), "synthetic: expected a table of texts and numbers"),
    (source(rest='shards = ["b"]\nformat = "wet"'), "source 'web': format: needs files, and there are none"),
    (source(rest='files = ["b"]\nvalidation_shards = ["c"]'), "validation_shards: needs shards, and there"),
    (source("a b"), "source 'a b': a name has letters a to z"),
    (source("../x"), "source '../x': a name has"),
    (source("-x"), "source '-x': a name has"),
    (source("büro"), "source 'büro': a name has"),
    (source("Tokenizer"), "tokenizer is reserved"),
    ('[[source]]\nweight = 1\nfiles = ["a"]', "source None: a name has"),
    ('[[source]]\nname = ["a"]\nfiles = ["a"]', "source ['a']: a name has"),
    (source("a", 'weight = "1/2"') + source("A", 'weight = "1/2"'), "source 'a' appears 2 times, ignoring case"),
    (source(weight=""), "source 'web': weight: expected a number such as 0.6 or \"3/5\", found none"),
    *(
        (source(weight=f"weight = {w}"), f"above 0 and at most 1 such as 0.6 or \"3/5\", found {f}")
        for w, f in [
            ("0", "0"), ("1.5", "1.5"), ("-0.5", "-0.5"), ("nan", "NaN"), ("inf", "Infinity"), ("true", "True"),
            ('"3/0"', "'3/0'"), ('"much"', "'much'"), ('"½"', "'½'"), ("[1]", "[1]"), ("1e-9", "1E-9"),
            ('"1e-99999999"', "'1e-99999999'"), ('" 1"', "' 1'"), ('"0/1"', "'0/1'"),
        ]
    ),
    (source(weight="weight = 0.5"), "the weights add up to 1/2 = 0.5, expected exactly 1: web 1/2; write thirds"),
    (source("a") + source("b"), "the weights add up to 2, expected exactly 1: a 1 + b 1"),
    (
        source("a", 'weight = "1/1009"') + source("b", 'weight = "1/1013"') + source("c", 'weight = "1020095/1022117"'),
        "the weights have the common denominator 1,022,117, expected at most 1,000,000",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_one_mistake(text, message, tmp_path):
    """It is reported with the file, and nothing else is."""
    with pytest.raises(DataError) as caught:
        load(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(f"mixture {tmp_path / 'mixture.toml'}: ")
    assert message in told
    if "expected TOML" not in told:
        problems = told.split("\n  ")
        assert problems[0].endswith(f": {len(problems) - 1} problem{'s' * (len(problems) > 2)}")


def test_all_mistakes_in_one_message(tmp_path):
    text = """
        validation = 2
        words = 3
        [clean]
        rules = 1
        [[source]]
        name = "a b"
        weight = 0.5
        [source.clean]
        deduplicate = "no"
        [[source]]
        name = "c"
        weight = "1/3"
        files = 3
    """
    with pytest.raises(DataError) as caught:
        load(tmp_path, text)
    lines = str(caught.value).split("\n  ")
    parts = ["9 problems", "rules", "validation", "'words' is unknown", "a name has", "add up to 5/6 = 0.833333"]
    parts += ["'a b': clean: deduplicate", "'a b': expected one of files", "'c': files", "'c': expected one of files"]
    assert len(lines) == len(parts)
    assert all(part in line for part, line in zip(parts, lines, strict=True))


@pytest.mark.parametrize("content", [b"\xff", None])
def test_no_text_and_no_file(content, tmp_path):
    path = tmp_path / "mixture.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="expected TOML: 'utf-8'" if content else "cannot be read: No such file"):
        load_mixture_config(path)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        load_mixture_config(tmp_path)


def test_the_longest_period(tmp_path):
    text = source("a", 'weight = "1/1000000"') + source("b", 'weight = "999999/1000000"')
    assert period([s.weight for s in load(tmp_path, text).sources]) == LARGEST_DENOMINATOR

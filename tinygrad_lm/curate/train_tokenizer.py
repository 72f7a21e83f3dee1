"""Learn a tokenizer from files: the command train-tokenizer."""

import time
from itertools import islice
from pathlib import Path
from sys import maxunicode

from tinygrad_lm.curate.readers.formats import read_texts
from tinygrad_lm.data.tokenizers.bpe import ALPHABET, count_words, learn_merges
from tinygrad_lm.data.tokenizers.bpe_tokenizer import SUFFIX, BPETokenizer, claim_path, tokenizer_path
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END
from tinygrad_lm.errors import ConfigError, DataError


def add_arguments(parser):
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="what to learn from, of any format of curate/readers/; format:FILE where its name does not tell it",
    )
    parser.add_argument("--vocab-size", type=int, required=True, metavar="N", help="bytes, merges and special tokens")
    parser.add_argument(
        "--out",
        default=f"tokenizer{SUFFIX}",
        metavar="NAME",
        help=f"path of the file, ending in {SUFFIX}; or a name, by which --tokenizer then finds it [tokenizer{SUFFIX}]",
    )
    parser.add_argument("--special", nargs="+", default=[], metavar="TOKEN", help=f"special tokens besides {END}")


def train_tokenizer_command(args):
    """Raises a TinygradError, and writes nothing, where the files or the options are wrong."""
    special = [END, *args.special]
    merges = args.vocab_size - len(ALPHABET) - len(special)
    if not 0 <= merges <= maxunicode - len(ALPHABET):
        raise ConfigError(
            f"--vocab-size: expected at least {args.vocab_size - merges} (256 bytes and {len(special)} special), and "
            f"at most {maxunicode:,}; found {args.vocab_size:,}"
        )
    if args.out in ("char", "byte", "gpt2"):
        raise ConfigError(f"--out: {args.out} is the name of another tokenizer; choose another")
    named = Path(args.out)
    if not args.out.endswith(SUFFIX) and (named.suffix or len(named.parts) != 1):
        raise ConfigError(
            f"--out: expected a path that ends in {SUFFIX}, or a plain name, found {args.out}; give "
            f"{named.with_suffix(SUFFIX)}, or {named.stem}"
        )
    path = claim_path(tokenizer_path(args.out))
    BPETokenizer(ALPHABET, special)  # refuses special tokens that cannot be, before the work begins

    began = time.perf_counter()
    counts = count_words(with_progress(read_texts(args.files)))
    if not counts:
        raise DataError(f"{', '.join(args.files)}: expected text to learn from, found none")
    counted = time.perf_counter()
    learnt = progress_bar(islice(learn_merges(counts), merges), desc="merging", total=merges, unit=" merges")
    tokens = [*ALPHABET, *(left + right for left, right in learnt)]
    ended = time.perf_counter()

    tokenizer = BPETokenizer(tokens, special)
    tokenizer.save(path)
    size = sum(n * len(word.encode()) for word, n in counts.items())
    length = sum(n * len(tokenizer.encode(word)) for word, n in counts.items())
    print(f"words   {len(counts):,} distinct in {size:,} bytes of text, counted in {counted - began:.1f} s")
    print(f"merges  {len(tokens) - len(ALPHABET):,} in {ended - counted:.1f} s")
    if tokenizer.vocab_size < args.vocab_size:
        print(f"        fewer than the {merges:,} asked for: every word of the text is one token already")
    print(f"tokens  {tokenizer.vocab_size:,}; on this text {size / length:.2f} bytes a token")
    print(f"in      {path}")
    print(f"use it  --tokenizer {args.out}; or in a mixture file, whose paths are seen from its own folder")
    return 0


def with_progress(texts):
    """The texts, and a progress bar of how many characters of them are done."""
    with progress_bar(desc="counting words", unit=" characters", unit_scale=True) as bar:
        for text in texts:
            yield text
            bar.update(len(text))


def progress_bar(*iterable, **options):
    from tqdm import tqdm

    return tqdm(*iterable, **options, disable=None, dynamic_ncols=True)  # None: only on a terminal

"""Learn a byte-level BPE vocabulary from files, normalised as `prepare` normalises texts."""

import time
from itertools import islice
from pathlib import Path
from sys import maxunicode

from tinygrad_lm.curate.cleaning.normalise import normalise
from tinygrad_lm.curate.readers.formats import add_options, options_of, read_texts
from tinygrad_lm.data.tokenizers.bpe import ALPHABET, count_words, learn_merges
from tinygrad_lm.data.tokenizers.bpe_tokenizer import SUFFIX, BPETokenizer, claim_path, tokenizer_path
from tinygrad_lm.data.tokenizers.gpt2_tokenizer import END
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.programs import progress_bar


def add_arguments(parser):
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="files of any format of curate/readers/; FORMAT:FILE if the name does not imply the format",
    )
    parser.add_argument(
        "--vocab-size", type=int, required=True, metavar="N", help="256 bytes, merges and special tokens"
    )
    parser.add_argument(
        "--out",
        default=f"tokenizer{SUFFIX}",
        metavar="NAME",
        help=f"path ending in {SUFFIX}, or a name in the user's cache [tokenizer{SUFFIX}]",
    )
    parser.add_argument("--special", nargs="+", default=[], metavar="TOKEN", help=f"special tokens besides {END}")
    add_options(parser)
    parser.set_defaults(function=train_tokenizer_command)


def train_tokenizer_command(args):
    """Learn and save the tokenizer, and print a summary. Returns the exit status.

    Raises a TinygradError, and writes nothing, if a file or an option is wrong.
    """
    special = [END, *args.special]
    merges = args.vocab_size - len(ALPHABET) - len(special)
    if not 0 <= merges <= maxunicode - len(ALPHABET):
        raise ConfigError(
            f"--vocab-size: expected at least {args.vocab_size - merges} (256 bytes and {len(special)} special), and "
            f"at most {maxunicode:,}; found {args.vocab_size:,}"
        )
    if args.out in ("char", "byte", "gpt2"):
        raise ConfigError(f"--out: {args.out} is the name of a built-in tokenizer; choose another")
    named = Path(args.out)
    if not args.out.endswith(SUFFIX) and (named.suffix or len(named.parts) != 1):
        raise ConfigError(
            f"--out: expected a path that ends in {SUFFIX}, or a plain name, found {args.out}; use "
            f"{named.with_suffix(SUFFIX)} or {named.stem}"
        )
    path = claim_path(tokenizer_path(args.out))
    BPETokenizer(ALPHABET, special)  # checks the special tokens before the work begins
    options = options_of(args, args.files)

    began = time.perf_counter()
    counts = count_words(map(normalise, with_progress(read_texts(args.files, **options))))
    if not counts:
        raise DataError(f"{', '.join(args.files)}: expected text to learn from, found none")
    counted = time.perf_counter()
    learnt = progress_bar(islice(learn_merges(counts), merges), desc="merging", total=merges, unit=" merges")
    tokens = [*ALPHABET, *(left + right for left, right in learnt)]
    ended = time.perf_counter()

    tokenizer = BPETokenizer(tokens, special)
    tokenizer.save(path)
    size = sum(n * len(word.encode()) for word, n in counts.items())
    length = sum(n * sum(len(tokenizer.encode(part)) for part in parts(word)) for word, n in counts.items())
    print(f"words   {len(counts):,} distinct in {size:,} bytes of text, counted in {counted - began:.1f} s")
    print(f"merges  {len(tokens) - len(ALPHABET):,} in {ended - counted:.1f} s")
    if tokenizer.vocab_size < args.vocab_size:
        print(f"        fewer than the requested {merges:,}: every word of the text is one token")
    print(f"tokens  {tokenizer.vocab_size:,}; {size / length:.2f} bytes per token on this text")
    print(f"file    {path}")
    print(f"use     --tokenizer {args.out}, or in a mixture file, with a path relative to it")
    return 0


def parts(word, most=2**16):
    """The word, or pieces of one that is longer than tiktoken can split, such as a million spaces."""
    return (word[i : i + most] for i in range(0, len(word), most))


def with_progress(texts):
    """Yield the texts, with a progress bar of their characters."""
    with progress_bar(desc="counting words", unit=" characters", unit_scale=True) as bar:
        for text in texts:
            yield text
            bar.update(len(text))

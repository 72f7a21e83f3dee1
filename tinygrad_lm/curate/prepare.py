"""Make a dataset from the raw files that a mixture file names; an interrupted run resumes.

The output is a folder: token files for each source, manifest.json, report.json, and removed.jsonl with examples of
removed texts.

One process reads records, drops duplicates and writes token files, in order. Workers extract, clean and tokenize texts,
and their results are used in the order of the records. So the mixture file and its inputs determine every byte of the
output; the number of workers and interruptions do not matter.
"""

import shlex
from concurrent.futures import BrokenExecutor
from pathlib import Path

from tinygrad_lm.curate.cleaning.cleaner import cleaning_notes
from tinygrad_lm.curate.output import report
from tinygrad_lm.curate.output.manifest import write_results, write_tokenizer
from tinygrad_lm.curate.output.provenance import modification_times, recorded_inputs
from tinygrad_lm.curate.output.resume import (
    begin_or_resume,
    folder_lock,
    new_journal,
    refuse_foreign_folder,
    update_finished,
)
from tinygrad_lm.curate.pipeline.executors import NAMES, find_pool, processes
from tinygrad_lm.curate.pipeline.inputs import find_inputs, open_tokenizer, unmatched_patterns
from tinygrad_lm.curate.pipeline.pipeline import Pipeline
from tinygrad_lm.curate.pipeline.progress_bar import ProgressBar
from tinygrad_lm.data.mixture.dataset import MANIFEST
from tinygrad_lm.data.mixture.mixture_file import load_mixture_config
from tinygrad_lm.data.mixture.source_weights import gpt3_epochs_line
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.signals import stop_signals


def prepare(mixture_path, out=None, pool=None, restart=False, progress=False):
    """Make the dataset of a mixture file in the folder `out` (default: the mixture file's path without its suffix).

    pool: a context manager of a concurrent.futures executor and its number of workers, which is entered when there is
        work (default: processes, one per core)
    restart: start again, even if the dataset is finished or was begun with other settings

    An interrupted run resumes. A finished dataset is only compared with the mixture file and gets its weights; its raw
    files may be gone. Returns the folder. Raises DataError or ConfigError; after Ctrl-C or SIGTERM, when progress is
    saved, KeyboardInterrupt or SystemExit(143).
    """
    mixture = load_mixture_config(mixture_path)
    out = Path(out or Path(mixture_path).with_suffix(""))
    if out.exists() and not out.is_dir():
        raise ConfigError(f"prepare: expected a folder to write to, found the file {out}; choose another --out")
    if (out / MANIFEST).exists() and not restart and unmatched_patterns(mixture, out):
        with folder_lock(out):
            refuse_foreign_folder(out)
            update_finished(out, mixture)
        return out
    tokenizer = open_tokenizer(mixture)
    found = find_inputs(mixture, tokenizer, out)
    start = new_journal(mixture, recorded_inputs(mixture, found, tokenizer), modification_times(found), tokenizer)
    with folder_lock(out):
        state = begin_or_resume(out, mixture, start, restart)
        if state is None:
            return out
        for note in cleaning_notes([source.clean for source in mixture.sources if source.files], mixture.folder):
            print(note)
        write_tokenizer(out, tokenizer)
        pipeline = Pipeline(mixture, found, out, tokenizer, state)
        received = run_pipeline(pipeline, ProgressBar(mixture, found, state, progress), pool or processes())
        if received:
            without = " without --restart" if restart else ""
            print(f"\n{out}: progress is saved; the same command{without} resumes")
            raise KeyboardInterrupt if received[0] == "SIGINT" else SystemExit(143)
        write_results(out, mixture, state)
    print(report.report_table(state["sources"]))
    marks = report.mark_warnings(state["sources"], tokenizer.decode([tokenizer.eot]))
    for warning in [*report.held_out_warnings(mixture, state["sources"]), *marks]:
        print(warning)
    if mixture.preset:
        print(gpt3_epochs_line())
    return out


def run_pipeline(pipeline, bar, pool):
    """Process the remaining records. Returns the names of the signals that stopped it."""
    with stop_signals() as received:
        try:
            with pool as (executor, workers), bar:
                pipeline.process_sources(executor, 2 * workers + 1, received, bar)
        except BrokenExecutor as error:
            if not received:  # a signal to the process group also ends the workers
                raise DataError(
                    f"prepare: a worker died: {error}\n"
                    "  hint : it may have run out of memory; fewer workers need less; the same command resumes"
                ) from error
    return received


def add_arguments(parser):
    parser.add_argument(
        "mixture", metavar="MIXTURE.toml", help="sources, weights, cleaning: data/mixture/mixture_file.py"
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write to [the mixture file's path without .toml]")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, or ranks that MPI spawns [one per core]")
    parser.add_argument("--executor", default="processes", metavar="WHERE", help=f"where workers run: {NAMES}")
    parser.add_argument("--restart", action="store_true", help="discard earlier results and start again")
    parser.set_defaults(function=prepare_command)


def prepare_command(args):
    """Make the dataset and print where it is. Returns the exit status."""
    pool = find_pool(args.executor, args.workers)
    out = prepare(args.mixture, args.out, pool, restart=args.restart, progress=True)
    print(f"written to {out}: manifest.json, report.json, removed.jsonl, and a folder for each source")
    print(f"inspect it:  python -m tinygrad_lm.data inspect {shlex.quote(str(out))}")
    return 0

"""From raw files to token files. The sources come one after the other, and each document in its order.

One process reads, drops duplicates and writes; what costs time, text out of records, cleaning and tokens, is done by
workers (work.py), whose answers are taken in the order of the questions. So the result is a function of the mixture
file and its inputs, byte for byte: neither the number of workers matters, nor whether it was killed on the way.
"""

import shlex
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from pathlib import Path

from tinygrad_lm.backend import cores
from tinygrad_lm.curate.cleaning.cleaner import cleaning_notes
from tinygrad_lm.curate.output import report
from tinygrad_lm.curate.output.manifest import new_journal, write_results, write_tokenizer
from tinygrad_lm.curate.output.provenance import modification_times, recorded_inputs
from tinygrad_lm.curate.output.resume import begin_or_resume, folder_lock, refuse_foreign_folder, update_finished
from tinygrad_lm.curate.pipeline.batches import worker_processes
from tinygrad_lm.curate.pipeline.inputs import find_inputs, open_tokenizer, unmatched_patterns
from tinygrad_lm.curate.pipeline.pipeline import Pipeline
from tinygrad_lm.curate.pipeline.progress_bar import ProgressBar
from tinygrad_lm.data.mixture.dataset import MANIFEST
from tinygrad_lm.data.mixture.mixture_file import load_mixture_config
from tinygrad_lm.data.mixture.source_weights import gpt3_epochs_line
from tinygrad_lm.errors import ConfigError, DataError
from tinygrad_lm.signals import stop_signals


def prepare(mixture_path, out=None, executor=None, workers=None, restart=False, progress=False):
    """Token files of all that a mixture file names, in the folder `out` (default: beside it, by its name).

    executor: any of concurrent.futures' kind [processes: `workers` of them, or one a core]. A preparation that was
    stopped goes on where it was; one that is finished is left as it is, unless `restart`, and then its raw files may be
    gone. Returns the folder. Raises DataError or ConfigError; after Ctrl-C KeyboardInterrupt and after SIGTERM
    SystemExit(143), when the place is saved.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"prepare: --workers: expected 1 or more, found {workers}")
    mixture = load_mixture_config(mixture_path)
    out = Path(out or Path(mixture_path).with_suffix(""))
    if out.exists() and not out.is_dir():
        raise ConfigError(f"prepare: {out} is a file, expected a folder to write to; give another with --out DIR")
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
        preparation = Pipeline(mixture, found, out, tokenizer, state["tokenizer"], state)
        received = run_pipeline(preparation, ProgressBar(mixture, found, state, progress), executor, workers or cores())
        if received:
            print(f"\n{out}: what was done is saved; the same command goes on{', less --restart' if restart else ''}")
            raise KeyboardInterrupt if received[0] == "SIGINT" else SystemExit(143)
        write_results(out, mixture, state)
    print(report.report_table(state["sources"]))
    for line in [
        *report.held_out_warnings(mixture, state["sources"]),
        *([gpt3_epochs_line()] if mixture.preset else []),
    ]:
        print(line)
    return out


def run_pipeline(preparation, bar, executor, workers):
    """Do what is left. Returns the names of the signals that ended it."""
    with stop_signals() as received, bar, nullcontext(executor) if executor else worker_processes(workers) as executor:
        try:
            preparation.run(executor, 2 * workers + 1, received, bar)
        except BrokenExecutor as error:
            if not received:  # a signal to the whole group ends the workers, too
                raise DataError(
                    f"prepare: a worker died: {error}\n"
                    "  hint : was there too little memory? Try fewer workers; the same command goes on"
                ) from error
    return received


def add_arguments(parser):
    parser.add_argument(
        "mixture", metavar="MIXTURE.toml", help="sources, weights, cleaning: data/mixture/mixture_file.py"
    )
    parser.add_argument("--out", metavar="DIR", help="where to write [beside the mixture file, by its name]")
    parser.add_argument("--workers", type=int, metavar="N", help="processes [one a core]")
    parser.add_argument("--restart", action="store_true", help="forget what is there and begin anew")


def prepare_command(args):
    out = prepare(args.mixture, args.out, workers=args.workers, restart=args.restart, progress=True)
    print(f"in {out}: manifest.json, report.json, removed.jsonl, and a folder for each source")
    print(f"look at it:  python -m tinygrad_lm.data inspect {shlex.quote(str(out))}")
    return 0

"""What a training run shows: a bar on a terminal, and a few lines at each evaluation, in a file too."""

import time

from tinygrad_lm.programs import progress_bar

SHOWN = 100  # characters of a sample


class Progress:
    """The progress of a run, within whose block training takes place.

    run: its RunFolder; trainer: whose pace says how far the run is
    """

    def __init__(self, run, trainer):
        self.run, self.pace, self.tokens = run, trainer.pace, trainer.batches.tokens_a_step
        self.speed, self.values = "", []

    def __enter__(self):
        shape = "{percentage:3.0f}%|{bar}| {elapsed}{postfix}"
        self.bar = progress_bar(total=self.pace.config.steps, bar_format=shape)
        return self

    def __exit__(self, *_):
        self.bar.close()

    def made(self, steps, figures):
        """After these steps; figures: what the log says of the last one, the first of them first."""
        done, left = steps.stop, self.pace.left(steps.stop)
        seconds = self.pace.figures(done - 1)["seconds"]
        self.name, value = next(iter(figures.items()))
        self.values.append(value)
        self.speed = f"{self.tokens / seconds:,.0f} tokens/s, {duration(left)} left"
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
        self.bar.set_postfix_str(f"step {done:,}, {status(figures)}, {self.speed}, ends at {end}", refresh=False)
        self.bar.update(self.pace.position(done) - self.bar.n)

    def evaluated(self, done, sample):
        """After an evaluation; sample: what the model wrote, None if that failed."""
        found = [f"{self.run.measure} {self.run.log.curve('validation')[1][-1]:.3f}"]
        if self.values:
            found = [f"{self.name} {sum(self.values) / len(self.values):.3f}", *found, self.speed]
        self.values = []
        with self.bar.external_write_mode():  # so that it does not tear the bar
            print(f"step {done:,}: {', '.join(found)}", flush=True)
            if sample:
                print("   ", sample[:SHOWN].replace("\n", " ⏎ "), flush=True)


def status(figures):
    """The first two figures of a step."""
    return ", ".join(f"{name} {value:.3f}" for name, value in [*figures.items()][:2])


def duration(seconds):
    """A time as minutes and seconds, or hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

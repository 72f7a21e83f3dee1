"""How far a run is. Its position, in steps of its plan, decides the learning rate, the evaluations and the end.

A run that is planned by --steps is at the position of its step. One that is planned by --minutes is where its time is:
when half of it is used, the position is half of the steps that were planned, however many have been made.
"""

import math
import time
from statistics import median

from tinygrad_lm.distributed.communicator import world

RECENT = 10  # steps; what a step takes is the median of theirs


def pace_of(config, batches, records=()):
    """The pace of a run, whose log has these records; by the clock of rank 0."""
    now = world().clock
    if not config.seconds:
        return Steps(config, records, now)
    return Clock(config, batches.steps_within(config.epochs) if config.epochs else math.inf, records, now)


class Steps:
    """The pace of a run that has a number of steps.

    records: of the log, whose steps may be more than the checkpoint's from which the run is resumed. These are repeated
    as they were, figures included, and the time used is what the log says: neither a pause nor the repetition counts.
    now: a clock, in seconds
    """

    def __init__(self, config, records=(), now=time.perf_counter):
        self.config, self.now = config, now
        self.made = [record for record in records if "seconds" in record]  # of each step that was made

    def position(self, step):
        """Where the run is before step number `step`, from 0 to config.steps."""
        return step

    def over(self, done):
        """Whether the run ends after so many steps."""
        return self.position(done) >= self.config.steps

    def evaluates(self, done):
        """Whether there is an evaluation after so many steps: at multiples of eval_every on the way, and at the end."""
        steps = self.config.steps
        every = self.config.eval_every or max(1, round(steps / 5))
        before, here = self.position(done - 1), self.position(done)
        return here >= steps or (here // every > before // every and steps - here >= every / 2)

    def rate_factor(self, step):
        """What the learning rates are multiplied by at this step, from 0 to 1."""
        return self.config.rate_factor(self.position(step))

    def stretches(self, first, ahead):
        """The steps from `first` to the last as ranges, at most `ahead` long, each evaluation at the end of one.

        `ended` is to be called as soon as the steps of a range are made.
        """
        self.zero = self.now() - self.elapsed(first)
        while not self.over(first):
            stop = first + 1
            while stop - first < ahead and not self.evaluates(stop):
                stop += 1
            self.begin(range(first, stop))
            yield range(first, stop)
            first = stop

    def begin(self, steps):
        """Read the clock before these steps."""
        self.began = self.now()

    def ended(self, steps):
        """Read the clock after these steps."""
        now = self.now()
        seconds = (now - self.began) / len(steps)
        for step in steps[max(0, len(self.made) - steps.start) :]:
            self.made.append({"seconds": seconds, "elapsed": now - self.zero - (steps[-1] - step) * seconds})
        self.zero = now - self.elapsed(steps.stop)

    def figures(self, step):
        """What the log says of a step that has ended: position, rate_factor, seconds, and the run's time until then."""
        figures = {"position": self.position(step), "rate_factor": self.rate_factor(step)}
        return figures | {"seconds": self.made[step]["seconds"], "elapsed": self.elapsed(step + 1)}

    def elapsed(self, done):
        """The time used, in seconds, when so many steps had been made."""
        return self.made[done - 1].get("elapsed", 0.0) if done else 0.0

    def step_seconds(self):
        """What a step takes at present."""
        return median(record["seconds"] for record in self.made[-RECENT:])

    def left(self, done):
        """How many seconds are left after so many steps, at least one, for the run to end."""
        way = self.position(done) / self.config.steps
        return self.elapsed(done) * (1 / way - 1) + self.config.ending * self.step_seconds()


class Clock(Steps):
    """The pace of a run that has config.seconds: position / config.steps is the share of the time that is used.

    As long as config.ending steps take is kept free for the end: for the evaluation of the whole validation split. The
    position before a step is read when the step before has ended, from figures that are in the log.
    limit: the most steps
    """

    def __init__(self, config, limit=math.inf, records=(), now=time.perf_counter):
        super().__init__(config, records, now)
        self.limit, self.positions = limit, [record["position"] for record in self.made]

    def position(self, step):
        return self.positions[step] if step < len(self.positions) else self.read(step)

    def read(self, step):
        """The position before a step: by the time that is used, or expected to be if steps before it are not made."""
        steps, total, made = self.config.steps, self.config.seconds, len(self.made)
        seconds = self.step_seconds() if made else total / (steps + self.config.ending)
        used, available = self.elapsed(made) + (step - made) * seconds, total - self.config.ending * seconds
        if step and used + seconds > available:  # one step more would end too late
            return steps
        return max([0.0, *self.positions[-1:], steps * max(used / available, step / self.limit)])

    def begin(self, steps):
        self.positions += [self.read(step) for step in steps[max(0, len(self.positions) - steps.start) :]]
        super().begin(steps)

"""A machine of any speed, with a clock that only its work moves, for runs that follow the clock."""


class Machine:
    """now(): seconds. slowness(now): by how much it is slower than usual at that time."""

    def __init__(self, slowness=lambda now: 1.0):
        self.time, self.slowness = 1000.0, slowness
        self.began = self.time

    def now(self):
        return self.time

    def used(self):
        return self.time - self.began

    def work(self, seconds):
        """Work that usually takes so long, in small pieces."""
        for _ in range(4):
            self.time += seconds / 4 * self.slowness(self.used())


def follow(pace, machine, first=0, ahead=1, part=0.0):
    """What training does with a pace, a second a step and `part` an evaluation: (the log's records of steps, when there
    were evaluations)."""
    records, evaluations = [], []
    for steps in pace.stretches(first, ahead):
        machine.work(len(steps))
        pace.ended(steps)
        records += [{"step": step + 1, **pace.figures(step)} for step in steps]
        if pace.evaluates(steps.stop):
            evaluations.append(steps.stop)
            machine.work(part)
    machine.work(pace.config.ending - part)
    return records, evaluations

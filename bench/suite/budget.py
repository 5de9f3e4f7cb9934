"""budget: how long the runs may be, so that all of them together end in the time that there is.

A pilot run of each program has shown what it takes beside the time that is measured (starting, connecting, warming
up). From that follows how long the measured part may be. The estimate is never right, so it is made anew
after each workload, from the time that is left, and corrected by how wrong it has been so far.
"""
import time

SECONDS_MIN, SECONDS_MAX = 0.2, 3.0  # of one run
CORRECTION_MIN, CORRECTION_MAX = 0.5, 3.0
SHARE_OF_TIME = 0.97                 # the rest is for writing, and for the last estimate's error


def words(seconds):
    """For people: "1:05"."""
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02}"


class Budget:
    """`limit_s`: None if there is all the time in the world. `estimate(item, seconds)`: what an item costs."""

    def __init__(self, limit_s, seconds, estimate, clock=time.monotonic):
        self.limit_s = limit_s
        self.seconds = seconds  # of one run, without a limit
        self.estimate = estimate
        self.clock = clock
        self.started_at = clock()
        self.spent_s = 0.0     # on items that are done
        self.expected_s = 0.0  # what they had been estimated at
        self.item_at = self.started_at

    def gone_s(self):
        return self.clock() - self.started_at

    def correction(self):
        if self.expected_s == 0:
            return 1.0
        return min(CORRECTION_MAX, max(CORRECTION_MIN, self.spent_s / self.expected_s))

    def left_s(self):
        return self.limit_s * SHARE_OF_TIME - self.gone_s()

    def cost_s(self, items, seconds):
        return self.correction() * sum(self.estimate(item, seconds) for item in items)

    def seconds_for(self, items):
        """How long a run may be, if all these are still to come."""
        if self.limit_s is None:
            return self.seconds
        low, high = SECONDS_MIN, SECONDS_MAX
        for _ in range(30):
            middle = (low + high) / 2
            if self.cost_s(items, middle) <= self.left_s():
                low = middle
            else:
                high = middle
        return low

    def has_time_for(self, item, seconds):
        return self.limit_s is None or self.cost_s([item], seconds) <= self.left_s()

    def has_time_for_all(self, items):
        """At least if the runs are as short as they may be."""
        return self.limit_s is None or self.cost_s(items, SECONDS_MIN) <= self.left_s()

    def begin(self):
        self.item_at = self.clock()

    def end(self, item, seconds):
        """One item is done."""
        self.spent_s += self.clock() - self.item_at
        self.expected_s += self.estimate(item, seconds)

"""statistics: medians, spreads, and the latency histogram of programs/common.h read back."""

SUB_BUCKETS = 128


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


class Spread:
    """What several rounds gave for one number: the median is the result, the range says how sure."""

    def __init__(self, values):
        self.values = list(values)
        self.median = median(self.values)
        self.low = min(self.values)
        self.high = max(self.values)

    def relative(self):
        """Half the range, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0

    def scaled(self, factor):
        return Spread(value * factor for value in self.values)

    def to_json(self):
        return {"median": self.median, "low": self.low, "high": self.high, "values": self.values}


def paired_ratios(values, base_values):
    """Round by round, so that what slowed a whole round down is in both and cancels."""
    return Spread([value / base for value, base in zip(values, base_values)])


def bucket_bounds(index):
    """The smallest value that falls into a bucket of histogram_index(), and the first that does not."""
    if index < 2 * SUB_BUCKETS:
        return index, index + 1
    shift = index // SUB_BUCKETS - 1
    low = (index - shift * SUB_BUCKETS) << shift
    return low, low + (1 << shift)


def percentile_ns(histogram, percent):
    """The value that `percent` of all values do not exceed: the middle of the bucket it falls into."""
    total = sum(histogram.values())
    wanted = total * percent / 100
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= wanted:
            low, high = bucket_bounds(index)
            return (low + high - 1) / 2
    raise ValueError("an empty histogram has no percentiles")

"""outcome: what came of one workload, as the reports and plots want it, and as results.json keeps it."""
from suite import statistics
from suite.workloads import BY_NAME as WORKLOADS


class Outcome:
    """`rows`: {contender: {measure: Spread or number}}; `absent`, `failed`: {contender: why}; `notes`: sentences."""

    def __init__(self, name, rows, absent=None, failed=None, notes=None):
        self.name = name
        self.workload = WORKLOADS[name]
        self.rows = rows
        self.absent = absent or {}
        self.failed = failed or {}
        self.notes = notes or []

    def round_count(self):
        return max((len(value.values) for row in self.rows.values() for value in row.values()
                    if isinstance(value, statistics.Spread)), default=0)

    def to_json(self):
        return {
            "title": self.workload.title, "floor": self.workload.floor,
            "rows": {name: {key: value.to_json() if isinstance(value, statistics.Spread) else value
                            for key, value in row.items()} for name, row in self.rows.items()},
            "absent": self.absent, "failed": self.failed, "notes": self.notes,
        }

    @staticmethod
    def from_json(name, kept):
        rows = {contender: {key: statistics.Spread(value["values"]) if isinstance(value, dict) else value
                            for key, value in row.items()} for contender, row in kept["rows"].items()}
        return Outcome(name, rows, kept["absent"], kept["failed"], kept.get("notes"))

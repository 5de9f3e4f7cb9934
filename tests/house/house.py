#!/usr/bin/python3
"""house: holds the tree against the house rules (rules.py). house.py [TEXT]: rules with TEXT in their name."""
import os
import sys

import rules


def main():
    root = os.environ.get("IL_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    tree = rules.Tree(os.path.realpath(root))
    counts = {"ok": 0, "FAILED": 0, "skipped": 0}
    for rule in rules.RULES:
        if len(sys.argv) > 1 and sys.argv[1] not in rule.__name__:
            continue
        result = "ok"
        try:
            for finding in rule(tree):
                print(finding)
                result = "FAILED"
        except rules.Skip as reason:
            print(reason)
            result = "skipped"
        counts[result] += 1
        print(f"{result:<7} {rule.__name__}", flush=True)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['ok']} passed, {counts['FAILED']} failed{skipped}")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())

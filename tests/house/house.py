#!/usr/bin/python3
"""house: holds the tree against the house rules (rules.py). house.py [TEXT]: rules with TEXT in their name."""
import os

import rules
import harness

if __name__ == "__main__":
    tree = rules.Tree(os.path.realpath(os.environ.get("IL_SOURCE") or os.path.join(rules.HERE, "../..")))
    harness.run([(rule.__name__, lambda rule=rule: rule(tree)) for rule in rules.RULES])

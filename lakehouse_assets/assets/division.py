"""Columns that divide rows among write tasks; in a module of their own, because Spark's workers load them."""

PART = "_part"  # the task that writes a row, from 0 on
ORDER = "_order"  # what the rows of a write task are sorted by first
DIVIDED = (ORDER, PART)
REPEATS = "_repeats"  # above 1 for a row whose key has been there before in its write task

"""Columns that divide the rows of a frame among the tasks that write them; apart, as Spark's workers load them too."""

PART = "_part"  # the task that writes a row, from 0 on
ORDER = "_order"  # what the rows of a write task are sorted by first
DIVIDED = (ORDER, PART)

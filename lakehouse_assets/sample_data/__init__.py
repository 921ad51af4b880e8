"""A log to try the lakehouse with."""

"""What each day was computed from, what is to be computed and in which runs, and how many rows these read."""

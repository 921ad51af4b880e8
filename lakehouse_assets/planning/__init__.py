"""What each day was computed from, which days to compute in which runs, and how many rows a run reads."""

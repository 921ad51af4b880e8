"""What Dagster runs, when, and what it shows."""

"""Pure functions from DataFrames to DataFrames; no Dagster, no storage, no settings objects."""

"""How long the lakehouse takes, next to the same work in DuckDB, with every table compared."""

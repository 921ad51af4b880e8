"""Storage: landing zone, catalog, warehouse, Spark session, Dagster's I/O manager and event log."""

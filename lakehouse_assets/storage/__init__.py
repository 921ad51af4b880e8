"""Iceberg tables: catalog, publishing, reading, upkeep."""

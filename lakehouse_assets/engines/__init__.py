"""The engines that compute tables and stage their rows. Imports neither assets nor Dagster."""

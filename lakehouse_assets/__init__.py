"""A Dagster and PySpark lakehouse that turns an app's interaction log into usage metrics."""

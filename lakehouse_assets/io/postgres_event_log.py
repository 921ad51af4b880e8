"""The name under which dagster.yaml files of earlier versions know the storage of events."""

from lakehouse_assets.orchestration.postgres_event_log import BatchingPostgresEventLogStorage

__all__ = ["BatchingPostgresEventLogStorage"]

"""The name under which dagster.yaml files of earlier versions know the storage of events."""

from lakehouse_assets.orchestration.event_log import BatchingSqliteEventLogStorage

__all__ = ["BatchingSqliteEventLogStorage"]

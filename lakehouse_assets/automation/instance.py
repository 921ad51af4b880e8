"""The name under which dagster.yaml files of earlier versions know the launcher of runs."""

from lakehouse_assets.orchestration.instance import WatchingRunLauncher

__all__ = ["WatchingRunLauncher"]

"""Gold: the metrics."""

import dagster as dg
from pyspark.sql import DataFrame

from lakehouse_assets.assets.declaration import days_of, table_asset
from lakehouse_assets.engines.engine import DIVIDED
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.transforms import activity, engagement, lifecycle, performance, retention, segments, sessions
from lakehouse_assets.transforms import anomalies as unusual


def gold_assets(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The gold assets of a lakehouse."""
    settings, tables = lakehouse.settings, lakehouse.declared

    @table_asset(tables["gold.daily_metrics"], partitions)
    def daily_metrics(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return activity.daily_metrics(user_days, *days_of(context))

    @table_asset(tables["gold.monthly_metrics"], partitions)
    def monthly_metrics(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return activity.monthly_metrics(user_days, *days_of(context))

    @table_asset(tables["gold.lifecycle_metrics"], partitions, ("user_days", "first_days"))
    def lifecycle_metrics(context: dg.AssetExecutionContext, user_days: DataFrame, first_days: DataFrame) -> DataFrame:
        return lifecycle.lifecycle_metrics(user_days, first_days, *days_of(context))

    @table_asset(tables["gold.l28_histogram"], partitions)
    def l28_histogram(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return engagement.l28_histogram(user_days, *days_of(context))

    @table_asset(tables["gold.weekly_metrics"], partitions)
    def weekly_metrics(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return activity.weekly_metrics(user_days, *days_of(context))

    @table_asset(tables["gold.action_metrics"], partitions)
    def action_metrics(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return activity.action_metrics(user_days, settings.action_columns, *days_of(context))

    @table_asset(tables["gold.power_users"], partitions)
    def power_users(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return engagement.power_users(user_days, *days_of(context))

    @table_asset(tables["gold.retention_weekly"], partitions, ("user_days", "first_days", "changes"))
    def retention_weekly(
        context: dg.AssetExecutionContext, user_days: DataFrame, first_days: DataFrame, changes: DataFrame
    ) -> DataFrame:
        first, last = days_of(context)
        snapshot_dates = lakehouse.stamps.snapshots("silver.user_changes", first, last)
        return retention.retention_weekly(user_days, first_days, changes, snapshot_dates, first, last)

    @table_asset(tables["gold.session_metrics"], partitions)
    def session_metrics(context: dg.AssetExecutionContext, interactions: DataFrame) -> DataFrame:
        first, last = days_of(context)
        layout = lakehouse.warehouse.layout("gold.session_metrics", first, last, "silver.interactions", first, last)
        divided = lakehouse.warehouse.divide(interactions, layout, "event_date", "user_id")
        return sessions.session_metrics(
            divided, settings.allowed_actions, settings.session_gap_seconds, divided_by=DIVIDED
        )

    @table_asset(tables["gold.daily_session_metrics"], partitions)
    def daily_session_metrics(context: dg.AssetExecutionContext, session_metrics: DataFrame) -> DataFrame:
        return sessions.daily_session_metrics(session_metrics, *days_of(context))

    @table_asset(tables["gold.session_distribution"], partitions)
    def session_distribution(session_metrics: DataFrame) -> DataFrame:
        return sessions.session_distribution(session_metrics)

    @table_asset(tables["gold.segment_metrics"], partitions, ("version_days", "sessions", "changes"))
    def segment_metrics(
        context: dg.AssetExecutionContext, version_days: DataFrame, sessions: DataFrame, changes: DataFrame
    ) -> DataFrame:
        first, last = days_of(context)
        snapshot_dates = lakehouse.stamps.snapshots("silver.user_changes", first, last)
        return segments.segment_metrics(version_days, sessions, changes, settings.segments, snapshot_dates, first, last)

    @table_asset(tables["gold.version_performance"], partitions)
    def version_performance(
        context: dg.AssetExecutionContext, interactions: DataFrame, duration_classes: DataFrame
    ) -> DataFrame:
        return performance.version_performance(interactions, duration_classes, *days_of(context))

    @table_asset(tables["gold.segment_performance"], partitions, ("user_days", "changes"))
    def segment_performance(context: dg.AssetExecutionContext, user_days: DataFrame, changes: DataFrame) -> DataFrame:
        first, last = days_of(context)
        snapshot_dates = lakehouse.stamps.snapshots("silver.user_changes", first, last)
        return performance.segment_performance(
            user_days, changes, segments.user_segments(settings.segments), snapshot_dates, first
        )

    @table_asset(tables["gold.anomalies"], partitions)
    def anomalies(
        context: dg.AssetExecutionContext, daily_metrics: DataFrame, daily_session_metrics: DataFrame
    ) -> DataFrame:
        return unusual.anomalies(daily_metrics, daily_session_metrics, *days_of(context))

    return [
        daily_metrics,
        monthly_metrics,
        lifecycle_metrics,
        l28_histogram,
        weekly_metrics,
        action_metrics,
        power_users,
        retention_weekly,
        session_metrics,
        daily_session_metrics,
        session_distribution,
        segment_metrics,
        version_performance,
        segment_performance,
        anomalies,
    ]

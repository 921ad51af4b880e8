"""Silver: valid and deduplicated interactions, what was rejected and why, users, and user days."""

from datetime import timedelta

import dagster as dg
from pyspark.sql import DataFrame

from lakehouse_assets.assets.declaration import days_of, table_asset
from lakehouse_assets.engines.engine import DIVIDED
from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.transforms import activity, cleaning, counts, lifecycle, performance, segments
from lakehouse_assets.transforms import users as users_over_time


def silver_assets(lakehouse: Lakehouse, partitions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The silver assets of a lakehouse."""
    settings, tables = lakehouse.settings, lakehouse.declared

    def classified(bronze: DataFrame) -> DataFrame:
        return cleaning.classify(
            bronze,
            allowed_actions=settings.allowed_actions,
            max_duration_ms=settings.max_duration_ms,
            late_days=settings.late_days,
            input_timezone=settings.input_timezone,
            reporting_timezone=settings.reporting_timezone,
            timestamp_formats=settings.timestamp_formats,
        )

    @table_asset(tables["silver.rejected_interactions"], partitions, ("bronze",))
    def rejected_interactions(bronze: DataFrame) -> DataFrame:
        return cleaning.rejected_interactions(classified(bronze))

    @table_asset(tables["silver.interaction_routing"], partitions, ("bronze",))
    def interaction_routing(bronze: DataFrame) -> DataFrame:
        return cleaning.routing(classified(bronze))

    @table_asset(tables["silver.interactions"], partitions, ("bronze", "routing"))
    def interactions(context: dg.AssetExecutionContext, bronze: DataFrame, routing: DataFrame) -> DataFrame:
        first, last = days_of(context)
        delivered = tables["silver.interactions"].inputs[0]
        layout = lakehouse.warehouse.layout(
            "silver.interactions",
            first,
            last,
            delivered.table,
            first + timedelta(delivered.first_offset),
            last + timedelta(delivered.last_offset),
        )
        valid = cleaning.valid_interactions(classified(bronze)).where(cleaning.in_days("event_date", first, last))
        return cleaning.deduplicate(
            lakehouse.warehouse.divide(valid, layout, "event_date", "user_id"), divided_by=DIVIDED
        )

    @table_asset(tables["silver.interaction_counts"], partitions, ("bronze", "rejected", "routing", "accepted"))
    def interaction_counts(
        context: dg.AssetExecutionContext,
        bronze: DataFrame,
        rejected: DataFrame,
        routing: DataFrame,
        accepted: DataFrame,
    ) -> DataFrame:
        return counts.interaction_counts(bronze, rejected, routing, accepted, *days_of(context))

    @table_asset(tables["silver.rejected_users"], partitions, ("bronze",))
    def rejected_users(bronze: DataFrame) -> DataFrame:
        return users_over_time.rejected_users(users_over_time.judged(bronze))

    @table_asset(tables["silver.user_counts"], partitions, ("bronze", "rejected"))
    def user_counts(context: dg.AssetExecutionContext, bronze: DataFrame, rejected: DataFrame) -> DataFrame:
        return counts.user_counts(bronze, rejected, *days_of(context))

    @table_asset(tables["silver.user_changes"], partitions, ("bronze",))
    def user_changes(context: dg.AssetExecutionContext, bronze: DataFrame) -> DataFrame:
        earlier = context.resources.iceberg.earlier(context)
        return users_over_time.user_changes(bronze, earlier, users_over_time.attributes(settings.segments))

    @table_asset(tables["silver.users"], partitions, ("changes",))
    def users(context: dg.AssetExecutionContext, changes: DataFrame) -> DataFrame:
        return users_over_time.users(changes).where(cleaning.in_days("valid_from", *days_of(context)))

    @table_asset(tables["silver.user_days"], partitions, ("interactions",))
    def user_days(context: dg.AssetExecutionContext, interactions: DataFrame) -> DataFrame:
        first, last = days_of(context)
        layout = lakehouse.warehouse.layout("silver.user_days", first, last, "silver.interactions", first, last)
        rows = activity.user_days(interactions, settings.action_columns)
        return lakehouse.warehouse.divide(rows, layout, "event_date", "user_id")

    @table_asset(tables["silver.user_version_days"], partitions, ("interactions",))
    def user_version_days(context: dg.AssetExecutionContext, interactions: DataFrame) -> DataFrame:
        first, last = days_of(context)
        layout = lakehouse.warehouse.layout("silver.user_version_days", first, last, "silver.interactions", first, last)
        rows = segments.user_version_days(interactions)
        return lakehouse.warehouse.divide(rows, layout, "event_date", "user_id")

    @table_asset(tables["silver.duration_classes"], partitions, ("interactions",))
    def duration_classes(interactions: DataFrame) -> DataFrame:
        return performance.duration_classes(interactions)

    @table_asset(tables["silver.user_first_days"], partitions, ("user_days",))
    def user_first_days(context: dg.AssetExecutionContext, user_days: DataFrame) -> DataFrame:
        return lifecycle.first_days(user_days, context.resources.iceberg.earlier(context))

    return [
        rejected_interactions,
        interaction_routing,
        interactions,
        interaction_counts,
        rejected_users,
        user_counts,
        user_changes,
        users,
        user_days,
        user_version_days,
        duration_classes,
        user_first_days,
    ]

"""The daily partitions and the job over all assets."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from lakehouse_assets.orchestration.maintenance_assets import MAINTENANCE_JOB
from lakehouse_assets.orchestration.report_assets import DASHBOARD, PROFILES_JOB, REPORTS_GROUP
from lakehouse_assets.orchestration.runs import JOB
from lakehouse_assets.planning.planner import Work
from lakehouse_assets.reports.profiles import NOT_INSTALLED, extra_is_installed
from lakehouse_assets.settings import Settings

DASHBOARD_JOB = "dashboard"


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """One partition a day in UTC, from the first that a landed row may belong to, to today.

    Where a day begins earlier than in UTC, tomorrow has one too. They follow from the settings alone, never from what
    is landed, so that a process knows every day that comes while it runs.
    """
    first = settings.start_date - timedelta(settings.late_days)
    return dg.DailyPartitionsDefinition(first.isoformat(), timezone="UTC", end_offset=1 + settings.days_ahead)


def run_tags(work: Work) -> dict[str, str]:
    """Tags of a run over a range of partitions."""
    return {
        "dagster/asset_partition_range_start": work.first.isoformat(),
        "dagster/asset_partition_range_end": work.last.isoformat(),
    }


def lakehouse_job(settings: Settings) -> dg.UnresolvedAssetJobDefinition:
    """Every table for a day or a range of days."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all() - dg.AssetSelection.groups(REPORTS_GROUP),
        description="Every table for a day, or for a range of days in one run.",
        tags={dg.MAX_RUNTIME_SECONDS_TAG: str(settings.run_timeout_seconds)},
    )


def freshness_policy(settings: Settings) -> dg.FreshnessPolicy:
    """Something is computed every day by an hour after `expected_hour`, when a day without a file has got its rows too.

    It looks at any partition: it tells that nothing runs any more. Which day is missing, the check `file_delivered`
    and `lakehouse status` tell.
    """
    deadline = (settings.expected_hour + 1) % 24
    # 23 hours, as a day may be no longer in the reporting time zone
    return dg.FreshnessPolicy.cron(f"0 {deadline} * * *", timedelta(hours=23), settings.reporting_timezone)


def dashboard_job() -> dg.UnresolvedAssetJobDefinition:
    """The job that draws the dashboard."""
    return dg.define_asset_job(
        DASHBOARD_JOB, selection=dg.AssetSelection.assets(DASHBOARD), description="Draws the dashboard."
    )


def maintenance_schedule() -> dg.ScheduleDefinition:
    """Maintenance once a week, in the night from Saturday to Sunday."""
    return dg.ScheduleDefinition(
        name="weekly_maintenance",
        job_name=MAINTENANCE_JOB,
        cron_schedule="0 3 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compacts files and expires snapshots; without it every run makes the tables' metadata longer.",
    )


def profiles_schedule() -> dg.ScheduleDefinition:
    """Profiles once a week, after the week's last day is delivered and computed."""

    @dg.schedule(
        name="weekly_profiles",
        job_name=PROFILES_JOB,
        cron_schedule="0 12 * * 1",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Weekly profiles, if the package that draws them is installed.",
    )
    def weekly_profiles() -> dg.RunRequest | dg.SkipReason:
        return dg.RunRequest() if extra_is_installed() else dg.SkipReason(NOT_INSTALLED)

    return weekly_profiles

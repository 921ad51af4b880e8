# %% [markdown]
# # Metrics cookbook: DuckDB, Polars and PyIceberg on the same tables
#
# The tables are Iceberg; no Spark is needed to read them. Each question is answered three ways, and the answers agree.
# On your own lakehouse leave out the second cell: `Lakehouse()` takes the one that `LAKEHOUSE_HOME` names.

# %%
import tempfile
from datetime import date
from pathlib import Path

import polars as pl
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThanOrEqual

from lakehouse_assets.etl import DataLakehouseETL
from lakehouse_assets.landing.deliver import split
from lakehouse_assets.settings import folder_settings
from lakehouse_assets.storage.query import connect

# %%
settings = folder_settings(
    tempfile.mkdtemp(prefix="lakehouse-"),
    tables=("gold.daily_metrics", "gold.daily_session_metrics"),
    driver_memory="1g",
)
etl = DataLakehouseETL(settings)
landed = split(
    etl.lakehouse.zone,
    Path.cwd().parent / "data" / "interactions_sample.csv",
    {},
    input_zone=settings.input_zone,
    reporting_zone=settings.reporting_zone,
)
etl.process_date_range(min(landed.rows), max(landed.rows))
lakehouse = etl.lakehouse

# %% [markdown]
# ## Three doors
#
# - **DuckDB**: SQL over all tables, read only; what `lakehouse sql` uses.
# - **PyIceberg**: the table itself, with snapshots, statistics and scans that read only the files they need.
# - **Polars**: lazy frames over the same table.

# %%
duck = connect(lakehouse.catalog)
iceberg = lakehouse.catalog.iceberg
metrics = iceberg.load_table("gold.daily_metrics")


def duckdb(question: str, *values: object) -> pl.DataFrame:
    return pl.from_arrow(duck.sql(question, params=list(values)).to_arrow_table())


def polars(name: str) -> pl.LazyFrame:
    return pl.scan_iceberg(iceberg.load_table(name))


# %% [markdown]
# ## The week of 2 January: users a day, and how sticky they are

# %%
FIRST, LAST = date(2023, 1, 2), date(2023, 1, 8)
in_duckdb = duckdb(
    "select date, daily_active_users, stickiness from gold.daily_metrics where date between ? and ? order by date",
    FIRST,
    LAST,
)
in_polars = (
    polars("gold.daily_metrics")
    .filter(pl.col("date").is_between(FIRST, LAST))
    .select("date", "daily_active_users", "stickiness")
    .sort("date")
    .collect()
)
week = And(GreaterThanOrEqual("date", FIRST.isoformat()), LessThanOrEqual("date", LAST.isoformat()))
in_pyiceberg = pl.from_arrow(
    metrics.scan(row_filter=week, selected_fields=("date", "daily_active_users", "stickiness"))
    .to_arrow()
    .sort_by("date")
)
assert in_duckdb.equals(in_polars)
assert in_polars.equals(in_pyiceberg)
in_polars

# %% [markdown]
# ## Growth on the week before

# %%
growth_in_duckdb = duckdb("""
    select date, weekly_active_users - lag(weekly_active_users, 7) over (order by date) as growth
    from gold.daily_metrics qualify growth is not null order by date
""")
growth_in_polars = (
    polars("gold.daily_metrics")
    .sort("date")
    .select("date", growth=pl.col("weekly_active_users").diff(7))
    .drop_nulls()
    .collect()
)
assert growth_in_duckdb.equals(growth_in_polars)
growth_in_polars

# %% [markdown]
# ## Actions a user, and sessions a user: two tables together

# %%
together_in_duckdb = duckdb("""
    select date, total_actions / daily_active_users as actions, sessions / daily_active_users as sessions_a_user
    from gold.daily_metrics join gold.daily_session_metrics using (date) order by date
""")
together_in_polars = (
    polars("gold.daily_metrics")
    .join(polars("gold.daily_session_metrics"), on="date")
    .sort("date")
    .select(
        "date",
        actions=pl.col("total_actions") / pl.col("daily_active_users"),
        sessions_a_user=pl.col("sessions") / pl.col("daily_active_users"),
    )
    .collect()
)
assert together_in_duckdb.equals(together_in_polars)
together_in_polars

# %% [markdown]
# ## Exact distinct users of any range
#
# `silver.user_days` has a row per user and day, so any window is a distinct count over few rows.

# %%
distinct = "select count(distinct user_id) from silver.user_days where event_date between ? and ?"
exact = duckdb(distinct, FIRST, LAST).item()
lazily = (
    polars("silver.user_days")
    .filter(pl.col("event_date").is_between(FIRST, LAST))
    .select(pl.col("user_id").n_unique())
    .collect()
    .item()
)
rolling = metrics.scan(row_filter=f"date == '{LAST}'").to_arrow()["weekly_active_users"][0].as_py()
assert exact == lazily == rolling
exact

# %% [markdown]
# ## What only PyIceberg knows: files, snapshots, an earlier state

# %%
pl.from_arrow(metrics.inspect.files()).select("file_path", "record_count", "file_size_in_bytes").with_columns(
    pl.col("file_path").str.split("/").list.last()
)

# %%
pl.from_arrow(metrics.inspect.snapshots()).select("committed_at", "operation", "snapshot_id")

# %%
first_snapshot = metrics.inspect.snapshots()["snapshot_id"][0].as_py()
before = metrics.scan(snapshot_id=first_snapshot).to_arrow()
print(f"rows in the first snapshot {before.num_rows}, now {metrics.scan().to_arrow().num_rows}")
assert before.num_rows == 0

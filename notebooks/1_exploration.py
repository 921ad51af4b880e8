# %% [markdown]
# # Exploration: from a log to figures, and what is in it
#
# The sample log of `data/` goes into a lakehouse in a temporary folder; then we look around with SQL. Nothing here
# needs more than `make setup`.

# %%
import tempfile
from pathlib import Path

import vl_convert
from IPython.display import SVG

from lakehouse_assets.etl import DataLakehouseETL
from lakehouse_assets.landing.deliver import deliver, split
from lakehouse_assets.reports.charts import spec
from lakehouse_assets.settings import folder_settings
from lakehouse_assets.storage.query import connect

DATA = Path.cwd().parent / "data"
HOME = Path(tempfile.mkdtemp(prefix="lakehouse-"))
TABLES = ("silver.rejected_interactions", "silver.interaction_counts", "gold.daily_metrics", "gold.action_metrics")
settings = folder_settings(HOME, tables=TABLES, driver_memory="1g")
etl = DataLakehouseETL(settings)

# %% [markdown]
# ## Landing
#
# A file is split by the day of its events. Each day becomes a folder, as if it had been delivered day by day.

# %%
zone = etl.lakehouse.zone
landed = split(
    zone, DATA / "interactions_sample.csv", {}, input_zone=settings.input_zone, reporting_zone=settings.reporting_zone
)
deliver(zone, "users", DATA / "users_sample.csv", min(landed.rows), {})
days = sorted(landed.rows)
print(f"{sum(landed.rows.values()):,} rows over {len(days)} days, {days[0]} … {days[-1]}")

# %% [markdown]
# ## Computing
#
# One run for the range. Every table is a Dagster asset; here Dagster runs in this process.

# %%
etl.process_date_range(days[0], days[-1])

# %% [markdown]
# ## What became of the rows
#
# Nothing is dropped: a row is accepted, a duplicate, or rejected with one reason.

# %%
lake = connect(etl.lakehouse.catalog)
lake.sql("""
    select date, delivered_rows, rejected_rows, arrived_rows, accepted_rows, duplicate_rows
    from silver.interaction_counts order by date
""")

# %%
rejected = lake.sql("select reason, count(*) as rows from silver.rejected_interactions group by all order by rows desc")
rejected

# %% [markdown]
# Each as it was delivered:

# %%
lake.sql("""
    select reason, user_id, timestamp, action_type, duration_ms, malformed_row from silver.rejected_interactions
    qualify row_number() over (partition by reason order by source_file) = 1 order by reason
""")

# %% [markdown]
# ## Who is active
#
# Daily, weekly and monthly active users are exact, and rolling: the week of a day is the seven days that end on it.

# %%
lake.sql("""
    select date, daily_active_users as dau, weekly_active_users as wau, monthly_active_users_30d as mau,
           round(stickiness, 3) as stickiness
    from gold.daily_metrics order by date
""")

# %%
[chart, *_] = etl.lakehouse.tables["gold.daily_metrics"].charts
rows = [{"day": str(day), "series": series, "value": value} for day, series, value in lake.sql(chart.sql).fetchall()]
drawn = spec(chart, list(dict.fromkeys(row["series"] for row in rows)))
drawn |= {"data": {"values": rows}, "width": 560, "background": "white"}
SVG(vl_convert.vegalite_to_svg(drawn))

# %% [markdown]
# ## What do they do?

# %%
lake.sql("""
    select action_type, sum(actions) as actions, max(users) as most_users_a_day
    from gold.action_metrics group by all order by actions desc
""")

# %% [markdown]
# The sample file says in `data/README.md` what is planted in it. It is all found:

# %%
found = dict(rejected.fetchall())
assert found["malformed_row"] == found["missing_user_id"] == found["bad_timestamp"] == 4, found
assert (found["unknown_action"], found["bad_duration"], found["negative_duration"]) == (3, 5, 2), found
found

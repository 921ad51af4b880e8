# %% [markdown]
# # Step by step: what happens to ten rows
#
# A table's function goes from frames to a frame: no storage, no Dagster. So each step can be looked at alone.

# %%
import tempfile
from datetime import date

from pyspark.sql import functions as F

from lakehouse_assets.assets.gold.daily_metrics import daily_metrics
from lakehouse_assets.assets.gold.session_metrics import session_metrics
from lakehouse_assets.assets.silver.cleaning import classify
from lakehouse_assets.assets.silver.interaction_counts import interaction_counts
from lakehouse_assets.assets.silver.interaction_routing import interaction_routing
from lakehouse_assets.assets.silver.interactions import deduplicate, valid_interactions
from lakehouse_assets.assets.silver.rejected_interactions import rejected_interactions
from lakehouse_assets.assets.silver.user_days import user_days
from lakehouse_assets.calendar import Days
from lakehouse_assets.engines.spark import start_spark
from lakehouse_assets.settings import folder_settings

settings = folder_settings(tempfile.mkdtemp(prefix="lakehouse-"), driver_memory="1g")
spark = start_spark(settings)

# %% [markdown]
# ## Bronze: rows as delivered
#
# All text, as it stood in the file. The last row did not fit the header and is kept whole.

# %%
DELIVERED = [
    ("2024-03-01", "ann", "2024-03-01 09:00:00", "page_view", "home", "1200", "2.1", None),
    ("2024-03-01", "ann", "2024-03-01 09:20:00", "edit", "doc", "30000", "2.1", None),
    ("2024-03-01", "ann", "2024-03-01 09:20:00", "edit", "doc", "31000", "2.1", None),  # the same again
    ("2024-03-01", "ann", "2024-03-01 10:30:00", "share", "doc", "800", "2.1", None),  # after a long silence
    ("2024-03-01", "bob", "2024-03-01T23:59:59Z", "page_view", "home", "900", "2.0", None),
    ("2024-03-02", "bob", "2024-03-02 00:00:05", "edit", "doc", "5000", "2.0", None),  # a new day, a new session
    ("2024-03-02", "cem", "2024-03-01 12:00:00", "create", "", "0", "", None),  # a day late
    ("2024-03-02", "dee", "2024-03-02 08:00:00", "fly", "home", "100", "2.1", None),  # no such action
    ("2024-03-02", "", "2024-03-02 08:00:00", "edit", "doc", "100", "2.1", None),  # nobody
    ("2024-03-02", None, None, None, None, None, None, "ann,2024-03-02 09:00"),  # cut
]
COLUMNS = (
    "landing_date",
    "user_id",
    "timestamp",
    "action_type",
    "page_id",
    "duration_ms",
    "app_version",
    "malformed_row",
)
schema = ", ".join(f"{name} string" for name in COLUMNS)
bronze = spark.createDataFrame(DELIVERED, schema).withColumn("landing_date", F.to_date("landing_date"))
bronze.toPandas()

# %% [markdown]
# ## Classify: one reason, or none
#
# Each row gets its event date and duration, or the first reason that holds against it.

# %%
classified = classify(bronze, settings.cleaning).cache()
classified.select("landing_date", "event_date", "user_id", "action_type", "duration", "reason").toPandas()

# %% [markdown]
# ## Route: where did the rows of a landing date go?

# %%
routing = interaction_routing(bronze, settings.cleaning)
routing.orderBy("landing_date", "event_date", "reason").toPandas()

# %% [markdown]
# ## Valid rows, and one of each
#
# Two rows are the same if user, instant, action and page are. The survivor is decided by content, not by order.

# %%
interactions = deduplicate(valid_interactions(classified))
interactions.orderBy("event_date", "timestamp").toPandas()

# %% [markdown]
# ## Does it add up?
#
# Delivered = rejected + routed; arrived = accepted + duplicates. This is checked for every day before it is published.

# %%
days = Days(date(2024, 3, 1), date(2024, 3, 2))
rejected = rejected_interactions(bronze, settings.cleaning)
reconciled = interaction_counts(bronze, rejected, routing, interactions, days).orderBy("date").toPandas()
assert (reconciled.delivered_rows == reconciled.rejected_rows + reconciled.routed_rows).all()
assert (reconciled.arrived_rows == reconciled.accepted_rows + reconciled.duplicate_rows).all()
reconciled

# %% [markdown]
# ## Sessions
#
# Silence of 30 minutes or midnight ends one.

# %%
found = (
    session_metrics(interactions, settings.allowed_actions, settings.session_gap_seconds)
    .orderBy("session_id")
    .toPandas()
)
assert list(found.session_id) == [
    "ann_20240301_0",
    "ann_20240301_1",
    "bob_20240301_0",
    "bob_20240302_0",
    "cem_20240301_0",
]
found[["session_id", "session_start_time", "actions_per_session", "session_duration_ms", "session_span_ms"]]

# %% [markdown]
# ## A row a user and day, and the metrics from it

# %%
active = user_days(interactions, settings.allowed_actions)
active.orderBy("event_date", "user_id").toPandas()

# %%
metrics = daily_metrics(active, days).orderBy("date").toPandas()
assert list(metrics.daily_active_users) == [3, 1]
assert list(metrics.weekly_active_users) == [3, 3]
metrics

# %% [markdown]
# That is all: above each of these functions, in its file under `lakehouse_assets/assets`, stands the declaration of its
# table, and `lakehouse_assets/storage/warehouse.py` publishes what it returns.

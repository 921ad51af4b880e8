# %% [markdown]
# # Optimisation: what Spark does, and what it costs
#
# Five choices, each made both ways on the same rows: join strategy, skew, caching, pruning, small files. Beside each
# the plan, and what Spark wrote into its event log: stages, their time, bytes shuffled, rows read. Times are of the
# machine that ran this; what is asserted is what must hold on every machine.

# %%
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path

import pandas as pd

FOLDER = Path(tempfile.mkdtemp(prefix="lakehouse-"))
LOG = FOLDER / "events"
LOG.mkdir()
EVENT_LOG = {"enabled": "true", "dir": LOG.as_uri(), "rolling.enabled": "false", "compress": "false"}
os.environ["PYSPARK_SUBMIT_ARGS"] = (
    " ".join(f"--conf spark.eventLog.{k}={v}" for k, v in EVENT_LOG.items()) + " pyspark-shell"
)

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.engines.spark import start_spark
from lakehouse_assets.settings import folder_settings

spark = start_spark(folder_settings(FOLDER, driver_memory="2g"))
ROWS, USERS, DAYS = 2_000_000, 20_000, 60


# %% [markdown]
# Two helpers: the lines of a plan that matter, and a run with its stages out of the event log.


# %%
def plan(frame: DataFrame, *words: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as told:
        frame.explain("simple")
    return [line.strip(" +-:") for line in told.getvalue().splitlines() if any(word in line for word in words)]


measured = []


def run(label: str, frame: DataFrame) -> None:
    """Compute a frame to nowhere, and note what it cost."""
    began = time.time()
    frame.write.format("noop").mode("overwrite").save()
    ended = time.time()
    time.sleep(1)  # the event log is written beside
    events = [json.loads(line) for path in LOG.glob("*") if path.is_file() for line in path.open()]
    stages = [e["Stage Info"] for e in events if e["Event"] == "SparkListenerStageCompleted"]
    stages = [s for s in stages if began * 1000 - 1 <= s["Submission Time"] <= ended * 1000 + 500]
    ids = {s["Stage ID"] for s in stages}
    tasks = [e for e in events if e["Event"] == "SparkListenerTaskEnd" and e["Stage ID"] in ids]
    took = [t["Task Info"]["Finish Time"] - t["Task Info"]["Launch Time"] for t in tasks]
    written = [t["Task Metrics"]["Shuffle Write Metrics"]["Shuffle Bytes Written"] for t in tasks]
    measured.append(
        {
            "run": label,
            "seconds": round(ended - began, 2),
            "stages": len(stages),
            "tasks": len(tasks),
            "longest stage s": max(s["Completion Time"] - s["Submission Time"] for s in stages) / 1000,
            "longest task s": max(took) / 1000,
            "MB shuffled": round(sum(written) / 1e6, 1),
            "rows read": sum(t["Task Metrics"]["Input Metrics"]["Records Read"] for t in tasks),
        }
    )


def compare(*labels: str) -> pd.DataFrame:
    return pd.DataFrame([row for row in measured if row["run"] in labels]).set_index("run")


# %% [markdown]
# The rows: interactions of 60 days, one file a day, and users.

# %%
events = spark.range(ROWS).select(
    (F.xxhash64("id") % USERS).alias("user_id"),
    F.date_add(F.lit("2024-01-01").cast("date"), (F.col("id") % DAYS).cast("int")).alias("event_date"),
    (F.pmod(F.xxhash64("id", F.lit(7)), F.lit(60_000))).alias("duration_ms"),
    F.concat(F.lit("page-"), F.pmod(F.xxhash64("id", F.lit(3)), F.lit(5000))).alias("page_id"),
)
users = spark.range(-USERS, USERS).select(
    F.col("id").alias("user_id"), F.concat(F.lit("country-"), F.abs("id") % 30).alias("country")
)
events.repartition(4, "event_date").write.partitionBy("event_date").parquet(f"{FOLDER}/events_by_day")
users.coalesce(1).write.parquet(f"{FOLDER}/users")
events = spark.read.parquet(f"{FOLDER}/events_by_day")
users = spark.read.parquet(f"{FOLDER}/users")
run("warm up", events.join(users, "user_id").groupBy("country").count())

# %% [markdown]
# ## 1. Broadcast against sort-merge
#
# Joining with a small table, Spark can send it to every task (broadcast), or shuffle and sort both sides by the key.


# %%
def by_country() -> DataFrame:
    return events.join(users, "user_id").groupBy("country").agg(F.sum("duration_ms"))


spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
print(plan(by_country(), "Join", "Exchange"))
assert any("SortMergeJoin" in line for line in plan(by_country(), "Join"))
run("sort-merge", by_country())
spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "10MB")
print(plan(by_country(), "Join", "Exchange"))
assert any("BroadcastHashJoin" in line for line in plan(by_country(), "Join"))
run("broadcast", by_country())
join = compare("sort-merge", "broadcast")
assert join.loc["broadcast", "MB shuffled"] < join.loc["sort-merge", "MB shuffled"]
join

# %% [markdown]
# The lakehouse joins rarely: rolling counts are one shuffle by user instead. Where it joins with users it leaves the
# choice to Spark, which knows the sizes.

# %% [markdown]
# ## 2. Skew
#
# One user has 40 % of the rows. By user alone one task gets them all. Adaptive execution can split such a partition of
# a join; the lakehouse divides by user *and day*, so that no group is larger than a user's day.

# %%
skewed = events.withColumn("user_id", F.when(F.rand(1) < 0.4, F.lit(1)).otherwise(F.col("user_id")))
spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
spark.conf.set("spark.sql.shuffle.partitions", "8")


def joined() -> DataFrame:
    return skewed.join(users, "user_id").select("country", F.sha2("page_id", 512).alias("digest"))


spark.conf.set("spark.sql.adaptive.skewJoin.enabled", "false")
run("skew, one task", joined())
spark.conf.set("spark.sql.adaptive.skewJoin.enabled", "true")
spark.conf.set("spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes", "1MB")
spark.conf.set("spark.sql.adaptive.skewJoin.skewedPartitionFactor", "2")
spark.conf.set("spark.sql.adaptive.advisoryPartitionSizeInBytes", "1MB")
run("skew, split by AQE", joined())
skew = compare("skew, one task", "skew, split by AQE")
assert skew.loc["skew, split by AQE", "tasks"] > skew.loc["skew, one task", "tasks"]
for name in (
    "autoBroadcastJoinThreshold",
    "adaptive.skewJoin.skewedPartitionThresholdInBytes",
    "adaptive.skewJoin.skewedPartitionFactor",
    "adaptive.advisoryPartitionSizeInBytes",
):
    spark.conf.unset(f"spark.sql.{name}")
skew

# %%
run("by user", skewed.repartition(8, "user_id").sortWithinPartitions("user_id", "event_date"))
run("by user and day", skewed.repartition(8, "user_id", "event_date").sortWithinPartitions("user_id", "event_date"))
compare("by user", "by user and day")

# %% [markdown]
# ## 3. Caching
#
# A frame that is used three times is computed three times, unless it is kept. Keeping costs memory and a pass, so it
# pays only for what is expensive and used again.


# %%
def daily() -> DataFrame:
    return events.groupBy("event_date", "user_id").agg(F.sum("duration_ms").alias("ms"), F.count("*").alias("n"))


def thrice(frame: DataFrame) -> DataFrame:
    often, long = frame.where("n > 1"), frame.where("ms > 60000")
    parts = [part.groupBy("event_date").count() for part in (frame, often, long)]
    return parts[0].unionByName(parts[1]).unionByName(parts[2])


run("three times", thrice(daily()))
kept = daily().persist()
run("kept: filling it", kept)
run("kept: three times", thrice(kept))
kept.unpersist()
caching = compare("three times", "kept: filling it", "kept: three times")
assert caching.loc["kept: three times", "MB shuffled"] < caching.loc["three times", "MB shuffled"]
caching

# %% [markdown]
# ## 4. Pruning
#
# A day out of sixty: by the folder's name (or in Iceberg by the file's statistics) Spark reads that day's files alone,
# and of them only the columns asked for.

# %%
day = F.col("event_date") == F.lit("2024-02-01").cast("date")
one_day = events.where(day).select("user_id", "event_date")
print(plan(one_day, "FileScan", "PartitionFilters"))
# the same day, said so that neither folders nor statistics can tell: it hangs on a column inside the files
hidden = events.where(
    F.date_add("event_date", (F.col("duration_ms") * 0).cast("int")) == F.lit("2024-02-01").cast("date")
)
hidden = hidden.select("user_id", "event_date")
run("every day read", hidden)
run("one day read", one_day)
pruning = compare("every day read", "one day read")
assert pruning.loc["one day read", "rows read"] < pruning.loc["every day read", "rows read"] / 30
assert hidden.count() == one_day.count()
pruning

# %% [markdown]
# ## 5. Small files
#
# The same rows in 600 files and in 4. Every file costs an open, a footer, and a share of a task.

# %%
flat = events.select("user_id", "duration_ms")
flat.repartition(600).write.parquet(f"{FOLDER}/many")
flat.repartition(4).write.parquet(f"{FOLDER}/few")
run("600 files", spark.read.parquet(f"{FOLDER}/many").groupBy("user_id").sum("duration_ms"))
run("4 files", spark.read.parquet(f"{FOLDER}/few").groupBy("user_id").sum("duration_ms"))
small = compare("600 files", "4 files")
assert small.loc["600 files", "rows read"] == small.loc["4 files", "rows read"] == ROWS
assert small.loc["600 files", "tasks"] > small.loc["4 files", "tasks"]
small

# %% [markdown]
# So tables with few rows a day are stored by month, consecutive small days share a file, and `lakehouse maintain` puts
# together what is left. All that was measured here:

# %%
compare(*(row["run"] for row in measured))

# %%
spark.stop()

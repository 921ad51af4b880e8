"""Further delivered columns of valid, deduplicated interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_assets.assets.columns import Column as Declared
from lakehouse_assets.assets.columns import day, instant, text
from lakehouse_assets.assets.frames import division, in_days
from lakehouse_assets.assets.silver.cleaning import classify
from lakehouse_assets.assets.silver.interactions import DUPLICATE_KEY, survivor_text, valid_interactions
from lakehouse_assets.assets.table import NO_DUPLICATE_KEY, Divide, Input, table_asset, undivided
from lakehouse_assets.calendar import Days
from lakehouse_assets.settings import Cleaning, Settings

_AFTER_VERSIONS = "\x01"  # sorts before all that a value may hold, so that a longer version stays behind a shorter one


def _columns(settings: Settings) -> Mapping[str, Declared]:
    return {
        "event_date": day("Calendar day of the event in the reporting time zone."),
        "user_id": text("User, trimmed."),
        "timestamp": instant("Instant of the event."),
        "action_type": text("What the user did."),
        "page_id": text("Page; null where none was delivered.", nullable=True),
        **{
            name: text(f"`{name}` of the event; null where none was delivered.", nullable=True)
            for name in settings.extra_columns
        },
    }


@table_asset(
    "silver.interaction_extras",
    description="The columns that `extra_columns` names, of every row of silver.interactions.",
    columns=_columns,
    partition_column="event_date",
    reads=lambda settings: {
        "bronze": Input("bronze.interactions", -settings.days_ahead, settings.late_days),
        "routing": Input("silver.interaction_routing", -settings.days_ahead, settings.late_days),
    },
    key=("event_date", *DUPLICATE_KEY),
    checks=(NO_DUPLICATE_KEY,),
    only_with="extra_columns",
    version=2,
)
def interaction_extras(
    bronze: DataFrame,
    days: Days,
    cleaning: Cleaning,
    extra_columns: Sequence[str],
    map_interactions: Mapping[str, str],
    divide: Divide = undivided,
) -> DataFrame:
    """The extra columns of the rows that silver.interactions has, by its key.

    Of duplicates it is the row that silver.interactions keeps; of several such rows the smallest by these columns.

    Args:
        bronze: delivered rows of all landing dates that may hold rows of the days.
        days: event dates wanted.
        cleaning: which rows count.
        extra_columns: their names, keys of bronze's extra_columns.
        map_interactions: leads to values that were landed before a name was an extra column.
        divide: divides the rows among write tasks.
    """
    classified = classify(bronze, cleaning)
    named = classified.withColumns(
        {_given(name): _value(name, map_interactions.get(name, name)) for name in extra_columns}
    )
    valid = valid_interactions(named, [_given(name) for name in extra_columns])
    rows = divide(valid.where(in_days("event_date", *days)), "event_date", "user_id", DUPLICATE_KEY)
    divided_by = division(rows)
    values = [F.coalesce(F.concat(F.lit("1"), _given(name)), F.lit("0")) for name in extra_columns]
    order = F.concat_ws(_AFTER_VERSIONS, survivor_text(), *values)
    first = F.min_by(F.struct(*[F.col(_given(name)).alias(name) for name in extra_columns]), order).alias("_first")
    kept = rows.groupBy(*divided_by, "event_date", *DUPLICATE_KEY).agg(first)
    return kept.select(*divided_by, "event_date", *DUPLICATE_KEY, "_first.*")


def _given(name: str) -> str:
    return f"_extra_{name}"


def _value(name: str, path: str) -> Column:
    """The value under its name, else at the path that the map has for it; null where it is empty."""
    found = [F.get_json_object("extra_columns", f"$.{place}") for place in dict.fromkeys((name, path)) if _plain(place)]
    return F.nullif(F.trim(F.coalesce(*found), F.lit(" \t")), F.lit(""))


def _plain(path: str) -> bool:
    return all(part.replace("_", "").isalnum() for part in path.split("."))

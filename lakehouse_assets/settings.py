"""Every knob of the lakehouse, typed, read from the environment in this one place."""

from __future__ import annotations

import re
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

EARLIEST_LANDING_DATE = date(2000, 1, 1)


class SettingsError(ValueError):
    """A setting has a value the lakehouse can't work with; the message names the variable."""


class Settings(BaseSettings):
    """Settings of one lakehouse; each field's variable is ``LAKEHOUSE_<FIELD>`` unless an alias says otherwise."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", populate_by_name=True, extra="ignore", frozen=True)

    home: Path = Field(Path(".lakehouse"), description="Folder that everything the lakehouse writes lives in.")
    warehouse: str = Field(
        "", description="Where the tables are: a folder or `s3://bucket/prefix`; default `HOME/warehouse`."
    )
    landing: str = Field(
        "", description="Where files are delivered: a folder or `s3://bucket/prefix`; default `HOME/landing`."
    )
    catalog_uri: str = Field(
        "", description="`http(s)://` address of an Iceberg REST catalog; default an SQLite catalog in HOME."
    )
    catalog_name: str = Field("", description="What the REST catalog calls this lakehouse's catalog, if it has many.")
    catalog_credential: SecretStr = Field(
        SecretStr(""), description="`client:secret` for the REST catalog; default none is asked for."
    )
    start_date: date | None = Field(
        None, description="First daily partition; default the first landed date (2000-01-01 at the earliest)."
    )
    tables: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated tables to keep, with all they are computed from; default every table."
    )
    success_marker: bool = Field(
        False, description="Whether a landing date is complete only once its folder holds a file `_SUCCESS`."
    )
    expected_hour: int = Field(
        6,
        ge=0,
        le=23,
        description="Hour (reporting time zone) by which yesterday's file should be there; without it the day warns.",
    )
    webhook_url: SecretStr = Field(
        SecretStr(""), description="`https://` address that gets a JSON message when a run has failed."
    )
    late_days: int = Field(3, ge=0, le=60, description="How many days after its day an event may still be delivered.")
    allowed_actions: Annotated[tuple[str, ...], NoDecode] = Field(
        ("page_view", "edit", "create", "delete", "share"),
        description="Comma-separated action types; any other is rejected as `unknown_action`.",
    )
    max_duration_ms: int = Field(7_200_000, gt=0, description="Longest valid duration in ms, itself included (2 h).")
    session_gap_seconds: int = Field(1800, gt=0, description="Silence in seconds that starts a new session (30 min).")
    input_timezone: str = Field("UTC", description="Time zone of timestamps delivered without an offset.")
    reporting_timezone: str = Field("UTC", description="Time zone whose calendar days the metrics use.")
    driver_memory: str = Field("4g", pattern=r"^\d+[gm]$", description="Heap of the embedded Spark, such as `4g`.")
    rows_per_file: int = Field(
        1_000_000, ge=1000, description="Rows a data file aims at; consecutive small days share one file up to it."
    )
    snapshot_days: int = Field(
        7, ge=1, description="Days that a table's earlier snapshots stay readable; longer than any run or query takes."
    )
    abandoned_hours: int = Field(
        24, ge=24, description="Hours after which what a run staged and never published counts as abandoned."
    )
    retention_days: int | None = Field(
        None, ge=1, description="Days before the newest one that the scheduled cleanup keeps; default all of them."
    )
    lock_timeout_seconds: int = Field(60, ge=1, description="How long a commit waits for a locked catalog, in seconds.")
    s3_endpoint: str = Field("", validation_alias="S3_ENDPOINT", description="S3 endpoint when it is not AWS's own.")
    s3_region: str = Field("us-east-1", validation_alias="S3_REGION", description="Region the S3 client signs for.")
    dagster_postgres_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DAGSTER_POSTGRES_URL",
        description="`postgresql://…` of the database of Dagster's records; default SQLite in HOME.",
    )
    spark_remote: str = Field(
        "",
        validation_alias="SPARK_REMOTE",
        description="`sc://host:port` of a Spark Connect server instead of the embedded Spark.",
    )

    @field_validator("allowed_actions", "tables", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_actions")
    @classmethod
    def _usable_as_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        columns = [action_column(action) for action in value]
        if not value or len(set(columns)) != len(columns):
            raise ValueError("needs at least one action type, and no two that differ only in case or punctuation")
        return value

    @field_validator("input_timezone", "reporting_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone such as `Europe/Berlin`")
        return value

    @field_validator("warehouse", "landing")
    @classmethod
    def _names_a_place(cls, value: str) -> str:
        if "://" in value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?", value):
            raise ValueError("needs a folder, or an address such as s3://bucket/prefix")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _web_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not re.match(r"https?://[^/\s]", value.get_secret_value()):
            raise ValueError("needs an address that begins with https:// or http://")
        return value

    @cached_property
    def action_columns(self) -> dict[str, str]:
        """For each allowed action the ``silver.user_days`` column that counts it."""
        return {action: action_column(action) for action in self.allowed_actions}

    @cached_property
    def home_path(self) -> Path:
        """HOME as an absolute path."""
        return self.home.expanduser().resolve()

    @cached_property
    def landing_uri(self) -> str:
        """The landing zone: an absolute local path or an ``s3://`` address, without a trailing slash."""
        return self._folder_or_bucket(self.landing, "landing")

    @cached_property
    def warehouse_uri(self) -> str:
        """The warehouse: an absolute local path or an ``s3://`` address, without a trailing slash."""
        return self._folder_or_bucket(self.warehouse, "warehouse")

    def _folder_or_bucket(self, given: str, default: str) -> str:
        if given.startswith("s3://"):
            return given.rstrip("/")
        return str(Path(given).expanduser().resolve() if given else self.home_path / default)

    @cached_property
    def dagster_path(self) -> Path:
        """Dagster's instance folder of this lakehouse."""
        return self.home_path / "dagster"

    @cached_property
    def dashboard_path(self) -> Path:
        """The dashboard's page."""
        return self.home_path / "dashboard.html"

    @cached_property
    def input_zone(self) -> ZoneInfo:
        """Zone of timestamps without an offset."""
        return ZoneInfo(self.input_timezone)

    @cached_property
    def reporting_zone(self) -> ZoneInfo:
        """Zone whose days are counted."""
        return ZoneInfo(self.reporting_timezone)


def action_column(action: str) -> str:
    """Name of the ``silver.user_days`` column that counts ``action``: ``page_view`` -> ``page_view_actions``."""
    return re.sub(r"[^a-z0-9]+", "_", action.lower()).strip("_") + "_actions"


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: one sentence naming the variable whose value is wrong.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        variable = field if field.isupper() else f"LAKEHOUSE_{field.upper()}"
        secret = Settings.model_fields.get(field, Settings.model_fields["home"]).annotation is SecretStr
        given = variable if secret else f"{variable}={first['input']!r}"
        raise SettingsError(f"{given} can't be used: {first['msg']}.") from None

"""All settings of the lakehouse, typed; the one place that reads the environment and the settings file."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.timestamps import formats_of

SETTINGS_FILE = "lakehouse.toml"

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", date: "a date such as 2024-03-01,"}

EARLIEST_LANDING_DATE = date(2000, 1, 1)
_YEARS = range(EARLIEST_LANDING_DATE.year, 2038)  # those whose clock changes time zones list one by one
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KNOWN_SEGMENTS = ("country", "device_type", "subscription_type", "join_date", "app_version")
_NO_SEGMENTS = (
    "user_id",
    "delivery_date",
    "valid_from",
    "valid_to",
    "is_current",
)  # beside them in tables


_NO_EXTRAS = (
    "user_id",
    "timestamp",
    "action_type",
    "page_id",
    "duration_ms",
    "app_version",
    "event_date",
    "date",
    "country",
    "device_type",
    "subscription_type",
    "join_date",
)  # columns of interactions and of users


_NO_ZONES = {"Factory", "localtime", "posixrules"}  # in the database of zones, and none that engines know


class SettingsError(LakehouseError):
    """A setting has a value the lakehouse can't work with; the message names the variable."""


class Cleaning(NamedTuple):
    """The settings that decide which delivered interactions count; each is described at the setting of its name.

    Attributes:
        allowed_actions: action types that count.
        max_duration_ms: longest valid duration, itself included, in ms.
        late_days: days after its event date that a row may still be delivered.
        input_timezone: zone of timestamps without an offset.
        reporting_timezone: zone whose calendar days are event dates.
        timestamp_formats: further formats of timestamps.
    """

    allowed_actions: Sequence[str]
    max_duration_ms: int
    late_days: int
    input_timezone: str = "UTC"
    reporting_timezone: str = "UTC"
    timestamp_formats: Sequence[str] = ()


# settings that tables take together, under one name
GROUPS: Mapping[str, type[Cleaning]] = {"cleaning": Cleaning}


class Settings(BaseSettings):
    """Settings of one lakehouse.

    Each field's variable is ``LAKEHOUSE_<FIELD>`` unless an alias says otherwise; a variable has precedence over the
    settings file (`settings_file`), where the field's own name is the key, and the file over the default.
    """

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", populate_by_name=True, extra="ignore", frozen=True)

    home: Path = Field(Path(".lakehouse"), description="Folder for everything that the lakehouse writes.")
    warehouse: str = Field(
        "", description="Where the tables are: a folder or `s3://bucket/prefix`; default `HOME/warehouse`."
    )
    landing: str = Field(
        "",
        examples=["landing"],
        description="Where files are delivered: a folder or `s3://bucket/prefix`; default `HOME/landing`.",
    )
    catalog_uri: str = Field(
        "", description="`http(s)://` address of an Iceberg REST catalog; default an SQLite catalog in HOME."
    )
    catalog_name: str = Field(
        "", description="Name of this lakehouse's catalog in the REST catalog, if it has several."
    )
    catalog_credential: SecretStr = Field(
        SecretStr(""), description="`client:secret` for the REST catalog; default no login."
    )
    start_date: date = Field(
        EARLIEST_LANDING_DATE,
        ge=EARLIEST_LANDING_DATE,
        description="First landing date that is read. Dagster's partitions begin `late_days` before it.",
    )
    tables: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Tables to compute, with those that they read; default every table."
    )
    table_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Your Python modules that declare further tables (docs/add-a-table.md)."
    )
    success_marker: bool = Field(
        False, description="With true, a landing date is read only once its folder holds a file `_SUCCESS`."
    )
    expected_hour: int = Field(
        6,
        ge=0,
        le=23,
        description="Hour, in the reporting time zone, by which yesterday's file should be there; else the day gets a "
        "warning.",
    )
    run_timeout_hours: float = Field(
        12, gt=0, description="Hours after which Dagster ends a run. Choose more than your longest backfill takes."
    )
    webhook_url: SecretStr = Field(
        SecretStr(""),
        description="`https://` address that gets a JSON message when a run fails or a sensor can't do its work.",
    )
    map_interactions: Annotated[Mapping[str, str], NoDecode] = Field(
        {},
        examples=[{"user_id": "visitor", "timestamp": "time"}],
        description="Where `lakehouse land` finds our columns in your files of interactions: ours = theirs.",
    )
    map_users: Annotated[Mapping[str, str], NoDecode] = Field(
        {}, examples=[{"user_id": "id"}], description="Where it finds our columns in your files of users."
    )
    late_days: int = Field(3, ge=0, le=60, description="Days after its event date that a row may still be delivered.")
    allowed_actions: Annotated[tuple[str, ...], NoDecode] = Field(
        ("page_view", "edit", "create", "delete", "share"),
        description="Valid action types. Rows with another are rejected as `unknown_action`.",
    )
    max_duration_ms: int = Field(7_200_000, gt=0, description="Longest valid duration in ms (2 h); itself valid.")
    session_gap_seconds: int = Field(1800, gt=0, description="Seconds of silence that start a new session (30 min).")
    segments: Annotated[tuple[str, ...], NoDecode] = Field(
        ("country", "device_type", "subscription_type", "app_version"),
        description="Columns that users are divided by: `app_version`, any column of the users "
        "files, and any of `extra_columns`.",
    )
    extra_columns: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        examples=[("plan", "experiment")],
        description="Further columns of your files to keep as text in `silver.interaction_extras`; "
        "`segments` may name them.",
    )
    input_timezone: str = Field("UTC", description="Time zone of timestamps without an offset.")
    reporting_timezone: str = Field("UTC", description="Time zone whose calendar days the metrics use.")
    timestamp_formats: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        examples=[("%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S")],
        description="Further formats of timestamps, in strptime's notation; the first that fits is used.",
    )
    engine: Literal["auto", "sail", "spark"] = Field(
        "auto",
        description="Engine that computes the tables: `sail` (in the process, no Java), `spark` (embedded, or at "
        "`SPARK_REMOTE`), or `auto`: Sail for runs that read few rows, Spark for the rest.",
    )
    sail_rows: int = Field(
        32_000_000, ge=0, description="With `auto`: the most rows that a run may read to be computed by Sail."
    )
    driver_memory: str = Field(
        "4g",
        pattern=r"^\d+[gm]$",
        description="Memory for an engine in this process: Sail's pool, or the heap of the embedded Spark.",
    )
    spill: str = Field(
        "",
        examples=["spill"],
        description="Local folder for what does not fit into that memory; default the folder of temporary files "
        "(`TMPDIR`). `SPARK_LOCAL_DIRS` has precedence.",
    )
    rows_per_file: int = Field(
        1_000_000, ge=1000, description="Rows per data file. Neighbouring small days share a file up to this size."
    )
    snapshot_days: int = Field(
        7,
        ge=1,
        description="Days that a table's earlier snapshots stay readable. Choose more than any run or query takes.",
    )
    abandoned_hours: int = Field(
        24, ge=24, description="Hours after which files that a run staged and never published are removed."
    )
    retention_days: int | None = Field(
        None,
        ge=1,
        examples=[730],
        description="Days before the newest one that the scheduled cleanup keeps; default all.",
    )
    lock_timeout_seconds: int = Field(60, ge=1, description="Seconds that a commit waits for a locked catalog.")
    s3_endpoint: str = Field("", validation_alias="S3_ENDPOINT", description="Address of an S3 store other than AWS.")
    s3_region: str = Field("us-east-1", validation_alias="S3_REGION", description="Region the S3 client signs for.")
    dagster_postgres_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DAGSTER_POSTGRES_URL",
        description="`postgresql+psycopg2://…` address of the database for Dagster's records; default SQLite in HOME.",
    )
    spark_remote: SecretStr = Field(  # may hold a token
        SecretStr(""),
        validation_alias="SPARK_REMOTE",
        description="`sc://host:port` of a Spark Connect server, in place of the embedded Spark.",
    )

    @field_validator("allowed_actions", "segments", "extra_columns", "tables", "table_modules", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("map_interactions", "map_users", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not all(ours.strip() and theirs.strip() for ours, _, theirs in pairs):
            raise ValueError("needs pairs such as `user_id=visitor,timestamp=time`")
        return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}

    @field_validator("timestamp_formats", mode="before")
    @classmethod
    def _split_formats(cls, value: object) -> object:
        """Of a text: a comma divides formats where a ``%`` follows it, as others belong to a format."""
        return tuple(filter(None, re.split(",(?=%)", value))) if isinstance(value, str) else value

    @field_validator("timestamp_formats")
    @classmethod
    def _readable_formats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        formats_of(value)
        return value

    @field_validator("allowed_actions")
    @classmethod
    def _usable_as_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        columns = [action_column(action) for action in value]
        if not value or len(set(columns)) != len(columns):
            raise ValueError("needs at least one action type, and no two that differ only in case or punctuation")
        return value

    @field_validator("segments")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unique = {name.lower() for name in value if _COLUMN_NAME.fullmatch(name)}
        if not value or len(unique) != len(value):
            raise ValueError("needs names of letters, digits and underscores, at least one, each once")
        if other_case := [name for name in value if name.lower() in _KNOWN_SEGMENTS and name not in _KNOWN_SEGMENTS]:
            raise ValueError(f"{other_case[0]} is written {other_case[0].lower()}")
        if taken := [name for name in value if name.lower() in _NO_SEGMENTS]:
            raise ValueError(f"{taken[0]} is reserved and can't be a segment")
        return value

    @field_validator("extra_columns")
    @classmethod
    def _free_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unique = {name.lower() for name in value if _COLUMN_NAME.fullmatch(name)}
        if len(unique) != len(value):
            raise ValueError("needs names of letters, digits and underscores, each once")
        if taken := [name for name in value if name.lower() in _NO_EXTRAS]:
            raise ValueError(f"{taken[0]} is a column of the tables already; leave it out")
        return value

    @field_validator("input_timezone", "reporting_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones() - _NO_ZONES:
            raise ValueError(f"{value!r} is not an IANA time zone such as `Europe/Berlin`")
        return value

    @field_validator("warehouse", "landing")
    @classmethod
    def _names_a_place(cls, value: str) -> str:
        if "://" in value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?", value):
            raise ValueError("needs a folder, or an address such as s3://bucket/prefix")
        return value

    @field_validator("spark_remote")
    @classmethod
    def _connect_address(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        if address and not re.match(r"sc://(\[[0-9A-Fa-f:.]+\]|[^\s/:;@]+)(:\d{1,5})?/?(;|$)", address):
            raise ValueError("needs an address such as sc://host:15002")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _web_address(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not re.match(r"https?://[^/\s]", value.get_secret_value()):
            raise ValueError("needs an address that begins with https:// or http://")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from, the first that has one: arguments, environment, settings file."""
        assert isinstance(init_settings, InitSettingsSource)
        file = settings_file(init_settings.init_kwargs.get("home"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    @cached_property
    def home_path(self) -> Path:
        """HOME as an absolute path."""
        return self.home.expanduser().resolve()

    @cached_property
    def spill_path(self) -> Path:
        """The folder where a local engine puts what does not fit into its memory."""
        given = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or self.spill or tempfile.gettempdir()
        return Path(given).expanduser().resolve()

    @property  # not cached: a copy with other settings, as a trial makes, would keep it
    def cleaning(self) -> Cleaning:
        """Which delivered interactions count."""
        return Cleaning(*[getattr(self, name) for name in Cleaning._fields])

    @cached_property
    def landing_uri(self) -> str:
        """The landing zone: an absolute local path or an ``s3://`` address, without a trailing slash."""
        return self._folder_or_bucket(self.landing, "landing")

    @cached_property
    def warehouse_uri(self) -> str:
        """The warehouse: an absolute local path or an ``s3://`` address, without a trailing slash."""
        return self._folder_or_bucket(self.warehouse, "warehouse")

    def _folder_or_bucket(self, given: str, default: str) -> str:
        if on_s3(given):
            return given.rstrip("/")
        return str(Path(given).expanduser().resolve() if given else self.home_path / default)

    @cached_property
    def driver_bytes(self) -> int:
        """Memory that an engine may use, in bytes."""
        return int(self.driver_memory[:-1]) << {"m": 20, "g": 30}[self.driver_memory[-1]]

    @property
    def run_timeout_seconds(self) -> int:
        """After which Dagster ends a run; a run waits for others no longer."""
        return max(1, round(timedelta(hours=self.run_timeout_hours).total_seconds()))  # 0 would be no limit

    @cached_property
    def dagster_path(self) -> Path:
        """Dagster's instance folder of this lakehouse."""
        return self.home_path / "dagster"

    @cached_property
    def dashboard_path(self) -> Path:
        """The dashboard's page."""
        return self.home_path / "dashboard.html"

    @cached_property
    def profiles_path(self) -> Path:
        """The folder of the tables' profiles."""
        return self.home_path / "profiles"

    @cached_property
    def input_zone(self) -> ZoneInfo:
        """Zone of timestamps without an offset."""
        return ZoneInfo(self.input_timezone)

    @cached_property
    def reporting_zone(self) -> ZoneInfo:
        """Zone whose days are counted."""
        return ZoneInfo(self.reporting_timezone)

    @cached_property
    def days_ahead(self) -> int:
        """By how many days an event's day may be ahead of its day in UTC: 1 where the reporting zone is ever east."""
        return int(any(self._offset(year, month) > timedelta(0) for year in _YEARS for month in range(1, 13)))

    def today(self) -> date:
        """The last day that anything may belong to: today in UTC or in the reporting zone, whichever is later."""
        now = datetime.now(tz=UTC)
        return max(now.date(), now.astimezone(self.reporting_zone).date())

    def _offset(self, year: int, month: int) -> timedelta:
        return datetime(year, month, 1, tzinfo=UTC).astimezone(self.reporting_zone).utcoffset() or timedelta(0)


def action_column(action: str) -> str:
    """Name of the ``silver.user_days`` column that counts ``action``: ``page_view`` -> ``page_view_actions``."""
    return re.sub(r"[^a-z0-9]+", "_", action.lower()).strip("_") + "_actions"


def settings_file(home: str | Path | None = None) -> Path | None:
    """The settings file: `lakehouse.toml` in the lakehouse's folder or in the current one, if there is one.

    Args:
        home: the lakehouse's folder; default what the environment says.

    Raises:
        SettingsError: there are two, and nobody could tell which one counts; or a folder can't be entered.
    """
    named = home or os.environ.get("LAKEHOUSE_HOME") or Settings.model_fields["home"].default
    found = {}
    for folder in (Path(named).expanduser(), Path()):
        file = folder / SETTINGS_FILE
        try:
            if file.is_file():
                found[file.resolve()] = file
        except PermissionError:
            other = "let LAKEHOUSE_HOME name another one" if folder.parts else "start the command in another one"
            raise SettingsError(
                f"the folder {folder.absolute()} can't be entered: let its owner give you access, or {other}"
            ) from None
    if len(found) > 1:
        raise SettingsError(f"there are two settings files, {' and '.join(map(str, found))}; keep one of them")
    return next(iter(found), None)


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and the settings file.

    Raises:
        SettingsError: one sentence naming the variable, or the file and key, whose value is wrong.
    """
    file = settings_file(overrides.get("home"))  # type: ignore[arg-type]
    in_file = _read(file) if file else {}
    _refuse_misspelt()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
        for variable, folder in (
            ("LAKEHOUSE_HOME", settings.home_path),
            ("LAKEHOUSE_LANDING", settings.landing_uri),
            ("LAKEHOUSE_WAREHOUSE", settings.warehouse_uri),
        ):
            if wrong := unreadable_name(folder):
                raise SettingsError(f"{variable}={in_utf8(folder)}: {wrong}")
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]).lower()
        variable = _variable(field, Settings.model_fields.get(field))
        place = f"{file}: {field} = " if field in in_file and variable not in os.environ else f"{variable}="
        given = variable if field in _secrets() else f"{place}{first['input']!r}"
        raise SettingsError(f"{given} can't be used: {_why(first, field)}.") from None


def _why(found: ErrorDetails, name: str) -> str:
    """What is wrong with a value, in words that name what it must be."""
    if found["type"] == "value_error" or name not in Settings.model_fields:
        return found["msg"].removeprefix("Value error, ")
    field = Settings.model_fields[name]
    kinds = [kind for kind in (*get_args(field.annotation), field.annotation) if kind is not type(None)]
    if isinstance(field.default, tuple):
        return f"must be a list such as {','.join(field.default)}" if field.default else "must be a list of texts"
    if get_origin(field.annotation) is Literal:
        return f"must be one of {', '.join(kinds[:-1])}"
    limits = {type(one).__name__: one for one in field.metadata}
    ge, gt, le = (getattr(limits.get(kind), kind.lower(), None) for kind in ("Ge", "Gt", "Le"))
    if le is not None:
        bounds = f" from {ge} to {le}"
    else:
        bounds = f" of at least {ge}" if ge is not None else f" above {gt}" if gt is not None else ""
    return f"must be {_KINDS.get(kinds[0], f'written like {field.default}')}{bounds}"


def folder_settings(home: str | Path, **overrides: object) -> Settings:
    """Settings of a lakehouse in a folder, whatever services the environment names: a notebook's own, for instance.

    Raises:
        SettingsError: one sentence naming the variable, or the file and key, whose value is wrong.
    """
    services = ("warehouse", "landing", "catalog_uri", "catalog_name", "catalog_credential", "spark_remote")
    return load_settings(home=home, **dict.fromkeys((*services, "dagster_postgres_url"), ""), **overrides)


def unreadable_name(path: str | Path) -> str:
    """What is wrong with the name of a file or folder, if tables, catalogs and Java could not hold it as text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:  # Python reads bytes that are no text to it as surrogates
        encoding = sys.getfilesystemencoding()
        if encoding != "utf-8":
            return f"its name can't be read as {encoding}; set PYTHONUTF8=1"
        return "its name is not UTF-8; rename it"
    return ""


def in_utf8(path: str | Path) -> str:
    """A path for a message, with a mark in place of what is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _refuse_misspelt() -> None:
    """Refuse a variable that is almost a setting's or has some of its words: what it says would silently not count."""
    known = {_variable(name, field) for name, field in Settings.model_fields.items()} | {"LAKEHOUSE_CACHE"}
    for variable in sorted(os.environ):
        if variable.startswith("LAKEHOUSE_") and variable not in known:
            words = set(variable.split("_")) - {"LAKEHOUSE"}
            alike = get_close_matches(variable, known, 1, cutoff=0.9) or [
                name for name in sorted(known) if words and words <= set(name.split("_"))
            ]
            if alike:
                raise SettingsError(f"there is no setting {variable}; did you mean {' or '.join(alike)}?")


def _variable(name: str, field: FieldInfo | None) -> str:
    return str(field.validation_alias) if field and field.validation_alias else f"LAKEHOUSE_{name.upper()}"


def _read(file: Path) -> Mapping[str, Any]:
    """What a settings file says.

    Raises:
        SettingsError: it is no TOML, names no setting of ours, or holds a secret.
    """
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} can't be read as TOML: {error}") from None
    for key in said:
        if key not in Settings.model_fields:
            alike = get_close_matches(key, Settings.model_fields, 1)
            hint = f"did you mean {alike[0]}?" if alike else "`lakehouse init` writes a file with all there are"
            raise SettingsError(f"{file}: there is no setting {key!r}; {hint}")
    for key in said.keys() & _secrets():
        variable = _variable(key, Settings.model_fields[key])
        raise SettingsError(f"{file}: {key} is a secret; give it as {variable}")
    return said


def _secrets() -> set[str]:
    return {name for name, field in Settings.model_fields.items() if field.annotation is SecretStr}


OF_EVENTS = (
    "map_interactions",
    "map_users",
    "allowed_actions",
    "max_duration_ms",
    "session_gap_seconds",
    "input_timezone",
    "reporting_timezone",
    "timestamp_formats",
    "segments",
    "extra_columns",
    "late_days",
)


def settings_template() -> str:
    """A settings file with every setting, its meaning and its default, all of them commented out."""
    fields = Settings.model_fields
    secrets = [_variable(name, fields[name]) for name in fields if name in _secrets()]
    others = [name for name in fields if name not in {*OF_EVENTS, *_secrets()}]
    parts = [
        "# Settings of a lakehouse. Remove the # from a line to use it. A variable in the environment has precedence.",
        "# In the environment a list is written with commas, and pairs as ours=theirs.",
        f"# Secrets are not allowed here; set them in the environment: {', '.join(secrets)}.",
        "# Relative folders are relative to the folder where you run a command.",
        "",
        "# ---- Your events: columns, valid values, days",
    ]
    for name in (*OF_EVENTS, *others):
        if name == others[0]:
            parts += ["", "# ---- Places, engines, limits"]
        field = fields[name]
        value = field.examples[0] if field.examples else field.default
        kind = "" if not field.examples else " (an example; there is no default)"
        parts += ["", f"# {field.description} {_variable(name, field)}{kind}", f"# {name} = {_toml(value)}"]
    return "\n".join(parts) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(str(value) if isinstance(value, Path) else value)

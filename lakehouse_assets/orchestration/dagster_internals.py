"""What this project takes of Dagster that Dagster has not made public: each name, and why nothing public serves.

An upgrade of Dagster may move or change these; they are imported nowhere else (`test_imports.py`). The packages of
Dagster are pinned to the versions that this was tried with.
"""

# The batching event logs are Dagster's own storages with another way to commit: they subclass these, write the tables
# and the shard of each run as these do, and wait for a locked file as long.
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SQLITE_BUSY_TIMEOUT_SECONDS

# The texts of a run's events of days: what they are made of, and how Dagster writes one (`event_texts`).
from dagster._core.events import AssetMaterializationPlannedData, StepMaterializationData
from dagster._serdes import serialize_value
from dagster_shared.record import replace as replaced

# A storage that dagster.yaml names is made from this.
from dagster._serdes import ConfigurableClassData

# A check's row in the event log begins with the event that it is planned, and keeps how it ended.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

# A check of many days tells which materialization each of its results is about; else the UI shows none of them.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

# Rows, bytes and figures of each day of a range run: the public `add_output_metadata` takes one set for all its days.
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator

# A launcher that notices dead processes says so in these words, and finds a run's code server by this tag.
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

# An instance of the terminal overrides what a folder's dagster.yaml says: captured output starts four processes a run.
from dagster._core.instance.ref import InstanceRef

NO_COMPUTE_LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}

# The statuses of runs that are not over: who plans or deletes must know of each such run.
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

# Why a run failed, and the error of a step as Dagster stores it.
from dagster._core.events import RunFailureReason
from dagster._utils.error import SerializableErrorInfo

# The tags that say which days a run is for, and which request of a sensor it answers.
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
)

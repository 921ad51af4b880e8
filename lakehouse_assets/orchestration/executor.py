"""Runs the steps of a run in its process: one after the other, or in threads side by side where the engine allows it.

While the engine computes one table, Python publishes another and tells Dagster of it. Each step is executed by Dagster
itself, with its own events, retries and failure; only when it starts is decided here. Sail alone allows it: it computes
without Python's lock, and its memory is measured for it (`lakehouse_assets.engines.sail`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue

import dagster as dg

from lakehouse_assets.lakehouse import Lakehouse
from lakehouse_assets.orchestration.dagster_internals import (
    EngineEventData,
    ExecuteRunWithPlanIterable,
    ExecutionPlan,
    InstanceConcurrencyContext,
    PlanExecutionContext,
    PlanExecutionContextManager,
    PlanOrchestrationContext,
    RetryMode,
    create_compute_log_file_key,
    dagster_event_sequence_for_step,
    inner_plan_execution_iterator,
    raise_execution_interrupts,
    trigger_hook,
)
from lakehouse_assets.storage.trouble import Troubles

_Told = SimpleQueue[tuple[dg.StepExecutionContext, dg.DagsterEvent | None, BaseException | None]]


def side_by_side_executor(lakehouse: Lakehouse) -> dg.ExecutorDefinition:
    """Dagster's definition of the executor."""

    @dg.executor(name="in_process")
    def executor(context: dg.InitExecutorContext) -> SideBySide:
        return SideBySide(lakehouse)

    return executor


class SideBySide(dg.Executor):
    """Executes as many steps at once as the engine of the run allows."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    @property
    def retries(self) -> RetryMode:
        """A step that asks for it is tried again."""
        return RetryMode.ENABLED

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """The events of a run."""
        where = EngineEventData.in_process(os.getpid(), execution_plan.step_keys_to_execute)
        yield dg.DagsterEvent.engine_event(plan_context, f"Executing steps in process {os.getpid()}", where)
        yield from ExecuteRunWithPlanIterable(
            execution_plan=execution_plan,
            iterator=self._steps,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
            ),
        )
        yield dg.DagsterEvent.engine_event(plan_context, f"Finished steps in process {os.getpid()}", where)

    def _steps(self, job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[dg.DagsterEvent]:
        at_once = self._lakehouse.engines.at_once(job_context.run_id)
        side_by_side = partial(_side_by_side, at_once=at_once, troubles=self._lakehouse.trouble)
        steps = side_by_side if at_once > 1 else inner_plan_execution_iterator
        with InstanceConcurrencyContext(job_context.instance, job_context.dagster_run) as pools:
            yield from steps(job_context, execution_plan, pools)


def _side_by_side(
    context: PlanExecutionContext,
    plan: ExecutionPlan,
    pools: InstanceConcurrencyContext,
    *,
    at_once: int,
    troubles: Troubles,
) -> Iterator[dg.DagsterEvent]:
    """As Dagster's `inner_plan_execution_iterator`, which takes the next step only when one has ended."""
    logs = context.instance.compute_log_manager
    log_key = logs.build_log_key_for_run(context.run_id, create_compute_log_file_key())
    step_keys = [step.key for step in plan.get_steps_to_execute_in_topo_order()]
    running: dict[str, threading.Thread] = {}
    events: dict[str, list[dg.DagsterEvent]] = {}
    told: _Told = SimpleQueue()
    with (
        plan.start(context.retry_mode, max_concurrent=at_once, instance_concurrency_context=pools) as active,
        logs.capture_logs(log_key) as log,  # of the whole process
    ):
        yield dg.DagsterEvent.capture_logs(context, step_keys, log_key, log)
        try:
            while not active.is_complete:
                for step in active.get_steps_to_execute():
                    begun = context.for_step(step, active.get_known_state())
                    running[step.key] = threading.Thread(target=_execute, args=(begun, told), name=step.key)
                    events[step.key] = []
                    running[step.key].start()
                yield from active.concurrency_event_iterator(context)
                if not running:
                    active.sleep_til_ready()
                    continue
                with raise_execution_interrupts():
                    step_context, event, error = told.get()
                key = step_context.step.key
                if event:
                    events[key].append(event)
                    yield event
                    active.handle_event(event)
                    continue
                running.pop(key).join()
                if error:
                    raise error
                active.verify_complete(context, key)
                yield from active.plan_events_iterator(context)
                yield from trigger_hook(step_context, events.pop(key))
        except BaseException:  # the run is stopped, or is to raise: what is staged is not published any more
            troubles.note(context.run_id, dg.DagsterExecutionInterruptedError())
            raise
        finally:
            for thread in running.values():
                thread.join()


def _execute(step: dg.StepExecutionContext, told: _Told) -> None:
    """Execute a step and pass on its events, then that it has ended, with the error that Dagster lets through."""
    error = None
    try:
        for event in dagster_event_sequence_for_step(step):
            told.put((step, event, None))
    except BaseException as raised:  # of a run that is to raise, or of one that is stopped
        error = raised
    told.put((step, None, error))

"""Commands around a lakehouse: init and dev."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.options import examples, quiet
from lakehouse_assets.cli.output import UsageError, say, say_next
from lakehouse_assets.stopping import STOP

if TYPE_CHECKING:
    from lakehouse_assets.settings import Settings

_DEV_GRACE_SECONDS = 30  # Dagster ends its web server, daemon and code server one after the other


@click.command("init", epilog=examples("init"))
@quiet
@click.pass_obj
def init(settings: Settings) -> None:
    """Write lakehouse.toml, a settings file to fill in."""
    from lakehouse_assets.settings import SETTINGS_FILE, settings_template

    folder = settings.home_path if "LAKEHOUSE_HOME" in os.environ else Path()
    file = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as sink:
            sink.write(settings_template())
    except FileExistsError:
        raise UsageError(f"{file} exists already and was not changed") from None
    except OSError as error:
        raise UsageError(f"{file} can't be written ({error.strerror})") from None
    say(f"wrote {file}: every setting with its default, commented out. Remove the # from those you change")
    say_next("land interactions FILE")


@click.command("dev", epilog=examples("dev", "dev --port 3001"))
@click.option("--port", type=int, default=3000, show_default=True, help="Port on 127.0.0.1.")
@click.pass_obj
def dev(settings: Settings, port: int) -> None:
    """Start Dagster's pages and daemon on this lakehouse."""
    from lakehouse_assets.orchestration.dev_output import logging_to, tell_from
    from lakehouse_assets.orchestration.instance import dagster_home

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"--port {port} can't be used ({error}); choose another") from None
    if settings.engine == "spark":
        from lakehouse_assets.engines.spark import prepare_environment

        prepare_environment(settings)
    os.environ["DAGSTER_HOME"] = str(dagster_home(settings))
    os.environ["LAKEHOUSE_HOME"] = str(settings.home_path)
    # what would replace `dagster dev` wants a project of its own layout
    warnings.filterwarnings("ignore", "Function `dev_command`")
    log, address = settings.dagster_path / "dev.log", f"http://127.0.0.1:{port}"
    say(f"Dagster starts for the lakehouse in {settings.home_path}; all that it logs is in {log}")
    STOP.grace_seconds = _DEV_GRACE_SECONDS
    # a script that started this in the background had it ignored, and Dagster cancels runs with it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sys.argv = ["dagster", "dev", "-m", "lakehouse_assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
    try:
        with logging_to(log) as terminal:
            tell_from(log, address, partial(print, file=terminal, flush=True))
            runpy.run_module("dagster", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise UsageError(f"Dagster ended by itself ({end.code}); the end of {log} says why") from None

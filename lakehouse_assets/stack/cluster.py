"""Starts the parts of a Spark cluster with pip's pyspark: master, worker, Connect server, history server.

The containers of docker-compose.yaml and `make rehearsal` both start them here, so that both run from the same
settings: `spark/spark-defaults.conf` and, for the Connect server, the lakehouse's catalog as its settings name it.
The shared secret comes in `_SPARK_AUTH_SECRET`, which Spark itself reads; S3 keys come from the AWS chain.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyspark

from lakehouse_assets.engines.jars import JARS, S3_JARS, jar_paths
from lakehouse_assets.engines.java import java_home
from lakehouse_assets.engines.spark import iceberg_config
from lakehouse_assets.settings import load_settings

CLASSES = {
    "master": "org.apache.spark.deploy.master.Master",
    "worker": "org.apache.spark.deploy.worker.Worker",
    "history": "org.apache.spark.deploy.history.HistoryServer",
}
CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"


def properties(text: str, more: Mapping[str, str]) -> str:
    """The lines of a properties file with further ones, in which a backslash or a line end has no meaning of its own.

    Raises:
        ValueError: a value has a line end, which would be a setting of its own.
    """
    for key, value in more.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"the value of {key} has a line end")
    escaped = {key: value.replace("\\", "\\\\") for key, value in more.items()}
    return text.rstrip("\n") + "\n" + "".join(f"{key} {value}\n" for key, value in escaped.items())


def main() -> None:
    """Become one of the cluster's processes."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse_assets.stack.cluster", description=__doc__)
    parser.add_argument("part", choices=("master", "worker", "connect", "history"))
    parser.add_argument("--defaults", type=Path, required=True, help="spark-defaults.conf")
    parser.add_argument("--conf", action="append", default=[], metavar="KEY=VALUE", help="one more setting")
    parser.epilog = "What stands behind -- is told to the part itself."
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, rest = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]

    home = Path(pyspark.__file__).parent
    more = dict(pair.split("=", 1) for pair in options.conf)
    if options.part == "connect":
        jars = os.pathsep.join(map(str, jar_paths(JARS + S3_JARS)))
        more |= {"spark.driver.extraClassPath": jars, "spark.executor.extraClassPath": jars}
        more |= iceberg_config(load_settings())
        # master and workers take it from the environment, a driver only as a setting
        more["spark.authenticate.secret"] = os.environ["_SPARK_AUTH_SECRET"]
    # a folder that only this user can look into, as secrets are settings
    folder = Path(tempfile.mkdtemp(prefix="spark-conf-"))
    (folder / "spark-defaults.conf").write_text(properties(options.defaults.read_text(), more))
    environment = os.environ | {
        "JAVA_HOME": str(java_home()),
        "SPARK_HOME": str(home),
        "SPARK_CONF_DIR": str(folder),
        "PYSPARK_PYTHON": sys.executable,
    }
    if options.part == "connect":
        environment.pop("SPARK_DAEMON_MEMORY", None)  # that of the others; here it would win over spark.driver.memory
    script = str(home / "bin" / ("spark-submit" if options.part == "connect" else "spark-class"))
    what = ["--class", CONNECT, "spark-internal"] if options.part == "connect" else [CLASSES[options.part]]
    os.execve(script, [script, *what, *rest], environment)  # noqa: S606  our own arguments


if __name__ == "__main__":
    main()

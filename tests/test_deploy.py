"""What is under deploy/, as far as it can be checked without a machine to deploy it on."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from documented import ROOT, understood

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINERFILES = sorted((DEPLOY / "containers").iterdir())
INSTRUCTIONS = {
    "FROM",
    "RUN",
    "COPY",
    "USER",
    "WORKDIR",
    "ENV",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
EXPOSURE = 3.0  # of 10, as systemd-analyze counts
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", path.read_text()))
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def exec_start(unit: Path) -> list[str]:
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", unit.read_text())
    return str(line).split()


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_is_one_that_systemd_accepts_and_calls_well_confined(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("true")
    assert program is not None
    text = unit.read_text().replace("/opt/fedmq/bin/fedmq", program)
    named = tmp_path / unit.name.replace("@", "@edge-1")
    named.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(named)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if named.name in line]
    assert (done.returncode, told) == (0, [])
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--json=short", str(named)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    rows = json.loads(found.stdout)
    assert sum(float(row["exposure"] or 0) for row in rows if row["exposure"]) <= EXPOSURE, found.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_there_is_and_does_not_repeat_what_cannot_succeed(unit: Path) -> None:
    program, *words = exec_start(unit)
    assert program == "/opt/fedmq/bin/fedmq"
    assert understood(words)
    text = unit.read_text()
    assert "Restart=on-failure" in text
    # 0 finished, 130 stopped by a person; 2 usage and 3 input need a person. 5, the network, is tried again.
    assert "SuccessExitStatus=130" in text
    stays_down = set(re.findall(r"RestartPreventExitStatus=(.*)", text)[0].split())
    assert {"2", "3"} <= stays_down
    assert "5" not in stays_down


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_a_containerfile_has_known_instructions_its_paths_and_commands_that_there_are(path: Path) -> None:
    found = instructions(path)
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    last = dict(found)
    assert json.loads(last["ENTRYPOINT"]) == ["fedmq"]
    assert understood(json.loads(last["CMD"]))
    if "HEALTHCHECK" in last:
        program, *words = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
        assert (program, bool(understood(words))) == ("fedmq", True)
    assert last["USER"] != "root"
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    wanted = re.findall(r'"/src\[([\w,]+)\]"', path.read_text())
    assert wanted
    assert {extra for text in wanted for extra in text.split(",")} <= extras
    stages = {value.split(" AS ")[1] for name, value in found if name == "FROM" and " AS " in value}
    assert {stage for _, value in found for stage in re.findall(r"--from=(\w+)", value)} <= stages
    (build,) = re.findall(r"docker build -f (\S+) ", path.read_text())
    assert ROOT / build == path


def test_compose_names_what_there_is() -> None:
    path = DEPLOY / "compose" / "compose.yaml"
    (found,) = documents(path)
    assert set(found) == {"name", "services", "networks"}
    services = found["services"]
    for name, service in services.items():
        if "build" in service:
            context = (path.parent / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file(), name
            assert service["read_only"] is True
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service["networks"]) <= set(found["networks"])
        if "command" in service:
            assert understood(service["command"])
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:") or name == "broker", "what asks nobody who they are stays here"
    folders = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {folder for folder in folders if "photos" not in folder} == {
        "./fleet/broker", "./fleet/aggregator", "./fleet/bundle", "./fleet/nodes/edge-1",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker here")
def test_docker_compose_takes_the_file() -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this docker has no compose")
    words = ["docker", "compose", "-f", str(DEPLOY / "compose" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_kubernetes_example_refers_only_to_what_it_has() -> None:
    found = documents(DEPLOY / "kubernetes" / "fedmq.yaml")
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("Service", "aggregator"), ("StatefulSet", "aggregator"), ("StatefulSet", "edge-1"),
    ]  # fmt: skip
    service, *sets = found
    assert service["spec"]["selector"] == sets[0]["spec"]["template"]["metadata"]["labels"]
    for one in sets:
        spec, labels = one["spec"]["template"]["spec"], one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"] == labels
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]}
        for container in (*spec["initContainers"], *spec["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        (main,) = spec["containers"]
        assert understood(main["args"])
        if "livenessProbe" in main:
            program, *words = main["livenessProbe"]["exec"]["command"]
            assert (program, bool(understood(words))) == ("fedmq", True)
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert {
        port["name"]: port["containerPort"] for port in sets[0]["spec"]["template"]["spec"]["containers"][0]["ports"]
    } == ports


def test_prometheus_scrapes_the_ports_that_the_units_serve() -> None:
    (found,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    scraped = {target for job in found["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    served = {words[words.index("--metrics") + 1] for words in map(exec_start, UNITS)}
    assert {target.rpartition(":")[2] for target in scraped} == served


def test_every_file_is_in_the_table_that_says_how_it_was_checked() -> None:
    text = (DEPLOY / "README.md").read_text()
    assert {path.name for path in DEPLOY.iterdir() if path.is_dir()} == set(re.findall(r"`(\w+)/`", text))

"""docs/serving.md: what it tells an administrator to write down is taken by whoever reads it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import type_in

from mpanet_pl.gallery import bounded_images, guard, listening, schemas, uploads
from mpanet_pl.gallery.access_log import AccessLog

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0])


def test_the_bounds_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \|", PAGE, re.MULTILINE))
    assert rows["headers of a request"] == f"{listening.MOST_HEADERS // 1024} KB, {listening.HEADER_SECONDS:.0f} s"
    assert rows["an upload"] == f"{guard.MOST_BYTES // 10**6} MB, {guard.SECONDS:.0f} s"
    assert rows["uploads being read, together"] == f"{guard.MOST_HELD // 10**6} MB"
    megapixels, seconds, memory = bounded_images.MOST_PIXELS // 10**6, uploads.SECONDS, uploads.MEMORY // 2**30
    assert rows["a picture"] == f"{megapixels} megapixels, {seconds:.0f} s, {memory} GB of memory"
    assert rows["connections (`connections`)"] == str(listening.Bounded.most)
    assert rows["answers a query, queries a request"] == f"{schemas.MOST_ANSWERS}, {schemas.MOST_QUERIES}"
    assert listening.END_SECONDS < listening.LAST_SECONDS < 5 == int(rows["the end after SIGTERM"].split()[0])
    conf = (Path(__file__).parents[2] / "conf/serve.yaml").read_text()
    assert f"rate: {rows['requests of one client (`rate`)'].replace(' a ', '/')}" in conf


def test_the_log_line_is_one(tmp_path: Path) -> None:
    line = json.loads(block("json"))
    shown = {key: line[key] for key in line if key not in ("time", "asked")}
    AccessLog("on", tmp_path / "log").write(line["asked"], **shown)
    assert json.loads((tmp_path / "log").read_text()) | {"time": line["time"]} == line


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_the_owner_of_a_hashed_log_finds_a_row(tmp_path: Path) -> None:
    log = AccessLog("hashed", tmp_path / "access.jsonl")
    for name in ("cam1/7.png", "cam1/8.png"):
        log.write("search", client="", user="", query=[], only={}, generation="", shown=[name])
    (line,) = re.findall(r"^grep .*", PAGE, re.MULTILINE)
    found = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert found == (tmp_path / "access.jsonl").read_text().splitlines(keepends=True)[0]


@pytest.mark.skipif(shutil.which("hadolint", path=str(Path(sys.executable).parent)) is None, reason="no hadolint here")
def test_the_container_file_is_linted(tmp_path: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    (tmp_path / "Dockerfile").write_text(block("dockerfile"))
    told = subprocess.run([linter, "Dockerfile"], cwd=tmp_path, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text(block("dockerfile").replace("USER 10001", "USER root"))
    assert subprocess.run([linter, "Dockerfile"], cwd=tmp_path, capture_output=True).returncode == 1


def test_what_starts_it_is_our_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (unit,) = re.findall(r"^ExecStart=(.*)", block("ini"), re.MULTILINE)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)", block("dockerfile"), re.MULTILINE)
    (more,) = re.findall(r"^  mpanet-serve (.*)", block("sh"), re.MULTILINE)
    (typed,) = re.findall(r"^python -m mpanet_pl.serve .*", block("bash"), re.MULTILINE)
    for words in (shlex.split(unit), [*json.loads(entry), *shlex.split(more)], shlex.split(typed)):
        seen: list[Any] = []
        start = words.index("mpanet_pl.serve")
        assert words[start - 1] == "-m"
        assert type_in("serve", lambda cfg, _: seen.append(cfg), words[start + 1 :], monkeypatch) == 0  # noqa: B023
        assert "gallery.example.org" in guard.names_of(seen[0].host, seen[0].hosts, {"a token": ""})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_read(tmp_path: Path) -> None:
    unit = block("ini").replace("/opt/mpanet/bin/python", sys.executable)
    (tmp_path / "gallery.service").write_text(unit)
    line = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "gallery.service")]
    told = subprocess.run(line, capture_output=True, text=True)
    assert (told.returncode, [line for line in told.stderr.splitlines() if "gallery.service" in line]) == (0, [])
    (tmp_path / "gallery.service").write_text(unit.replace("DynamicUser", "DynamikUser"))
    assert "DynamikUser" in subprocess.run(line, capture_output=True, text=True).stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")
def test_the_proxy_is_read(tmp_path: Path) -> None:
    key, pem = tmp_path / "key", tmp_path / "pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=a",
        "-keyout",
        key,
        "-out",
        pem,
    ]
    subprocess.run(request, check=True, capture_output=True)
    server = block("nginx").replace("/etc/ssl/gallery.pem", str(pem)).replace("/etc/ssl/gallery.key", str(key))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{server}}}\n")
    line = ["nginx", "-t", "-c", str(tmp_path / "nginx.conf")]
    told = subprocess.run(line, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr

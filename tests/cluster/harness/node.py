"""The command line and configuration file of every component."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .base import HERE

_THROUGHPUT = ["--kube-api-qps=500", "--kube-api-burst=1000"]


def control_plane(instance, binaries: dict[str, str], extra_apiserver: list[str]) -> dict[str, list]:
    """etcd, API server, controller manager and scheduler, in starting order."""
    home, certs = instance.home, instance.certs
    etcd = "http://127.0.0.1:2379"
    peer = "http://127.0.0.1:2380"
    controller_manager = certs / "controller-manager.kubeconfig"
    scheduler = certs / "scheduler.kubeconfig"
    return {
        "etcd": [
            binaries["etcd"],
            f"--data-dir={home}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            binaries["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--secure-port={instance.port}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={instance.node_ip}",
            f"--tls-cert-file={certs}/apiserver.crt",
            f"--tls-private-key-file={certs}/apiserver.key",
            f"--client-ca-file={certs}/ca.crt",
            f"--service-account-key-file={certs}/sa.pub",
            f"--service-account-signing-key-file={certs}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={instance.services}",
            "--allow-privileged=true",
            # or else exec and logs look up `node1`
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            f"--kubelet-client-certificate={certs}/kubelet-client.crt",
            f"--kubelet-client-key={certs}/kubelet-client.key",
            f"--audit-policy-file={HERE}/manifests/audit.yaml",
            f"--audit-log-path={instance.audit_log}",
            *extra_apiserver,
        ],
        "kube-controller-manager": [
            binaries["kube-controller-manager"],
            f"--kubeconfig={controller_manager}",
            f"--authentication-kubeconfig={controller_manager}",
            f"--authorization-kubeconfig={controller_manager}",
            "--bind-address=127.0.0.1",
            f"--service-account-private-key-file={certs}/sa.key",
            f"--root-ca-file={certs}/ca.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--cluster-signing-cert-file={certs}/ca.crt",
            f"--cluster-signing-key-file={certs}/ca.key",
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={instance.cluster_pods}",
            f"--service-cluster-ip-range={instance.services}",
            *_THROUGHPUT,
        ],
        "kube-scheduler": [
            binaries["kube-scheduler"],
            f"--kubeconfig={scheduler}",
            f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            *_THROUGHPUT,
        ],
    }


def node(instance, binaries: dict[str, str]) -> dict[str, list]:
    """containerd, kubelet and kube-proxy, their files written."""
    home = instance.home
    (home / "containerd").mkdir(exist_ok=True)
    (home / "cni").mkdir(exist_ok=True)
    (home / "containerd/config.toml").write_text(_containerd(instance, binaries))
    (home / "cni/10-bridge.conflist").write_text(_network(instance))
    (home / "kubelet.yaml").write_text(_kubelet(instance))
    (home / "proxy.yaml").write_text(_proxy(instance))
    return {
        "containerd": [binaries["containerd"], f"--config={home}/containerd/config.toml"],
        "kubelet": [
            binaries["kubelet"],
            f"--kubeconfig={instance.certs}/node1.kubeconfig",
            f"--config={home}/kubelet.yaml",
            "--hostname-override=node1",
            f"--node-ip={instance.node_ip}",
            f"--root-dir={home}/kubelet",
            f"--cert-dir={home}/kubelet/pki",
        ],
        "kube-proxy": [binaries["kube-proxy"], f"--config={home}/proxy.yaml"],
    }


def _containerd(instance, binaries: dict[str, str]) -> str:
    home = instance.home
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    snapshotters = ", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in ("btrfs", "zfs", "devmapper", "aufs"))
    return f"""version = 2
root = "{home}/containerd/root"
state = "{home}/containerd/state"
disabled_plugins = [{snapshotters}]
[grpc]
  address = "{instance.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{home}/containerd/opt"
[{cri}]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  # without CAP_SYS_RESOURCE runc cannot lower the score: "can't get final child's PID from pipe: EOF"
  restrict_oom_score_adj = true
  [{cri}.cni]
    bin_dir = "{binaries["cni"]}"
    conf_dir = "{home}/cni"
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        BinaryName = "{binaries["runc"]}"
        SystemdCgroup = false
"""


def _network(instance) -> str:
    addresses = {
        "type": "host-local",
        "dataDir": f"{instance.home}/cni-data",
        "ranges": [[{"subnet": instance.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": addresses}
    return json.dumps({"cniVersion": "1.0.0", "name": "bridge", "plugins": [bridge]}, indent=1)


def _kubelet(instance) -> str:
    home, certs = instance.home, instance.certs
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": instance.node_ip,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{certs}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{certs}/node1.crt",
        "tlsPrivateKeyFile": f"{certs}/node1.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{instance.cgroup}",
        "failCgroupV1": False,
        "containerRuntimeEndpoint": f"unix://{instance.containerd_socket}",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "/dev/null",
        "clusterDNS": [instance.dns],
        "clusterDomain": "cluster.local",
        # a shared disk that is nearly full is not this node's affair
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "serializeImagePulls": False,
        "volumePluginDir": f"{home}/kubelet/volumeplugins",
        "podLogsDir": f"{home}/podlogs",
    }
    return json.dumps(configuration, indent=1)


def _proxy(instance) -> str:
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{instance.certs}/proxy.kubeconfig"},
        "mode": "nftables",
        "clusterCIDR": instance.cluster_pods,
        "hostnameOverride": "node1",
        # these sysctls are read-only in a network namespace
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return json.dumps(configuration, indent=1)


def path_for(binaries: dict[str, str]) -> str:
    """PATH of the components: containerd finds its shim there."""
    folders = [str(Path(binaries["containerd"]).parent), str(Path(binaries["runc"]).parent)]
    return ":".join([*folders, os.environ.get("PATH", ""), "/usr/sbin:/usr/bin:/sbin:/bin"])

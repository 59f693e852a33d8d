#!/usr/bin/env python3
"""Tests of the harness itself, on real clusters: `tests/cluster/selftest.py [-k PATTERN]`. About a minute when the cache is warm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import fetch, images, preflight  # noqa: E402

TOOL = str(HERE / "weir-cluster")
NAME = "selftest"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def cluster(*words: str, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run([TOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900)
    if check and done.returncode:
        raise AssertionError(f"weir-cluster {' '.join(words)}: status {done.returncode}\n{done.stderr}{done.stdout}")
    return done


def up(name: str, *words: str) -> dict:
    return json.loads(cluster("up", "--name", name, "--json", *words).stdout)


def kubectl(described: dict, *words: str, **options) -> str:
    command = [described["kubectl"], f"--kubeconfig={described['kubeconfig']}", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=90, **options)
    if done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)}:\n{done.stderr}{done.stdout}")
    return done.stdout


def apply(described: dict, *objects: dict) -> None:
    kubectl(described, "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def report(what: str, seconds: float) -> None:
    print(f"    {what}: {seconds:.1f} s", file=sys.stderr)


def pod(name: str, container: dict, **spec) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAME},
        "spec": {"containers": [{"name": "main", "imagePullPolicy": "IfNotPresent", "securityContext": RESTRICTED, **container}], **spec},
    }


def eventually(what: str, probe, seconds: float = 30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := probe():
                return result
        except (OSError, AssertionError) as error:
            last = error
        else:
            last = None
        if time.monotonic() > deadline:
            raise AssertionError(f"not after {seconds} s: {what}: {last}")
        time.sleep(0.1)


def assert_clean() -> None:
    done = cluster("check-clean", check=False)
    assert done.returncode == 0, done.stdout


class Pieces(unittest.TestCase):
    def test_the_same_files_give_the_same_archive(self):
        with tempfile.TemporaryDirectory() as folder:
            archives = []
            for name in ("one", "two"):
                source = Path(folder, name)
                source.write_text("content")
                archive = Path(folder, f"{name}.tar")
                images.write_archive(archive, "localhost/x:1", {"/usr/bin/x": source}, ["/usr/bin/x"])
                archives.append(archive.read_bytes())
            self.assertEqual(*archives)

    def test_a_machine_without_root_is_told_how_to_use_another_cluster(self):
        with mock.patch("os.geteuid", return_value=1000), self.assertRaises(preflight.Failure) as raised:
            preflight.preflight()
        self.assertIn("root is needed", str(raised.exception))
        self.assertIn("make demo KUBE_CONTEXT=", str(raised.exception))

    def test_everything_that_is_missing_is_named_at_once(self):
        with mock.patch("harness.preflight._memory", return_value=["memory"]), mock.patch("harness.preflight._disk", return_value=["disk"]):
            self.assertEqual(preflight.problems_found(), ["memory", "disk"])

    def test_an_old_kubectl_on_the_path_is_not_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            fake = Path(folder, "kubectl")
            for minor, taken in (("34", False), ("35", True), ("37+", True), ("38", False)):
                version = json.dumps({"clientVersion": {"major": "1", "minor": minor}})
                fake.write_text(f"#!/bin/sh\necho '{version}'\n")
                fake.chmod(0o755)
                with mock.patch.dict(os.environ, {"PATH": f"{folder}:/usr/bin:/bin"}):
                    self.assertEqual(fetch._kubectl_on_path() is not None, taken, minor)


class RunningCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        begun = time.monotonic()
        cls.cluster = up(NAME, "--fresh")
        report("up, nothing to node and DNS ready", time.monotonic() - begun)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}
        namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
        apply(cls.cluster, namespace)
        cls.folder = tempfile.TemporaryDirectory()
        archive = Path(cls.folder.name, "tools.tar")
        tools = {f"/usr/bin/{name}": Path(f"/usr/bin/{name}") for name in ("sleep", "getent", "cat")}
        libraries = {name: path for tool in tools.values() for name, path in images.glibc(tool).items()}
        images.write_archive(archive, "localhost/selftest/tools:1", {**tools, **libraries}, ["/usr/bin/sleep"])
        cluster("import", "--name", NAME, str(archive))

    @classmethod
    def tearDownClass(cls):
        begun = time.monotonic()
        cluster("down", "--name", NAME)
        report("down", time.monotonic() - begun)
        cls.folder.cleanup()
        assert_clean()

    def test_restricted_pods_behind_a_service_are_ready_in_seconds_and_reached_from_the_host(self):
        web = {
            "name": "web",
            "image": "localhost/coredns:1",
            "imagePullPolicy": "IfNotPresent",
            "args": ["-conf", "/etc/coredns/Corefile"],
            "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
            "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}},
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        }
        labels = {"app": "web"}
        deployment = {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [web], "volumes": [{"name": "config", "configMap": {"name": "web"}}]},
            },
        }
        metadata = {"name": "web", "namespace": NAME}
        begun = time.monotonic()
        apply(
            self.cluster,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": ".:1053 {\n health :8080\n}\n"}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}},
        )
        kubectl(self.cluster, "rollout", "status", "deployment/web", "-n", NAME, "--timeout=60s")
        report("2 pods with probes and a Service, apply to Ready", time.monotonic() - begun)
        address = kubectl(self.cluster, "get", "service", "web", "-n", NAME, "-o", "jsonpath={.spec.clusterIP}")

        def answer() -> bool:
            return urllib.request.urlopen(f"http://{address}/health", timeout=2).read() == b"OK"

        eventually("the Service answers the host", answer)

    def test_static_and_dynamic_rust_binaries_run_in_images_that_hold_little_else(self):
        source = Path(self.folder.name, "probe.rs")
        source.write_text(
            'use std::net::ToSocketAddrs; fn main() { let mut found = "kubernetes.default:443".to_socket_addrs().unwrap();'
            ' println!("{}", found.next().unwrap()); }'
        )
        for kind, flags in (("static", ["-C", "target-feature=+crt-static"]), ("dynamic", [])):
            binary = Path(self.folder.name, kind)
            subprocess.run(["rustc", "--edition=2024", *flags, "-o", binary, source], check=True, cwd=HERE)
            files = {"/usr/bin/probe": binary, **({} if kind == "static" else images.glibc(binary))}
            archive = Path(self.folder.name, f"{kind}.tar")
            images.write_archive(archive, f"localhost/selftest/{kind}:1", files, ["/usr/bin/probe"])
            cluster("import", "--name", NAME, str(archive))
            apply(self.cluster, pod(kind, {"image": f"localhost/selftest/{kind}:1"}, restartPolicy="Never"))
            kubectl(self.cluster, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{kind}", "-n", NAME, "--timeout=60s")
            self.assertRegex(kubectl(self.cluster, "logs", kind, "-n", NAME), r"10\.\d+\.0\.1:443")

    def test_names_resolve_in_pods(self):
        apply(self.cluster, pod("resolver", {"image": "localhost/selftest/tools:1", "args": ["600"]}))
        kubectl(self.cluster, "wait", "--for=condition=Ready", "pod/resolver", "-n", NAME, "--timeout=60s")
        resolved = kubectl(self.cluster, "exec", "resolver", "-n", NAME, "--", "getent", "hosts", "kube-dns.kube-system.svc.cluster.local")
        self.assertIn(self.cluster["dns"], resolved)
        resolved = kubectl(self.cluster, "exec", "resolver", "-n", NAME, "--", "getent", "hosts", "kubernetes.default")
        self.assertIn("kubernetes.default.svc.cluster.local", resolved)

    def test_pods_that_break_the_restricted_profile_are_refused(self):
        with self.assertRaisesRegex(AssertionError, "violates PodSecurity"):
            bad = pod("bad", {"image": "localhost/selftest/tools:1", "securityContext": {"privileged": True}})
            apply(self.cluster, bad)

    def test_a_host_folder_is_read_through_a_claim(self):
        folder = Path(self.folder.name, "model")
        folder.mkdir()
        (folder / "weights").write_text("weights")
        cluster("pv", "--name", NAME, "--namespace", NAME, "--claim", "model", "--path", str(folder))
        mount = {"volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}]}
        volume = {"name": "model", "persistentVolumeClaim": {"claimName": "model", "readOnly": True}}
        reader = {"image": "localhost/selftest/tools:1", "command": ["/usr/bin/cat"], "args": ["/model/weights"], **mount}
        apply(self.cluster, pod("reader", reader, restartPolicy="Never", volumes=[volume]))
        kubectl(self.cluster, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "-n", NAME, "--timeout=60s")
        self.assertEqual(kubectl(self.cluster, "logs", "reader", "-n", NAME), "weights")

    def test_a_pod_gets_a_gpu_that_is_not_there(self):
        cluster("fake-gpus", "--name", NAME, "8")
        limits = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
        apply(self.cluster, pod("gpu", {"image": "localhost/selftest/tools:1", "args": ["600"], **limits}))
        kubectl(self.cluster, "wait", "--for=condition=Ready", "pod/gpu", "-n", NAME, "--timeout=60s")
        cluster("component", "--name", NAME, "kubelet", "restart")
        time.sleep(3)
        allocatable = kubectl(self.cluster, "get", "node", "node1", "-o", "jsonpath={.status.allocatable.nvidia\\.com/gpu}")
        self.assertEqual(allocatable, "8")

    def test_mutating_requests_are_in_the_audit_log(self):
        kubectl(self.cluster, "create", "configmap", "audited", "-n", NAME)

        def logged() -> bool:
            lines = [json.loads(line) for line in Path(self.cluster["auditLog"]).read_text().splitlines() if line.endswith("}")]
            return any(line["verb"] == "create" and line["objectRef"].get("name") == "audited" for line in lines)

        eventually("the request is in the audit log", logged)

    def scheduler(self) -> str:
        """Its process, while it has one."""
        return cluster("enter", "--name", NAME, "--", "pgrep", "-x", "kube-scheduler", check=False).stdout.strip()

    def test_a_component_that_dies_is_started_again(self):
        before = eventually("a scheduler", self.scheduler)
        cluster("enter", "--name", NAME, "--", "kill", "-KILL", before)
        eventually("another scheduler", lambda: self.scheduler() not in ("", before))

    def test_a_restarted_component_is_another_process_at_once(self):
        before = eventually("a scheduler", self.scheduler)
        cluster("component", "--name", NAME, "kube-scheduler", "restart")
        self.assertNotIn(self.scheduler(), ("", before))

    def test_the_api_server_is_stopped_and_started(self):
        cluster("component", "--name", NAME, "kube-apiserver", "stop")
        with self.assertRaises(AssertionError):
            kubectl(self.cluster, "get", "--raw", "/readyz")
        time.sleep(1)
        with self.assertRaises(AssertionError):
            kubectl(self.cluster, "get", "--raw", "/readyz")
        cluster("component", "--name", NAME, "kube-apiserver", "start")
        begun = time.monotonic()
        eventually("the API server is back", lambda: kubectl(self.cluster, "get", "--raw", "/readyz") == "ok")
        report("API server back after a stop", time.monotonic() - begun)

    def test_up_keeps_a_cluster_that_runs(self):
        begun = time.monotonic()
        self.assertEqual(up(NAME)["initPid"], self.cluster["initPid"])
        report("up of a running cluster", time.monotonic() - begun)

    def test_a_second_cluster_lives_beside_the_first(self):
        try:
            second = up("selftest-second", "--fresh")
            self.assertNotEqual(second["number"], self.cluster["number"])
            for described in (self.cluster, second):
                self.assertIn("node1", kubectl(described, "get", "nodes", "-o", "name"))
                urllib.request.urlopen(f"http://{self.dns_pod(described)}:8080/health", timeout=5)
        finally:
            cluster("down", "--name", "selftest-second")
        self.assertIn("node1", kubectl(self.cluster, "get", "nodes", "-o", "name"))
        assert_clean()

    def dns_pod(self, described: dict) -> str:
        return kubectl(described, "get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "jsonpath={.items[0].status.podIP}")

    def test_a_dump_has_objects_events_and_logs(self):
        with tempfile.TemporaryDirectory() as folder:
            cluster("dump", "--name", NAME, folder)
            for name in ("overview.txt", "events.txt", "objects/deployments.apps.yaml", "log/kubelet.log", "log/audit.log"):
                self.assertGreater(Path(folder, name).stat().st_size, 100, name)
            self.assertFalse(Path(folder, "objects/secrets.yaml").exists())


class Accidents(unittest.TestCase):
    """What is killed or interrupted leaves nothing, or nothing that the next start does not repair."""

    name = "selftest-accident"

    def tearDown(self):
        cluster("down", "--name", self.name)
        assert_clean()

    def starter(self) -> subprocess.Popen:
        process = subprocess.Popen([TOOL, "up", "--name", self.name, "--fresh"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("it starts", lambda: self.described() and self.described()["initPid"])
        return process

    def described(self) -> dict | None:
        return next((item for item in json.loads(cluster("list").stdout) if item["name"] == self.name), None)

    def test_an_interrupted_start_leaves_nothing(self):
        process = self.starter()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), 130)
        self.assertIsNone(self.described())
        assert_clean()

    def test_the_next_start_repairs_what_a_killed_starter_left(self):
        process = self.starter()
        process.kill()
        process.wait()
        described = up(self.name)
        self.assertIn("node1", kubectl(described, "get", "nodes", "-o", "name"))

    def test_the_next_start_repairs_what_a_killed_keeper_and_first_process_left(self):
        described = up(self.name)
        os.kill(described["initPid"], signal.SIGKILL)
        eventually("it is dead", lambda: self.described()["state"] == "dead")
        self.assertEqual(cluster("check-clean", check=False).returncode, 1)
        again = up(self.name)
        self.assertIn("node1", kubectl(again, "get", "nodes", "-o", "name"))

    def test_a_cluster_goes_with_its_owner(self):
        owner = subprocess.Popen(["sleep", "600"])
        up(self.name, "--while-pid", str(owner.pid), "--control-plane-only")
        owner.kill()
        owner.wait()
        begun = time.monotonic()
        eventually("it is gone", lambda: self.described() is None)
        report("gone after its owner", time.monotonic() - begun)
        assert_clean()

    def test_a_released_cluster_outlives_its_owner(self):
        owner = subprocess.Popen(["sleep", "600"])
        up(self.name, "--while-pid", str(owner.pid), "--control-plane-only")
        cluster("release", "--name", self.name)
        owner.kill()
        owner.wait()
        time.sleep(1)
        self.assertEqual(self.described()["state"], "ready")

    def test_a_control_plane_alone_serves_the_api(self):
        begun = time.monotonic()
        described = up(self.name, "--control-plane-only")
        report("up of a control plane alone", time.monotonic() - begun)
        kubectl(described, "create", "namespace", "alone")
        eventually("its ServiceAccount", lambda: "default" in kubectl(described, "get", "serviceaccounts", "-n", "alone", "-o", "name"))
        self.assertEqual(json.loads(kubectl(described, "version", "-o", "json"))["serverVersion"]["gitVersion"], "v1.36.3")


if __name__ == "__main__":
    # a script's background job ignores interrupts, and so would what it starts and wants to interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.main(verbosity=2)

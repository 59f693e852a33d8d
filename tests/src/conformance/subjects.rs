//! The kinds that Weir writes, and changes to them that its components and others make.

use serde_json::{Value, json};

/// One kind to write to.
pub struct Subject {
    path: &'static str,
    plural: &'static str,
    /// Whether it lives in a namespace.
    pub namespaced: bool,
    base: fn() -> Value,
    /// Merge patches of the object.
    pub changes: &'static [fn() -> Value],
    /// What other appliers make of a configuration: they state a part of it.
    pub partial: &'static [fn(Value) -> Value],
    /// States of the status, for kinds that have one.
    pub status: Option<&'static [fn() -> Value]>,
}

impl Subject {
    /// Path of the kind's objects.
    pub fn collection(&self, namespace: &str) -> String {
        if self.namespaced {
            format!("{}/namespaces/{namespace}/{}", self.path, self.plural)
        } else {
            format!("{}/{}", self.path, self.plural)
        }
    }

    /// The object under this name, as Weir states it first.
    pub fn object(&self, name: &str) -> Value {
        let mut object = (self.base)();
        object["metadata"]["name"] = json!(name);
        object
    }
}

fn only_labels(config: Value) -> Value {
    json!({"apiVersion": config["apiVersion"], "kind": config["kind"],
        "metadata": {"name": config["metadata"]["name"], "labels": {"owner": "someone-else", "tier": "edited"}}})
}

fn whole(config: Value) -> Value {
    config
}

fn annotate() -> Value {
    json!({"metadata": {"annotations": {"note": "x"}}})
}

fn label() -> Value {
    json!({"metadata": {"labels": {"owner": "weir"}}})
}

/// The kinds.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        path: "/apis/apps/v1",
        plural: "deployments",
        namespaced: true,
        base: deployment,
        changes: &[
            || json!({"spec": {"replicas": 2}}),
            || json!({"spec": {"replicas": 0}}),
            || json!({"spec": {"template": {"metadata": {"annotations": {"weights": "sha256:1"}}}}}),
            || json!({"spec": {"template": {"spec": {"nodeSelector": {"tier": "l4"}, "terminationGracePeriodSeconds": 60}}}}),
            || json!({"spec": {"template": {"spec": {"containers": [container("engine", "250m", "1024Mi")]}}}}),
            || json!({"spec": {"template": {"spec": {"containers": [container("sidecar", "0.1", "64Mi"), container("engine", "1000m", "1Gi")]}}}}),
            || json!({"spec": {"template": {"spec": {"volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "m"}}, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]}}}}),
            || json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
            || json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
            annotate,
            label,
        ],
        partial: &[only_labels, whole, |mut config| {
            config["spec"] = json!({"replicas": 3});
            config
        }],
        status: Some(&[
            || json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1}),
            || json!({"conditions": [{"type": "Available", "status": "True", "reason": "Enough", "message": "1 of 1", "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
            || json!({}),
        ]),
    },
    Subject {
        path: "/api/v1",
        plural: "services",
        namespaced: true,
        base: service,
        changes: &[
            || json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8001}]}}),
            || json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 9090, "protocol": "TCP"}]}}),
            || json!({"spec": {"selector": {"app": "other"}}}),
            annotate,
            label,
        ],
        partial: &[only_labels, whole],
        status: None,
    },
    Subject {
        path: "/api/v1",
        plural: "secrets",
        namespaced: true,
        base: || {
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"app": "weir"}}, "type": "inference.weir.dev/client-key",
            "data": {"api-key": "d2Vpci0x", "base-url": "aHR0cDovL3g="}})
        },
        changes: &[
            || json!({"data": {"api-key": "d2Vpci0y"}}),
            || json!({"data": {"more": "eA=="}}),
            || json!({"immutable": true}),
            || json!({"type": "Opaque"}),
            annotate,
        ],
        partial: &[only_labels, whole],
        status: None,
    },
    Subject {
        path: "/apis/coordination.k8s.io/v1",
        plural: "leases",
        namespaced: true,
        base: || {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0, "renewTime": "2026-01-01T00:00:00.000000Z"}})
        },
        changes: &[
            || json!({"spec": {"holderIdentity": "b", "leaseTransitions": 1}}),
            || json!({"spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}}),
            || json!({"spec": {"holderIdentity": null}}),
            label,
        ],
        partial: &[only_labels, whole],
        status: None,
    },
    Subject {
        path: "/apis/inference.weir.dev/v1alpha1",
        plural: "inferenceworkloads",
        namespaced: true,
        base: workload,
        changes: &[
            || json!({"spec": {"dataPolicy": {"allowedJurisdictions": ["EU", "DE"]}}}),
            || json!({"spec": {"dataPolicy": {"egress": "Forbidden"}}}),
            || json!({"spec": {"traffic": {"spillover": {"enabled": true, "queueWait": "1s"}, "failover": {"triggers": ["Connect"]}}}}),
            || json!({"spec": {"traffic": {"canary": {"steps": [{"weight": 5, "pause": "10m"}]}}}}),
            || json!({"spec": {"targets": [external("mini", "gpt-y")]}}),
            || json!({"spec": {"targets": [local("big", 3), external("mini", "gpt-x")]}}),
            || json!({"spec": {"targets": [external("mini", "gpt-x"), external("mini", "gpt-x")]}}),
            || json!({"spec": {"targets": [{"name": "neither"}]}}),
            || json!({"spec": {"placement": {"mode": "Pinned"}}}),
            || json!({"spec": {"placement": {"mode": "Pinned", "pinnedTarget": "mini"}}}),
            || json!({"spec": {"placement": {"mode": "Sometimes"}}}),
            || json!({"spec": {"demand": {"source": "Declared", "requestsPerMonth": 1000, "inputTokens": {"p50": 9, "p95": 5}}}}),
            || json!({"spec": {"demand": {"requestsPerMonth": "many"}}}),
            || json!({"spec": {"slo": {"ttft": "soon"}}}),
            || json!({"spec": {"suspend": true, "unknown": 1}}),
            annotate,
            label,
        ],
        partial: &[only_labels, whole, |mut config| {
            config["spec"] = json!({"targets": [external("extra", "gpt-z")]});
            config
        }],
        status: Some(&[
            || json!({"observedGeneration": 1, "conditions": [condition("Ready", "True"), condition("Placed", "True")]}),
            || json!({"conditions": [condition("Ready", "False")]}),
            || json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            || json!({"placement": placement(1, 90)}),
            || json!({"placement": placement(2, 100)}),
            || json!({"history": [{"id": "d-1", "time": "2026-01-01T00:00:00Z", "to": "local", "reason": "Initial"}]}),
            || json!({"clientKey": {"secretName": "s", "sha256": "0".repeat(64), "counter": 0}, "endpoint": {"url": "http://x/v1", "model": "m"}}),
        ]),
    },
    Subject {
        path: "/apis/inference.weir.dev/v1alpha1",
        plural: "gpunodes",
        namespaced: false,
        base: || json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUNode", "metadata": {}, "spec": {}}),
        changes: &[annotate, label, || json!({"status": {"deviceCount": 9}})],
        partial: &[only_labels, whole],
        status: Some(&[
            || json!({"deviceCount": 1, "gpuUtilizationPercent": 10, "devices": [{"uuid": "GPU-1", "model": "L4", "memoryBytes": 24}]}),
            || json!({"gpuUtilizationPercent": 20, "devices": [{"uuid": "GPU-2", "model": "L4", "memoryBytes": 24}, {"uuid": "GPU-1", "model": "L4", "memoryBytes": 24}]}),
            || json!({"agentVersion": "0.1.0"}),
        ]),
    },
    Subject {
        path: "/apis/inference.weir.dev/v1alpha1",
        plural: "inferencedemands",
        namespaced: true,
        base: || json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceDemand", "metadata": {}, "spec": {}}),
        changes: &[annotate, label, || json!({"status": {"knownHours": 9}})],
        partial: &[only_labels, whole],
        status: Some(&[
            || json!({"knownHours": 1, "newestHour": "2026-01-01T00:00:00Z", "runs": [hours("2026-01-01T00:00:00Z", &[9])]}),
            || json!({"knownHours": 3, "runs": [hours("2026-01-01T00:00:00Z", &[9, 0]), hours("2026-01-01T05:00:00Z", &[4])]}),
            || json!({"runs": [hours("2026-01-01T00:30:00Z", &[9])]}),
            || json!({"runs": [hours("2026-01-01T00:00:00Z", &[9, 0, 0])]}),
        ]),
    },
    Subject {
        path: "/apis/inference.weir.dev/v1alpha1",
        plural: "inferencepricebooks",
        namespaced: false,
        base: || {
            json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook", "metadata": {},
            "spec": {"source": {"inline": {"entries": [price("gpt-x", "1.5")]}}}})
        },
        changes: &[
            || json!({"spec": {"source": {"inline": {"entries": [price("gpt-y", "2"), price("gpt-x", "1.25")]}}}}),
            || json!({"spec": {"source": {"inline": {"entries": [price("gpt-x", "-1")]}}}}),
            || json!({"spec": {"source": {"http": {"url": "https://prices"}}}}),
            annotate,
        ],
        partial: &[only_labels, whole],
        status: Some(&[
            || json!({"revision": "r1", "prices": [price("gpt-x", "1.5")]}),
            || json!({"revision": "r2", "prices": [price("gpt-y", "2"), price("gpt-x", "1.25")], "conditions": [condition("Ready", "True")]}),
        ]),
    },
];

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"app": "engine"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "engine"}},
            "template": {"metadata": {"labels": {"app": "engine"}}, "spec": {"serviceAccountName": "engine", "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container("engine", "250m", "512Mi")]}}}})
}

fn container(name: &str, cpu: &str, memory: &str) -> Value {
    json!({"name": name, "image": "localhost/weir/engine:1", "args": ["engine", "serve"],
        "env": [{"name": "MODEL", "value": "/m"}, {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8000}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}})
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {"app": "engine"}},
        "spec": {"selector": {"app": "engine"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]}})
}

fn workload() -> Value {
    json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload", "metadata": {"labels": {"team": "a"}},
        "spec": {"dataPolicy": {"egress": "Allowed"}, "targets": [local("local", 1), external("mini", "gpt-x")]}})
}

fn local(name: &str, max: i32) -> Value {
    json!({"name": name, "local": {"modelRef": {"name": "m"}, "tiers": ["cpu"], "scaling": {"maxReplicas": max}}})
}

fn external(name: &str, model: &str) -> Value {
    json!({"name": name, "external": {"providerRef": {"name": "p"}, "model": model}})
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "Because", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn placement(step: i64, weight: i32) -> Value {
    json!({"target": "local", "location": "Local", "since": "2026-01-01T00:00:00Z", "decisionId": "d-1", "step": step,
        "stepSince": "2026-01-01T00:00:00Z", "generation": 1,
        "weights": [{"target": "local", "weight": weight}, {"target": "mini", "weight": 100 - weight}]})
}

/// Three hours or more have too few tokens of answers.
fn hours(start: &str, requests: &[u32]) -> Value {
    let tokens = vec![10; requests.len()];
    json!({"start": start, "requests": requests, "inputTokens": tokens, "cachedInputTokens": tokens,
        "outputTokens": tokens[..tokens.len().min(2)]})
}

fn price(model: &str, input: &str) -> Value {
    json!({"model": model, "inputUsdPerMillionTokens": input, "outputUsdPerMillionTokens": "3"})
}

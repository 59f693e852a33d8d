//! `InferenceProvider`: a cloud model API, its terms and its models.

use crate::quantity::{DECIMAL_LENGTH, is_decimal};
use crate::workload::NameRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cloud model API: where it is, under which terms, and what it serves.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "InferenceProvider",
    status = "InferenceProviderStatus",
    shortname = "iprov",
    category = "inference",
    derive = "PartialEq",
    doc = "A cloud model API that external targets may use.",
    cel,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Circuit", type_ = "string", json_path = ".status.circuit"),
    printcolumn(
        name = "Jurisdiction",
        type_ = "string",
        json_path = ".spec.jurisdiction"
    ),
    printcolumn(
        name = "TTFT",
        type_ = "integer",
        json_path = ".status.observedTtftMillis"
    ),
    printcolumn(name = "Error%", type_ = "integer", json_path = ".status.errorPercent"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.endpoint",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceProviderSpec {
    /// Base URL of the API up to and without the operation, such as https://api.example.com/v1. TLS is required.
    #[schemars(length(min = 9, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'https' && !self.contains('@') && !self.contains('?') && !self.contains('#')").message("endpoint must be an https URL without user, query and fragment"))]
    pub endpoint: String,
    /// The wire format of the API. Default: OpenAIChat.
    #[serde(default)]
    pub format: ProviderFormat,
    /// How requests are authenticated; without it none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,
    /// Certificate authorities to trust instead of the public ones, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message("caBundle must hold certificates in PEM"))]
    pub ca_bundle: Option<String>,
    /// Whether the endpoint may resolve to a private, loopback or link-local address. Default: false.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// Where data is processed, such as EU, DE or US; compared with a workload's allowedJurisdictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub jurisdiction: Option<String>,
    /// Whether the provider contractually keeps nothing of what it is sent. Default: false.
    #[serde(default)]
    pub zero_retention: bool,
    /// Namespaces whose workloads may use the provider. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Vec<String>,
    /// The InferencePriceBook that has the prices of these models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_book_ref: Option<NameRef>,
    /// The models that workloads may use.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub models: Vec<ProviderModel>,
}

/// Wire format of a provider's API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderFormat {
    /// OpenAI chat completions, completions and embeddings.
    #[default]
    OpenAIChat,
}

/// How requests are authenticated.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderAuth {
    /// The Secret with the API key, in the namespace for provider keys; sent as a bearer token.
    pub secret_ref: SecretKeyRef,
}

/// A key in a Secret of the namespace for provider keys.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret in the namespace for provider keys.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's data. Default: api-key.
    #[serde(default = "api_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn api_key() -> String {
    "api-key".to_owned()
}

/// A model of the provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderModel {
    /// Name of the model in the provider's API.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Name of the model in the price book. Default: the model's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub price_key: Option<String>,
    /// Context length in tokens; unknown when absent, and then a workload that needs one is not sent here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub context_tokens: Option<i64>,
    /// Models of one group stand in for each other: a move between them needs no requalification. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub equivalence_group: Option<String>,
    /// What the model can do, such as Tools or Vision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub capabilities: Vec<String>,
    /// Scores of the model on benchmarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["benchmark".into()]))]
    pub quality: Vec<QualityScore>,
}

/// A score on a benchmark.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QualityScore {
    /// Name of the benchmark, such as mmlu-pro.
    #[schemars(length(min = 1, max = 64))]
    pub benchmark: String,
    /// The score, a decimal such as 55 or 71.5.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub score: String,
    /// Where the score was published, for people who read the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub source: Option<String>,
}

/// What the gateways of the cloud plane measured at the provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InferenceProviderStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether requests are sent: Closed (yes), Open (no, but for one to try from time to time). Absent: it has not answered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<Circuit>,
    /// Mean time to first token in milliseconds, rounded to steps of a tenth of its size; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_ttft_millis: Option<i64>,
    /// Share of requests that failed in the last minutes, in percent; absent: not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<i32>,
    /// Conditions: Accepted, ResolvedRefs, Priced, Healthy, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// State of a circuit breaker.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests are sent.
    Closed,
    /// Requests are not sent.
    Open,
    /// Written by earlier releases while one request tried whether the provider is back; read as Open.
    HalfOpen,
}

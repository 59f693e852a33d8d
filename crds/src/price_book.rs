//! `InferencePriceBook`: prices with their source, age and provenance.

use crate::quantity::{
    DECIMAL_LENGTH, DURATION_LENGTH, is_a_second, is_decimal, is_duration, is_one_at_least,
    is_price,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prices of cloud models: where they come from, and how far they are trusted.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "InferencePriceBook",
    status = "InferencePriceBookStatus",
    shortname = "ipb",
    category = "inference",
    derive = "PartialEq",
    doc = "Prices of cloud models, with their source and age.",
    cel,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision"),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.entries"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.heldCount"),
    printcolumn(name = "AsOf", type_ = "date", json_path = ".status.asOf"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct InferencePriceBookSpec {
    /// Where the prices come from.
    pub source: PriceSource,
    /// Age of the last successful read after which prices are stale and decisions hold. Default: 7d.
    #[serde(default = "a_week")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration(), validation = is_a_second())]
    pub stale_after: String,
    /// When a changed price is held back instead of believed.
    #[serde(default)]
    pub guard: PriceGuard,
}

fn a_week() -> String {
    "7d".to_owned()
}

/// Where the prices come from: exactly one of the three.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(has(self.inline) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.http) ? 1 : 0) == 1").message("source has exactly one of inline, configMapRef and http"))]
#[serde(rename_all = "camelCase")]
pub struct PriceSource {
    /// Prices written into this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<InlinePrices>,
    /// A ConfigMap in Weir's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapPrices>,
    /// A document that is fetched over HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpPrices>,
}

/// Prices written into the object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InlinePrices {
    /// One entry for each model.
    #[schemars(length(min = 1, max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub entries: Vec<PriceEntry>,
}

/// The prices of a model, in USD per million tokens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PriceEntry {
    /// Name of the model, as a provider's priceKey has it.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// Prices by the token.
    #[serde(flatten)]
    pub tokens: TokenPrices,
    /// USD for a million requests, whatever their tokens. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub usd_per_million_requests: Option<String>,
    /// Percent off every price for requests that go through the provider's batch interface. It lowers no cost: no request is sent through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub batch_discount_percent: Option<i32>,
    /// Prices of requests whose prompt is longer than a threshold; the highest threshold that is exceeded counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["aboveInputTokens".into()]))]
    pub context_tiers: Vec<ContextTierPrice>,
    /// Prices that are announced: each takes the place of all prices of the entry from its effectiveFrom on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["effectiveFrom".into()]))]
    pub upcoming: Vec<UpcomingPrice>,
}

/// Prices by the token, in USD per million tokens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenPrices {
    /// USD for a million tokens of prompts.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_price())]
    pub input_usd_per_million_tokens: String,
    /// USD for a million tokens of prompts that the prompt cache answers. Default: the input price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_price())]
    pub cached_input_usd_per_million_tokens: Option<String>,
    /// USD for a million tokens of prompts that are written into the prompt cache. Where prompts are cached, all that the cache does not answer counts as written. Default: the input price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_price())]
    pub cache_write_usd_per_million_tokens: Option<String>,
    /// USD for a million tokens of answers.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_price())]
    pub output_usd_per_million_tokens: String,
    /// USD for a million tokens of reasoning. How many of an answer's tokens are reasoning is not known: all count at the dearer of both prices. Default: the output price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_price())]
    pub reasoning_usd_per_million_tokens: Option<String>,
}

/// Prices of whole requests whose prompt is longer than a threshold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContextTierPrice {
    /// Prompts of more tokens than this are billed so.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub above_input_tokens: i64,
    /// Prices by the token.
    #[serde(flatten)]
    pub tokens: TokenPrices,
}

/// A price that is announced.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UpcomingPrice {
    /// When it begins to hold. It is judged by the guard then, as any change is.
    pub effective_from: Time,
    /// Prices by the token.
    #[serde(flatten)]
    pub tokens: TokenPrices,
    /// USD for a million requests, whatever their tokens. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub usd_per_million_requests: Option<String>,
    /// Prices of requests whose prompt is longer than a threshold; the highest threshold that is exceeded counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["aboveInputTokens".into()]))]
    pub context_tiers: Vec<ContextTierPrice>,
}

/// A ConfigMap in Weir's own namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapPrices {
    /// Name of the ConfigMap in Weir's own namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the ConfigMap that holds the document.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Format of the document. Default: Weir.
    #[serde(default)]
    pub format: PriceFormat,
}

/// A document that is fetched over HTTPS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpPrices {
    /// Where the document is. TLS is required.
    #[schemars(length(min = 9, max = 1024))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'https' && !self.contains('@')").message("url must be an https URL without user"))]
    pub url: String,
    /// How often the document is fetched, at least every second. Default: 1h.
    #[serde(default = "an_hour")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration(), validation = is_a_second())]
    pub interval: String,
    /// Format of the document. Default: Weir.
    #[serde(default)]
    pub format: PriceFormat,
    /// Certificate authorities to trust instead of the public ones, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message("caBundle must hold certificates in PEM"))]
    pub ca_bundle: Option<String>,
    /// Whether the URL may resolve to a private, loopback or link-local address. Default: false.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

fn an_hour() -> String {
    "1h".to_owned()
}

/// Format of a price document.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriceFormat {
    /// `{"entries": […]}` in YAML or JSON, with entries as in `inline`, USD per million tokens.
    #[default]
    Weir,
    /// LiteLLM's model_prices_and_context_window.json, USD per token.
    LiteLLM,
    /// The answer of OpenRouter's models endpoint, USD per token in strings.
    OpenRouter,
}

/// When a changed price is held back instead of believed.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PriceGuard {
    /// Ratio of new to old price, or old to new, above which a change is held; at least 1. Default: 2.
    #[serde(default = "two")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal(), validation = is_one_at_least())]
    pub max_change_ratio: String,
    /// How long a held price must be seen, in at least two more fetches, before it is believed. Default: 24h.
    #[serde(default = "a_day")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub confirm_for: String,
}

fn two() -> String {
    "2".to_owned()
}

fn a_day() -> String {
    "24h".to_owned()
}

impl Default for PriceGuard {
    fn default() -> Self {
        Self {
            max_change_ratio: two(),
            confirm_for: a_day(),
        }
    }
}

/// What was read from the source, what of it is believed, and what is held back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InferencePriceBookStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Changes with every accepted price: a hash of the believed prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When the source last confirmed the prices; rewritten at most every quarter of staleAfter, or with a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
    /// Models that the source has prices for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<i64>,
    /// Rows of the source without a price that can be used, at most twenty; those that providers refer to come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub unread: Vec<RowRemark>,
    /// How many rows of the source have no price that can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_count: Option<i64>,
    /// Fees of believed prices that no cost counts, such as those of searches; at most twenty models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub uncounted: Vec<RowRemark>,
    /// ETag of the document that was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub etag: Option<String>,
    /// Believed prices of the models that providers refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub prices: Vec<PriceEntry>,
    /// Prices that the guard holds back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub held: Vec<HeldPrice>,
    /// How many prices the guard holds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_count: Option<i64>,
    /// The last accepted changes, the newest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_changes: Vec<PriceChange>,
    /// Conditions: Accepted, Fetched, PriceFresh, Trusted, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What there is to say of a row of the source.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RowRemark {
    /// Name of the model, as the source has it.
    pub model: String,
    /// What is the matter with its row.
    pub reason: String,
}

/// A change that the guard holds back.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeldPrice {
    /// Name of the model whose price is held.
    pub model: String,
    /// What the source has for the model: another Price, Nothing any more, or a row that is Unreadable.
    pub found: Found,
    /// The price that was read and is not believed yet; absent unless a price was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<PriceEntry>,
    /// Why it is held, with both numbers.
    pub reason: String,
    /// Names this change alone: whoever confirms it names this.
    pub revision: String,
    /// When it was read first.
    pub since: Time,
    /// How many fetches have confirmed it since.
    pub confirmations: i32,
}

/// What the source has for a model whose believed price is kept.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Another price.
    Price,
    /// No row any more.
    Nothing,
    /// A row that cannot be read; it never replaces a price.
    Unreadable,
}

/// An accepted change of a price.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PriceChange {
    /// When the change was accepted.
    pub time: Time,
    /// Name of the model whose price changed.
    pub model: String,
    /// What the price was before; absent for a new model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PricePair>,
    /// What the price is now; absent for a model that was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PricePair>,
}

/// The two main prices of a model.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PricePair {
    /// USD for a million tokens of prompts.
    pub input_usd_per_million_tokens: String,
    /// USD for a million tokens of answers.
    pub output_usd_per_million_tokens: String,
}

//! Which headers pass. Everything that is not named here stays behind.

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};

/// Towards targets. Never the client's key, cookies or addresses; never `accept-encoding`, because answers are metered.
const REQUEST: [&str; 7] = [
    "content-type",
    "accept",
    "user-agent",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "x-request-id",
];

/// Towards clients.
const RESPONSE: [HeaderName; 3] = [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER];

/// What opens an engine.
pub(crate) const ENGINE_KEY: HeaderName = HeaderName::from_static(weir_engine_key::HEADER);
/// How long the engine says that a request waits now, in milliseconds.
pub(crate) const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-weir-queue-wait-ms");

/// The headers of a client's request that a target sees.
pub(crate) fn towards_target(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(REQUEST.len());
    for name in REQUEST.map(HeaderName::from_static) {
        if let Some(value) = headers.get(&name) {
            passed.insert(name, value.clone());
        }
    }
    passed
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    passed
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    passed
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static("weir"));
    passed
}

/// The headers of a target's answer that a client sees.
pub(crate) fn towards_client(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(RESPONSE.len() + 4);
    for name in RESPONSE {
        if let Some(value) = headers.get(&name) {
            passed.insert(name, value.clone());
        }
    }
    if let Some(id) = headers.get("x-request-id") {
        passed.insert("x-request-id", id.clone());
    }
    passed
}

/// Whether an answer is a stream of events.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(weir_openai::sse::CONTENT_TYPE.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cookies_and_addresses_stay_behind() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "api-key",
            "cookie",
            "x-forwarded-for",
            "accept-encoding",
            "connection",
            "host",
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static("canary"),
            );
        }
        headers.insert("traceparent", HeaderValue::from_static("00-1"));
        let passed = towards_target(&headers);
        assert!(passed.values().all(|value| value != "canary"));
        assert_eq!(
            passed.get("traceparent"),
            Some(&HeaderValue::from_static("00-1"))
        );
    }

    #[test]
    fn what_a_provider_says_of_itself_stays_behind() {
        let mut headers = HeaderMap::new();
        for name in [
            "server",
            "set-cookie",
            "openai-organization",
            "location",
            "content-length",
            "x-internal",
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static("canary"),
            );
        }
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let passed = towards_client(&headers);
        assert_eq!(
            (passed.len(), passed.get(RETRY_AFTER)),
            (1, Some(&HeaderValue::from_static("7")))
        );
    }
}

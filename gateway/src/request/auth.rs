//! Whose request it is: a key names a workload, and a path may only repeat that.

use crate::routing::keys::KeyHash;
use crate::routing::table::{RouteTable, Workload};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use weir_openai::{ApiError, ErrorCode};

/// Longest key that is looked at.
const MAX_KEY: usize = 512;

/// The workload whose key the request carries.
///
/// # Errors
/// When there is no key, or it belongs to no workload of this plane.
pub(crate) fn authenticate(
    table: &RouteTable,
    headers: &HeaderMap,
) -> Result<Arc<Workload>, ApiError> {
    let key = presented(headers).ok_or_else(|| {
        ApiError::new(
            ErrorCode::MissingApiKey,
            "send the workload's key in the header `authorization: Bearer <key>`",
        )
    })?;
    let hash: KeyHash = Sha256::digest(key).into();
    let now = jiff::Timestamp::now().as_second();
    table
        .by_key(&hash)
        .filter(|workload| workload.keys.accepts(&hash, now))
        .cloned()
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::InvalidApiKey,
                "the key belongs to no workload of this endpoint",
            )
        })
}

/// The key in `authorization: Bearer` or `api-key`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| key.trim_ascii())
    });
    bearer
        .or_else(|| {
            headers
                .get("api-key")
                .map(|value| value.as_bytes().trim_ascii())
        })
        .filter(|key| !key.is_empty() && key.len() <= MAX_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case("authorization", "Bearer k", Some("k"))]
    #[case("authorization", "bearer  k ", Some("k"))]
    #[case("authorization", "Basic k", None)]
    #[case("authorization", "Bearer ", None)]
    #[case("authorization", "Bea", None)]
    #[case("api-key", "k", Some("k"))]
    #[case("x-api-key", "k", None)]
    fn a_key_comes_as_bearer_or_api_key(
        #[case] name: &'static str,
        #[case] value: &'static str,
        #[case] expected: Option<&str>,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(presented(&headers), expected.map(str::as_bytes));
    }
}

//! A provider's API key.

use http::header::HeaderValue;

/// A provider's API key. No form of printing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// A key that can stand in a header.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let text = bytes.trim_ascii();
        if text.is_empty() {
            return None;
        }
        let mut value = HeaderValue::from_bytes(text).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The value of a header that is the key after a prefix.
    pub(crate) fn with_prefix(&self, prefix: &'static str) -> HeaderValue {
        let text = [prefix.as_bytes(), self.0.as_bytes()].concat();
        // Both parts are values of headers, and so is one after the other.
        let mut value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| self.0.clone());
        value.set_sensitive(true);
        value
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ApiKey { redacted }")
    }
}

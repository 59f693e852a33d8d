//! Keeps connections to providers away from private addresses, after names are resolved.

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether an address is not one of the public internet.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_private_v4(mapped);
    }
    let embedded = Ipv4Addr::new(
        (segments[6] >> 8) as u8,
        (segments[6] & 0xff) as u8,
        (segments[7] >> 8) as u8,
        (segments[7] & 0xff) as u8,
    );
    let is_nat64 = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let is_compatible = segments[..6] == [0; 6];
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || (segments[0] & 0xfe00) == 0xfc00
        || (segments[0] & 0xffc0) == 0xfe80
        || (segments[0] & 0xffc0) == 0xfec0
        || (segments[0] == 0x2001 && segments[1] == 0xdb8)
        || segments[0] == 0x2002
        || ((is_nat64 || is_compatible) && is_private_v4(embedded))
}

/// A resolver that leaves out private addresses.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver {
    allow_private: bool,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map_err(|_| io::Error::other(UnknownName))?;
            let usable: Vec<_> = found
                .filter(|address| allow_private || !is_private(address.ip()))
                .collect();
            if usable.is_empty() {
                return Err(refused());
            }
            Ok(usable.into_iter())
        })
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, PrivateAddress)
}

/// There is no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the provider's name has private addresses only")]
pub(crate) struct PrivateAddress;

/// The name has no address.
#[derive(Debug, thiserror::Error)]
#[error("the provider's name cannot be resolved")]
pub(crate) struct UnknownName;

/// A TCP connector that goes to public addresses only, unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct GuardedConnector {
    inner: HttpConnector<GuardedResolver>,
    allow_private: bool,
}

impl GuardedConnector {
    /// A connector; `configure` sets timeouts and socket options.
    pub(crate) fn new(
        allow_private: bool,
        configure: impl FnOnce(&mut HttpConnector<GuardedResolver>),
    ) -> Self {
        let mut inner = HttpConnector::new_with_resolver(GuardedResolver { allow_private });
        inner.enforce_http(false);
        configure(&mut inner);
        Self {
            inner,
            allow_private,
        }
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = <HttpConnector<GuardedResolver> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // An address in the URL never reaches the resolver.
        let literal = uri
            .host()
            .and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(is_private) && !self.allow_private {
            return Box::pin(std::future::ready(Err(refused().into())));
        }
        let connecting = self.inner.call(uri);
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10.0.0.1", true)]
    #[case("172.16.5.4", true)]
    #[case("192.168.1.1", true)]
    #[case("127.0.0.1", true)]
    #[case("169.254.169.254", true)]
    #[case("100.64.0.1", true)]
    #[case("0.0.0.0", true)]
    #[case("255.255.255.255", true)]
    #[case("::1", true)]
    #[case("fd00::1", true)]
    #[case("fe80::1", true)]
    #[case("::ffff:10.0.0.1", true)]
    #[case("64:ff9b::a00:1", true)]
    #[case("::127.0.0.1", true)]
    #[case("2002:a00:1::", true)]
    #[case("8.8.8.8", false)]
    #[case("172.32.0.1", false)]
    #[case("2606:4700::1111", false)]
    #[case("::ffff:8.8.8.8", false)]
    fn private_addresses_are_known_in_every_spelling(
        #[case] address: IpAddr,
        #[case] private: bool,
    ) {
        assert_eq!(is_private(address), private);
    }

    #[rstest]
    #[case("https://127.0.0.1:1/")]
    #[case("https://[::1]:1/")]
    #[case("https://localhost:1/")]
    #[tokio::test]
    async fn a_private_address_is_refused_before_a_connection(#[case] uri: Uri) {
        let mut connector = GuardedConnector::new(false, |_| {});
        let error = connector.call(uri).await.expect_err("refused");
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
        let mut text = String::new();
        while let Some(error) = source {
            text.push_str(&error.to_string());
            source = error.source();
        }
        assert!(text.contains("private addresses"), "{text}");
    }
}

//! Identity of Weir's components: who may speak to whom, proven by short-lived certificates.
//!
//! * [`Identity`] is the name of a component, a SPIFFE URI.
//! * [`CertificateAuthority`] signs; [`review`] decides what a `CertificateSigningRequest` may be signed for.
//! * [`request`] obtains a certificate from the cluster, [`CertificateSource`] keeps one fresh.
//! * [`server_config`], [`client_config`], [`serve_tonic`] and [`connect`] put mutual TLS under gRPC.
#![forbid(unsafe_code)]

mod authority;
mod identity;
mod leaf;
mod request;
mod review;
mod source;
mod tls;
mod transport;

pub use authority::{CertificateAuthority, IssueError, MAX_LEAF_LIFETIME};
pub use identity::{Identity, IdentityKind, ParseIdentityError, TRUST_DOMAIN, dns_name};
pub use leaf::{Leaf, LeafError};
pub use request::{RequestError, RequestOptions, request};
pub use review::{
    Approved, Reviewer, SIGNER_NAME, ServiceAccounts, SigningRefusal, is_settled, review,
};
pub use source::CertificateSource;
pub use tls::{ClientTls, ServerTls, TlsError, client_config, server_config};
pub use transport::{ConnectError, HandshakeCounters, PeerInfo, ServeError, connect, serve_tonic};

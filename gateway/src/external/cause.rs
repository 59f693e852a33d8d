//! Why a provider cannot be reached, in words that name what to do. Taken from the errors of the client, which say it in
//! many layers.

use super::guard::{PrivateAddress, UnknownName};
use http::StatusCode;
use std::error::Error;
use std::io;

/// Why a provider does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its name, or the address in its URL, is a private one.
    PrivateAddress,
    /// Its name is not known to DNS.
    Name,
    /// Nothing listens there.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// TLS failed, with the library's words.
    Tls(String),
    /// No connection for another reason.
    Connect,
    /// It was connected to and gave no answer.
    Silent,
    /// It answers that it cannot serve.
    Status(StatusCode),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PrivateAddress => formatter.write_str(
                "its address is private: set allowPrivateAddresses if it is meant to be reached there",
            ),
            Self::Name => formatter.write_str("its name is not found in DNS"),
            Self::Refused => formatter.write_str("the connection is refused"),
            Self::ConnectTimeout => {
                formatter.write_str("no connection in time: a network policy or firewall may drop it")
            }
            Self::Tls(why) => write!(formatter, "TLS fails: {why}"),
            Self::Connect => formatter.write_str("it cannot be connected to"),
            Self::Silent => formatter.write_str("it is connected to and does not answer in time"),
            Self::Status(status) => write!(formatter, "it answers with status {}", status.as_u16()),
        }
    }
}

impl Cause {
    /// Of an error of the client before there was a connection.
    pub(crate) fn of_connect(error: &(dyn Error + 'static)) -> Self {
        let mut layer = Some(error);
        while let Some(error) = layer {
            if let Some(cause) = known(error) {
                return cause;
            }
            layer = error.source();
        }
        Self::Connect
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<Cause> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(Cause::Tls(tls.to_string()));
    }
    if error.is::<PrivateAddress>() {
        return Some(Cause::PrivateAddress);
    }
    if error.is::<UnknownName>() {
        return Some(Cause::Name);
    }
    let error = error.downcast_ref::<io::Error>()?;
    // An error inside of one of these is not among its sources.
    let inner = error.get_ref().and_then(|inner| known(inner));
    inner.or(match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Cause::Refused),
        io::ErrorKind::TimedOut => Some(Cause::ConnectTimeout),
        _ => None,
    })
}

//! What opens an engine: tokens that gateways sign with a key of their plane, which a root certifies that engines know by
//! its public half alone. So an engine holds no secret, and a plane's key changes without a word to it.
//!
//! ```text
//! root ──certifies──▶ key of a plane, until a time ──signs──▶ token for one workload, for minutes
//! ```
//!
//! A token is base64url of: the key's public half (32 bytes), the end of its certificate (8), the root's signature over both
//! (64), the token's end (8), the key's signature over workload and end (64). Times are Unix seconds, big endian; signatures
//! are Ed25519 (RFC 8032).

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Request header from a gateway to an engine: the tokens that open it.
pub const HEADER: &str = "x-weir-engine-key";
/// Clocks of nodes may differ by this many seconds.
pub const CLOCK_LEEWAY: u64 = 300;

const PUBLIC: usize = 32;
const TIME: usize = 8;
const SIGNATURE: usize = 64;
const CERTIFICATE: usize = PUBLIC + TIME + SIGNATURE;
const TOKEN: usize = CERTIFICATE + TIME + SIGNATURE;
/// Tokens that one request may carry: one by each key that is in use, and no work for strangers beyond that.
const MAX_TOKENS: usize = 4;
/// What is signed begins with what it is, so that no signature can be taken for one of another kind.
const CERTIFICATE_CONTEXT: &[u8] = b"weir engine certificate v1\0";
const TOKEN_CONTEXT: &[u8] = b"weir engine token v1\0";

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No randomness, or no memory.
    #[error("no key can be made")]
    Generate,
    /// The bytes are no Ed25519 key.
    #[error("not an Ed25519 key in PKCS #8")]
    Pkcs8,
    /// The bytes are no certificate, or one of another key.
    #[error("not the certificate of this key")]
    Certificate,
    /// The text is no public key.
    #[error("not an Ed25519 public key in base64url")]
    Public,
    /// The text does not say for whom.
    #[error("not PLANE/WORKLOAD-UID")]
    Audience,
}

/// Why a request may not use an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no token.
    #[error("no token")]
    Missing,
    /// What it has is none.
    #[error("not a token")]
    Malformed,
    /// Its key is not one that the root certified for this plane.
    #[error("a key that is not certified for this plane")]
    Uncertified,
    /// Its time, or that of its key, is over.
    #[error("expired")]
    Expired,
    /// It was not signed for this workload.
    #[error("not signed for this workload")]
    OtherWorkload,
}

struct Pair {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl Pair {
    fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        Self::from_pkcs8(document.map_err(|_| KeyError::Generate)?.as_ref())
    }

    fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| KeyError::Pkcs8)?;
        let pkcs8 = bytes.to_vec();
        Ok(Self { pair, pkcs8 })
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE] {
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    fn public(&self) -> [u8; PUBLIC] {
        let mut public = [0; PUBLIC];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }
}

/// Certifies the keys of the planes. Only the operator has it.
pub struct EngineRoot(Pair);

impl fmt::Debug for EngineRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineRoot({})", self.public())
    }
}

impl EngineRoot {
    /// A new root.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Pair::generate().map(Self)
    }

    /// The root in these bytes, PKCS #8.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        Pair::from_pkcs8(bytes).map(Self)
    }

    /// PKCS #8, to be kept secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// What engines know of it, in base64url. Not a secret.
    pub fn public(&self) -> RootPublic {
        RootPublic(self.0.public())
    }

    /// A new key for the gateways of a plane, which engines take until `not_after`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn certify(&self, plane: &str, not_after: u64) -> Result<PlaneKey, KeyError> {
        let pair = Pair::generate()?;
        let public = pair.public();
        let signed = certificate_message(plane, &public, not_after);
        let certificate = [&public[..], &not_after.to_be_bytes(), &self.0.sign(&signed)].concat();
        PlaneKey::new(pair, certificate)
    }
}

/// The public half of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPublic([u8; PUBLIC]);

impl fmt::Display for RootPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for RootPublic {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| KeyError::Public)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::Public)
    }
}

/// Signs tokens. The gateways of one plane share it.
pub struct PlaneKey {
    pair: Pair,
    certificate: [u8; CERTIFICATE],
}

impl fmt::Debug for PlaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaneKey(until {})", self.not_after())
    }
}

impl PlaneKey {
    fn new(pair: Pair, certificate: Vec<u8>) -> Result<Self, KeyError> {
        let certificate = certificate.try_into().map_err(|_| KeyError::Certificate)?;
        let key = Self { pair, certificate };
        if key.certificate[..PUBLIC] == key.pair.public() {
            Ok(key)
        } else {
            Err(KeyError::Certificate)
        }
    }

    /// The key in these bytes, PKCS #8, with its certificate.
    ///
    /// # Errors
    /// When they are none, or do not belong together.
    pub fn from_parts(pkcs8: &[u8], certificate: &[u8]) -> Result<Self, KeyError> {
        Self::new(Pair::from_pkcs8(pkcs8)?, certificate.to_vec())
    }

    /// PKCS #8, to be kept secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pair.pkcs8
    }

    /// The root's word for it.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// When engines no longer take it.
    pub fn not_after(&self) -> u64 {
        time(&self.certificate[PUBLIC..])
    }

    /// Whether this root certified it for this plane.
    pub fn is_certified(&self, root: RootPublic, plane: &str) -> bool {
        is_certified(root, plane, &self.certificate)
    }

    /// What opens the engines of a workload until `not_after`.
    pub fn token(&self, workload_uid: &str, not_after: u64) -> String {
        let signature = self.pair.sign(&token_message(workload_uid, not_after));
        let bytes = [&self.certificate[..], &not_after.to_be_bytes(), &signature].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Whose tokens an engine takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    plane: String,
    workload_uid: String,
}

impl Audience {
    /// Gateways of this plane, for this workload.
    pub fn new(plane: &str, workload_uid: &str) -> Self {
        Self {
            plane: plane.to_owned(),
            workload_uid: workload_uid.to_owned(),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plane, self.workload_uid)
    }
}

impl FromStr for Audience {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once('/') {
            Some((plane, uid)) if !plane.is_empty() && !uid.is_empty() => Ok(Self::new(plane, uid)),
            _ => Err(KeyError::Audience),
        }
    }
}

/// An engine's lock.
#[derive(Clone, Debug)]
pub struct EngineLock {
    root: RootPublic,
    audience: Audience,
}

impl EngineLock {
    /// Opens to tokens for this audience by keys that the root certified.
    pub fn new(root: RootPublic, audience: Audience) -> Self {
        Self { root, audience }
    }

    /// Whether one of the tokens, separated by commas, opens it at this time (Unix seconds).
    ///
    /// # Errors
    /// Why the last of them does not.
    pub fn open(&self, tokens: Option<&str>, now: u64) -> Result<(), Refused> {
        let mut refused = Refused::Missing;
        for token in tokens.unwrap_or_default().split(',').take(MAX_TOKENS) {
            let token = token.trim();
            if token.is_empty() {
                continue;
            }
            match self.open_with(token, now) {
                Ok(()) => return Ok(()),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    fn open_with(&self, token: &str, now: u64) -> Result<(), Refused> {
        let bytes = URL_SAFE_NO_PAD.decode(token);
        let bytes: [u8; TOKEN] = bytes
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Refused::Malformed)?;
        let (certificate, rest) = bytes.split_at(CERTIFICATE);
        let (end, signature) = rest.split_at(TIME);
        let is_over = |end: &[u8]| now > time(end).saturating_add(CLOCK_LEEWAY);
        if is_over(end) || is_over(&certificate[PUBLIC..]) {
            return Err(Refused::Expired);
        }
        if !is_certified(self.root, &self.audience.plane, certificate) {
            return Err(Refused::Uncertified);
        }
        let message = token_message(&self.audience.workload_uid, time(end));
        UnparsedPublicKey::new(&ED25519, &certificate[..PUBLIC])
            .verify(&message, signature)
            .map_err(|_| Refused::OtherWorkload)
    }
}

fn is_certified(root: RootPublic, plane: &str, certificate: &[u8]) -> bool {
    let (public, rest) = certificate.split_at(PUBLIC);
    let (end, signature) = rest.split_at(TIME);
    let message = certificate_message(plane, public, time(end));
    UnparsedPublicKey::new(&ED25519, root.0)
        .verify(&message, signature)
        .is_ok()
}

fn certificate_message(plane: &str, public: &[u8], not_after: u64) -> Vec<u8> {
    let end = not_after.to_be_bytes();
    [CERTIFICATE_CONTEXT, public, &end, plane.as_bytes()].concat()
}

fn token_message(workload_uid: &str, not_after: u64) -> Vec<u8> {
    [
        TOKEN_CONTEXT,
        &not_after.to_be_bytes(),
        workload_uid.as_bytes(),
    ]
    .concat()
}

/// The time at the front of these bytes.
fn time(bytes: &[u8]) -> u64 {
    let mut time = [0; TIME];
    time.copy_from_slice(&bytes[..TIME]);
    u64::from_be_bytes(time)
}

#[cfg(test)]
mod tests;

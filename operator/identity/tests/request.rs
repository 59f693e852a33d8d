//! The whole way of a certificate: requested, reviewed, signed, loaded, against a small API server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;
use weir_identity::{
    CertificateAuthority, Identity, RequestError, RequestOptions, Reviewer, ServiceAccounts,
    request, review,
};

/// What the signer does when the object is read for the second time.
#[derive(Clone, Copy, PartialEq)]
enum Signer {
    Signs,
    SignsWithAForeignKey,
    Denies,
    IsAway,
    Deletes,
    FailsOnceThenSigns,
}

struct Server {
    signer: Signer,
    authority: CertificateAuthority,
    object: Option<CertificateSigningRequest>,
    reads: u32,
    methods: Vec<Method>,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        self.methods.push(method.clone());
        if *method == Method::POST {
            return self.create(body);
        }
        self.reads += 1;
        if self.reads < 2 {
            return (200, serde_json::to_value(&self.object).unwrap());
        }
        match self.signer {
            Signer::IsAway => {}
            Signer::Deletes => return (404, status(404, "NotFound")),
            Signer::FailsOnceThenSigns if self.reads == 2 => {
                return (500, status(500, "InternalError"));
            }
            Signer::Denies => self.settle("Denied"),
            _ => self.sign(),
        }
        (200, serde_json::to_value(&self.object).unwrap())
    }

    /// Stores the object with what an API server knows of its creator.
    fn create(&mut self, body: &[u8]) -> (u16, Value) {
        let mut object: CertificateSigningRequest = serde_json::from_slice(body).unwrap();
        let prefix = object.metadata.generate_name.clone().unwrap();
        object.metadata.name = Some(format!("{prefix}x7f2k"));
        object.spec.username = Some("system:serviceaccount:weir-system:weir-node-agent".into());
        let claim = |name: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{name}");
            (key, vec![value.to_owned()])
        };
        object.spec.extra = Some(
            [
                claim("node-name", "n1"),
                claim("pod-name", "weir-node-agent-abcde"),
                claim("pod-uid", "uid-1"),
            ]
            .into(),
        );
        self.object = Some(object.clone());
        (201, serde_json::to_value(object).unwrap())
    }

    fn sign(&mut self) {
        let object = self.object.as_mut().unwrap();
        let reviewer = Reviewer {
            namespace: "weir-system".into(),
            service_accounts: ServiceAccounts::default(),
        };
        let approved = review(object, &reviewer).unwrap();
        let mut csr_pem = approved.csr_pem;
        if self.signer == Signer::SignsWithAForeignKey {
            let key = rcgen::KeyPair::generate().unwrap();
            let other = rcgen::CertificateParams::default().serialize_request(&key);
            csr_pem = other.unwrap().pem().unwrap();
        }
        let chain = self
            .authority
            .issue(
                &csr_pem,
                &approved.identity,
                Some(&approved.dns_san),
                Timestamp::now(),
                approved.ttl,
            )
            .unwrap();
        object.status = Some(CertificateSigningRequestStatus {
            certificate: Some(ByteString(chain.into_bytes())),
            conditions: None,
        });
    }

    fn settle(&mut self, condition: &str) {
        self.object.as_mut().unwrap().status = Some(CertificateSigningRequestStatus {
            certificate: None,
            conditions: Some(vec![CertificateSigningRequestCondition {
                type_: condition.into(),
                status: "True".into(),
                reason: Some("MissingClaim".into()),
                message: Some("claim is missing".into()),
                ..CertificateSigningRequestCondition::default()
            }]),
        });
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "code": code, "reason": reason, "message": reason })
}

fn server(signer: Signer) -> (Client, Arc<Mutex<Server>>) {
    let server = Arc::new(Mutex::new(Server {
        signer,
        authority: CertificateAuthority::generate(Timestamp::now()).unwrap(),
        object: None,
        reads: 0,
        methods: Vec::new(),
    }));
    let shared = Arc::clone(&server);
    let service = service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&shared);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let (code, json) = server.lock().unwrap().answer(&parts.method, &bytes);
            let body = Body::from(serde_json::to_vec(&json).unwrap());
            Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), server)
}

fn options() -> RequestOptions {
    RequestOptions {
        give_up_after: Duration::from_secs(60),
        ..RequestOptions::new("weir-node-agent-")
    }
}

#[tokio::test(start_paused = true)]
async fn component_obtains_the_certificate_of_its_identity() {
    let (client, server) = server(Signer::Signs);
    let leaf = request(&client, &options()).await.unwrap();
    assert_eq!(*leaf.identity(), Identity::Agent { node: "n1".into() });
    assert_eq!(leaf.dns_names(), ["uid-1.weir.internal"]);
    let server = server.lock().unwrap();
    let sent = &server.object.as_ref().unwrap().spec;
    assert_eq!(sent.signer_name, "inference.weir.dev/component");
    assert_eq!(sent.expiration_seconds, Some(86_400));
    assert_eq!(server.methods, [Method::POST, Method::GET, Method::GET]);
}

#[tokio::test(start_paused = true)]
async fn api_server_that_fails_once_only_delays_the_certificate() {
    let (client, _server) = server(Signer::FailsOnceThenSigns);
    assert!(request(&client, &options()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn denial_is_an_error_with_its_reason() {
    let (client, _server) = server(Signer::Denies);
    let error = request(&client, &options()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "certificate request was refused: MissingClaim: claim is missing"
    );
}

#[tokio::test(start_paused = true)]
async fn request_that_nobody_signs_is_given_up_after_its_time_without_a_second_object() {
    let (client, server) = server(Signer::IsAway);
    let error = request(&client, &options()).await.unwrap_err();
    assert!(matches!(error, RequestError::Unsigned(_)));
    let methods = server.lock().unwrap().methods.clone();
    let creations = methods.iter().filter(|m| **m == Method::POST).count();
    assert_eq!(creations, 1);
    assert!(methods.len() < 25, "{} calls in a minute", methods.len());
}

#[tokio::test(start_paused = true)]
async fn object_that_goes_away_is_an_error() {
    let (client, _server) = server(Signer::Deletes);
    let error = request(&client, &options()).await.unwrap_err();
    assert!(matches!(error, RequestError::Gone(_)));
}

#[tokio::test(start_paused = true)]
async fn certificate_for_another_key_is_refused() {
    let (client, _server) = server(Signer::SignsWithAForeignKey);
    let error = request(&client, &options()).await.unwrap_err();
    assert!(matches!(error, RequestError::Leaf(_)));
}

//! What opens an engine: it goes to engines and to nobody else, and an engine that does not take it has failed.

use crate::support::{Answer, CHAT, Route, Server, UID, Upstream, ok, whole};
use http::Method;
use weir_engine_key::{Audience, EngineLock, EngineRoot};

fn sent(upstream: &Upstream, nth: usize) -> Option<String> {
    let head = upstream.seen()[nth].head.clone();
    let prefix = "x-weir-engine-key: ";
    let is_key = |line: &&str| line.to_ascii_lowercase().starts_with(prefix);
    let sent: Vec<&str> = head.lines().filter(is_key).collect();
    assert!(sent.len() <= 1, "{head}");
    Some(sent.first()?[prefix.len()..].to_owned())
}

#[tokio::test]
async fn a_request_to_an_engine_carries_a_token_for_its_workload_and_never_the_clients_own() {
    let engine = Upstream::always(ok()).await;
    let route = Route::default().local("local", 100, engine.port);
    let server = Server::start(vec![route.build()]).await;
    let forged = server.request(Method::POST, "/v1/chat/completions");
    let forged = forged.header("x-weir-engine-key", "forged");
    assert_eq!(server.send(forged, CHAT).await.status(), 200);
    assert_eq!(sent(&engine, 0), None, "no key was read yet");
    let root = EngineRoot::generate().expect("a root");
    let key = root.certify("local", u64::MAX).expect("a key");
    server.shared.engine_keys.set(vec![key]);
    assert_eq!(server.post(CHAT).await.status, 200);
    let token = sent(&engine, 1).expect("a token");
    let lock = EngineLock::new(root.public(), Audience::new("local", UID));
    let now = u64::try_from(jiff::Timestamp::now().as_second()).expect("after 1970");
    assert_eq!(lock.open(Some(&token), now), Ok(()));
}

#[tokio::test]
async fn an_engine_that_does_not_take_the_key_has_failed_and_the_client_is_not_told_that_its_own_is_wrong()
 {
    let refuses = whole(401, "", r#"{"error":{"code":"invalid_api_key"}}"#);
    let (locked, open) = (
        Upstream::always(refuses).await,
        Upstream::always(ok()).await,
    );
    let alone = Route::default().local("locked", 100, locked.port);
    let server = Server::start(vec![alone.build()]).await;
    let answer: Answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (502, "upstream_error")
    );
    assert!(
        answer.body.contains("did not take the gateway's key"),
        "{}",
        answer.body
    );
    let beside = Route::default()
        .local("locked", 100, locked.port)
        .local("open", 0, open.port);
    let server = Server::start(vec![beside.build()]).await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (200, ("open", "Local", "failover"))
    );
}

//! Who may ask for what.

use crate::support::{Answer, CHAT, KEY, Route, Server, UID, Upstream, ok, quick};
use http::Method;
use weir_gateway::config::Limits;
use weir_gateway::routing::RouteTable;

const OTHER: &str = "11111111-2222-3333-4444-555555555555";

async fn two_workloads() -> (Server, Upstream, Upstream) {
    let (one, two) = (Upstream::always(ok()).await, Upstream::always(ok()).await);
    let first = Route::default().local("local", 100, one.port).build();
    let second = Route {
        uid: OTHER,
        key: "other-key",
        ..Route::default()
    }
    .local("local", 100, two.port)
    .build();
    (Server::start(vec![first, second]).await, one, two)
}

#[tokio::test]
async fn a_key_opens_its_own_workload_by_either_path() {
    let (server, one, two) = two_workloads().await;
    for path in [
        "/v1/chat/completions".to_owned(),
        format!("/w/{UID}/v1/chat/completions"),
    ] {
        let answer =
            Answer::read(server.send(server.request(Method::POST, &path), CHAT).await).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.way(), ("local", "Local", "placement"));
        assert_eq!(answer.header("x-weir-decision-id"), "d-1");
    }
    assert_eq!((one.count(), two.count()), (2, 0));
}

#[tokio::test]
async fn a_key_of_another_uid_finds_nothing() {
    let (server, one, two) = two_workloads().await;
    for uid in [OTHER, "", "no-such-uid"] {
        let path = format!("/w/{uid}/v1/chat/completions");
        let answer =
            Answer::read(server.send(server.request(Method::POST, &path), CHAT).await).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (404, "not_found")
        );
    }
    assert_eq!((one.count(), two.count()), (0, 0));
}

#[tokio::test]
async fn unknown_and_missing_keys_are_refused() {
    let (server, one, _two) = two_workloads().await;
    let uri = format!("http://127.0.0.1:{}/v1/chat/completions", server.port);
    let bare = || http::Request::builder().method(Method::POST).uri(&uri);
    let answer = Answer::read(server.send(bare(), CHAT).await).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (401, "missing_api_key")
    );
    let answer = Answer::read(
        server
            .send(bare().header("authorization", "Bearer wrong"), CHAT)
            .await,
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (401, "invalid_api_key")
    );
    let answer = Answer::read(server.send(bare().header("api-key", KEY), CHAT).await).await;
    assert_eq!(answer.status, 200);
    assert_eq!(one.count(), 1);
}

#[tokio::test]
async fn models_come_from_the_table() {
    let (server, one, _two) = two_workloads().await;
    let get = async |path: &str| {
        Answer::read(server.send(server.request(Method::GET, path), "").await).await
    };
    let list: serde_json::Value =
        serde_json::from_str(&get("/v1/models").await.body).expect("json");
    assert_eq!(list["data"][0]["id"], "m");
    assert_eq!(
        list["data"].as_array().map(Vec::len),
        Some(1),
        "a key sees its own workload's model only"
    );
    assert_eq!(get("/v1/models/m").await.status, 200);
    assert_eq!(get("/v1/models/other").await.code(), "model_not_found");
    assert_eq!(
        get("/v1/chat/completions").await.code(),
        "method_not_allowed"
    );
    assert_eq!(get("/v1/files").await.code(), "not_found");
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_request_must_name_the_served_model_and_be_an_object() {
    let (server, one, _two) = two_workloads().await;
    for (body, status, code) in [
        (r#"{"messages":[]}"#, 400, "missing_required_parameter"),
        (
            r#"{"model":null,"messages":[]}"#,
            400,
            "missing_required_parameter",
        ),
        (r#"{"model":"other","messages":[]}"#, 404, "model_not_found"),
        (r#"{"model":"m","model":"other"}"#, 400, "invalid_json"),
        ("[1]", 400, "invalid_json"),
        ("", 400, "invalid_json"),
    ] {
        let answer = server.post(body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let upstream = Upstream::always(ok()).await;
    let workload = Route::default().local("local", 100, upstream.port).build();
    let server = Server::start_with(
        vec![workload],
        Limits {
            max_body: 1000,
            ..quick()
        },
    )
    .await;
    let answer = server
        .post(&format!(r#"{{"model":"m","x":"{}"}}"#, "a".repeat(1000)))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (413, "request_too_large")
    );
    assert_eq!(upstream.count(), 0);
    assert_eq!(server.post(CHAT).await.status, 200);
}

#[tokio::test]
async fn bodies_over_the_bound_of_all_are_turned_away() {
    let upstream = Upstream::always(ok()).await;
    let workload = Route::default().local("local", 100, upstream.port).build();
    let server = Server::start_with(
        vec![workload],
        Limits {
            max_buffered: 2048,
            ..quick()
        },
    )
    .await;
    let answer = server
        .post(&format!(r#"{{"model":"m","x":"{}"}}"#, "a".repeat(4000)))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "overloaded")
    );
    assert_eq!(
        server.post(CHAT).await.status,
        200,
        "what was reserved is free again"
    );
}

#[tokio::test]
async fn nothing_is_served_before_the_first_list() {
    let server = Server::start_unsynced(quick()).await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "gateway_not_ready")
    );
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn http_2_without_tls_is_served() {
    let (server, one, _two) = two_workloads().await;
    let client: hyper_util::client::legacy::Client<_, http_body_util::Full<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(true)
            .build_http();
    let request = server
        .request(Method::POST, "/v1/chat/completions")
        .body(http_body_util::Full::new(bytes::Bytes::from(CHAT)))
        .expect("a request");
    let response = client.request(request).await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (200, http::Version::HTTP_2)
    );
    assert_eq!(one.count(), 1);
}

/// Sends a head, does something, then sends the body.
async fn with_slow_body(server: &Server, between: impl FnOnce()) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port))
        .await
        .expect("connected");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
        CHAT.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    between();
    stream.write_all(CHAT.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_slow_body_is_routed_by_the_table_at_its_end() {
    let (one, two) = (Upstream::always(ok()).await, Upstream::always(ok()).await);
    let route = |step, here, there| {
        Route {
            step,
            ..Route::default()
        }
        .local("one", here, one.port)
        .local("two", there, two.port)
        .build()
    };
    let server = Server::start(vec![route(1, 100, 0)]).await;
    let answer = with_slow_body(&server, || {
        server
            .shared
            .publish(RouteTable::new(vec![route(2, 0, 100)]))
    })
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("x-weir-target: two"),
        "{answer}"
    );
    assert_eq!((one.count(), two.count()), (0, 1));
    let answer = with_slow_body(&server, || server.shared.publish(RouteTable::default())).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!((one.count(), two.count()), (0, 1));
}

//! Who may use the engine: Weir's gateways. Probes and metrics are open.

use crate::answer;
use crate::state::Server;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use weir_openai::{ApiError, ErrorCode};

/// What anybody may ask for.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Answers 401 to a request without a gateway's token, where the engine was started with a lock.
pub(crate) async fn demand_key(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(lock) = &server.lock else {
        return next.run(request).await;
    };
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    match lock.open(tokens(request.headers()), now) {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            server.refuse();
            let code = match refused {
                weir_engine_key::Refused::Missing => ErrorCode::MissingApiKey,
                _ => ErrorCode::InvalidApiKey,
            };
            let message = format!(
                "this engine answers Weir's gateways only ({refused}); send the request to the workload's endpoint"
            );
            answer::error(&ApiError::new(code, message))
        }
    }
}

fn tokens(headers: &HeaderMap) -> Option<&str> {
    headers.get(weir_engine_key::HEADER)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServeArgs, routes};
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use clap::Parser;
    use tower::ServiceExt;
    use weir_engine_key::EngineRoot;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn engine(flags: &[&str]) -> Router {
        let line = [&["engine", "--model", "m.gguf"], flags].concat();
        let args = Line::parse_from(line).args;
        routes::router(Arc::new(Server::new(&args)))
    }

    async fn asked(engine: &Router, path: &str, tokens: Option<&str>) -> (StatusCode, String) {
        let method = if path.ends_with("completions") {
            "POST"
        } else {
            "GET"
        };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(tokens) = tokens {
            request = request.header(weir_engine_key::HEADER, tokens);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = engine.clone().oneshot(request).await.expect("an answer");
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await;
        let body = String::from_utf8(body.expect("a body").to_vec());
        (status, body.expect("text"))
    }

    #[tokio::test]
    async fn a_request_without_a_gateways_token_is_answered_401_and_probes_and_metrics_are_open() {
        let root = EngineRoot::generate().expect("a root");
        let public = root.public().to_string();
        let flags = ["--key-root", &public, "--key-audience", "local/uid-1"];
        let engine = engine(&flags);
        let key = root.certify("local", u64::MAX).expect("a key");
        let (ours, others) = (key.token("uid-1", u64::MAX), key.token("uid-2", u64::MAX));
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/models",
            "/elsewhere",
        ] {
            for (tokens, code) in [
                (None, "missing_api_key"),
                (Some(&others), "invalid_api_key"),
            ] {
                let (status, body) = asked(&engine, path, tokens.map(String::as_str)).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
                let error: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                assert_eq!(error["error"]["code"], code);
                assert_eq!(error["error"]["type"], "authentication_error");
            }
            let (status, _) = asked(&engine, path, Some(&ours)).await;
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}");
        }
        assert_eq!(asked(&engine, "/healthz", None).await.0, StatusCode::OK);
        let (_, ready) = asked(&engine, "/readyz", None).await;
        assert!(ready.contains("phase"), "{ready}");
        let (status, metrics) = asked(&engine, "/metrics", None).await;
        assert_eq!(status, StatusCode::OK);
        let counted = "weir_engine_requests_unauthorized_total 8";
        assert!(metrics.contains(counted), "{metrics}");
    }

    #[tokio::test]
    async fn an_engine_that_is_started_without_a_root_is_open() {
        let (status, _) = asked(&engine(&[]), "/v1/models", None).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "it is loading");
    }

    #[test]
    fn half_a_lock_is_refused_at_the_start() {
        let root = EngineRoot::generate().expect("a root").public().to_string();
        for flags in [["--key-root", &root], ["--key-audience", "local/uid-1"]] {
            let line = [&["engine", "--model", "m.gguf"], &flags[..]].concat();
            assert!(Line::try_parse_from(line).is_err());
        }
    }
}

//! The simulated API server on loopback, for an operator in a process of its own.

use std::net::SocketAddr;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use weir_simapi::SimApi;

/// Serves what `actor` asks until the task is aborted.
pub async fn serve(api: &SimApi, actor: &str) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let service = api.service(actor);
    let answer = async move |request: Request| -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let body = kube::client::Body::from(body);
        match service
            .oneshot(http::Request::from_parts(parts, body))
            .await
        {
            Ok(answer) => answer.map(Body::new),
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    let router = Router::new().fallback(answer);
    let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    Ok((address, task))
}

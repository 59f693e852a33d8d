//! Answers like an engine, for pods of fake nodes. It ends when its stdin does, so it cannot outlive who started it.

use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// A fake engine.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Where it listens.
    #[arg(long, default_value = "0.0.0.0:8000")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(|| async { "" }))
        .route("/v1/chat/completions", post(chat));
    let listener = TcpListener::bind(flags.listen).await?;
    println!("listening on {}", flags.listen);
    tokio::select! {
        ended = axum::serve(listener, router) => Ok(ended?),
        () = stdin_ends() => Ok(()),
    }
}

async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while stdin.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}

async fn chat(Json(request): Json<Value>) -> Json<Value> {
    Json(json!({
        "id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "from the fake engine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5},
    }))
}

//! The engine's server: loads a model and answers OpenAI's HTTP API with it.
//!
//! It knows nothing of Kubernetes: what it serves stands in its arguments, and how it fares in probes, metrics, exit codes and
//! the container's termination message.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod chat;
mod completion;
mod exit;
mod generate;
mod load;
mod lock;
mod render;
mod request;
mod routes;
mod state;
mod stream;

pub use args::ServeArgs;
pub use exit::{StartFailure, write_termination_message};

use anyhow::Context;
use axum::serve::ListenerExt;
use state::{Phase, Server};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM or SIGINT, then finishes running requests.
///
/// A model that cannot be loaded ends the process with the exit code of its reason
/// ([`weir_engine::failure::FailureReason::exit_code`]) and a termination message `Reason: text`.
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT handler")?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let server = Arc::new(Server::new(&args));
    let (stopped, stop) = tokio::sync::oneshot::channel::<()>();
    let listener = listener.tap_io(|stream| {
        // Without it a streamed token waits for the last one's acknowledgement; a socket that refuses is only slower.
        let _ = stream.set_nodelay(true);
    });
    let http =
        axum::serve(listener, routes::router(Arc::clone(&server))).with_graceful_shutdown(async {
            // A dropped sender means the same.
            let _ = stop.await;
        });
    let http = tokio::spawn(async move { http.await });
    start_loading(Arc::clone(&server), args.clone());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drain(&server, &args).await;
    // The receiver is gone only if the listener failed, and then there is nothing to stop.
    let _ = stopped.send(());
    // Idle keep-alive connections do not hold the process up.
    match tokio::time::timeout(Duration::from_secs(2), http).await {
        Ok(result) => result
            .context("the server panicked")?
            .context("the server failed")?,
        Err(_) => tracing::info!("open connections are cut"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Loads on a thread of its own: hashing and packing block, and the server must stay alive to say how far they are.
fn start_loading(server: Arc<Server>, args: ServeArgs) {
    tokio::task::spawn_blocking(move || match load::load(&args, &server) {
        Ok((served, thread)) => {
            server.publish(served);
            let ended = thread.join();
            // It ends by itself only when every handle is dropped, which a running server does not do.
            if ended.is_err() {
                exit::fatal(&server, "the engine's thread panicked");
            }
        }
        Err(failure) => exit::exit(&failure),
    });
}

async fn drain(server: &Server, args: &ServeArgs) {
    server.set_phase(Phase::Draining);
    tracing::info!("draining");
    // Routers learn of it from readiness; until then they may still send requests, which are served.
    tokio::time::sleep(Duration::from_secs(args.drain_delay_seconds)).await;
    let Some(served) = server.served() else {
        return;
    };
    served.engine.drain();
    let deadline = Instant::now() + Duration::from_secs(args.drain_timeout_seconds);
    while served.engine.in_flight() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = served.engine.in_flight();
    if left > 0 {
        tracing::warn!(requests = left, "drain timed out");
    }
}

//! `weir-gateway chat`: one chat completion, as `helm test` asks for it.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use weir_crds::names;

const LIMIT: Duration = Duration::from_secs(60);
const MAX_BYTES: usize = 1 << 20;

/// Completes one chat through a workload's endpoint and prints the answer.
#[derive(Clone, Debug, clap::Args)]
pub struct ChatArgs {
    /// URL of the workload's endpoint, the key base-url of its client-key Secret.
    #[arg(long, env = "WEIR_BASE_URL")]
    pub base_url: Option<String>,
    /// The client key, the key api-key of that Secret.
    #[arg(long, env = "WEIR_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The model to name, status.endpoint.model of the workload.
    #[arg(long)]
    pub model: Option<String>,
    /// What to ask.
    #[arg(long, default_value = "Say hello.")]
    pub prompt: String,
}

/// Asks, and prints the answer with the headers that say who gave it.
///
/// # Errors
/// When anything but a whole answer with text comes.
pub async fn chat(args: ChatArgs) -> anyhow::Result<()> {
    let (Some(base_url), Some(api_key), Some(model)) = (args.base_url, args.api_key, args.model)
    else {
        bail!(
            "nothing was tested: set test.namespace, test.keySecret and test.model to a workload's (see the chart's notes)"
        );
    };
    tokio::time::timeout(LIMIT, ask(&base_url, &api_key, &model, &args.prompt))
        .await
        .with_context(|| format!("no answer from {base_url} within {LIMIT:?}"))?
}

async fn ask(base_url: &str, api_key: &str, model: &str, prompt: &str) -> anyhow::Result<()> {
    let url = url::Url::parse(base_url).context("the base URL is no URL")?;
    ensure!(
        url.scheme() == "http",
        "{base_url} is not http: ask such an endpoint from outside"
    );
    let host = url.host_str().context("the base URL has no host")?;
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect((host, port))
        .await
        .with_context(|| format!("connect to {host}:{port}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let body = json!({"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": prompt}]});
    let request = Request::post(format!(
        "{}/chat/completions",
        url.path().trim_end_matches('/')
    ))
    .header(header::HOST, host)
    .header(header::CONTENT_TYPE, "application/json")
    .header(header::AUTHORIZATION, format!("Bearer {api_key}"))
    .body(Full::new(Bytes::from(body.to_string())))?;
    let response = sender
        .send_request(request)
        .await
        .context("send the request")?;
    let (head, body) = response.into_parts();
    let bytes = match Limited::new(body, MAX_BYTES).collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) => bail!("the answer broke off: {error}"),
    };
    connection.abort();
    ensure!(
        head.status == StatusCode::OK,
        "{}: {}",
        head.status,
        String::from_utf8_lossy(&bytes)
    );
    let answer: Value = serde_json::from_slice(&bytes).context("the answer is not JSON")?;
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    ensure!(!text.is_empty(), "the answer has no text: {answer}");
    println!("{text}");
    for name in [
        names::HEADER_TARGET,
        names::HEADER_LOCATION,
        names::HEADER_REASON,
        names::HEADER_DECISION,
    ] {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        println!("{name}: {}", value.unwrap_or("-"));
    }
    Ok(())
}

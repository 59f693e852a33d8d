//! A small OpenAI client for tests: one request, streamed or not, with the headers that say who answered.

use anyhow::{Context, Result, anyhow, bail};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use weir_crds::names;

/// Connecting gives up after this.
const CONNECT: Duration = Duration::from_secs(1);
/// A whole answer has come by then.
const WHOLE: Duration = Duration::from_secs(120);

/// Where a workload's clients send requests.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Address that the host of the URL has.
    pub address: SocketAddr,
    /// Host of the URL.
    pub host: String,
    /// Path of the URL, such as `/w/<uid>/v1`.
    pub path: String,
    /// The client key.
    pub key: String,
    /// The `model` to name.
    pub model: String,
}

/// What to ask.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The user's message.
    pub prompt: String,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Whether to stream.
    pub stream: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Text of the answer; of an error its body.
    pub text: String,
    /// A stream that ended with `[DONE]` and no error event; an answer that was whole.
    pub complete: bool,
    /// `x-weir-target`.
    pub target: String,
    /// `x-weir-location`.
    pub location: String,
    /// `x-weir-reason`.
    pub reason: String,
    /// `x-weir-decision-id`.
    pub decision: String,
    /// `Retry-After`, where there is one.
    pub retry_after: Option<String>,
}

impl Answer {
    /// A whole answer with status 200.
    pub fn is_good(&self) -> bool {
        self.status == StatusCode::OK && self.complete
    }
}

impl Endpoint {
    /// One chat completion on a connection of its own.
    ///
    /// # Errors
    /// When there is no HTTP answer at all. Statuses other than 200 and cut streams are answers.
    pub async fn chat(&self, ask: &Ask) -> Result<Answer> {
        let mut body = json!({
            "model": self.model, "max_tokens": ask.max_tokens, "temperature": 0,
            "messages": [{"role": "user", "content": ask.prompt}],
        });
        if ask.stream {
            body["stream"] = json!(true);
        }
        let response = self.post("chat/completions", &body).await?;
        tokio::time::timeout(WHOLE, read(response, ask.stream))
            .await
            .context("the answer took too long")?
    }

    /// POSTs JSON to an operation below the endpoint.
    pub async fn post(&self, operation: &str, body: &Value) -> Result<Response<Incoming>> {
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(self.address))
            .await
            .map_err(|_| anyhow!("connecting to {} took more than {CONNECT:?}", self.address))?
            .with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the exchange: the sender is dropped after it, and with it the connection.
        tokio::spawn(connection);
        let request = Request::post(format!("{}/{operation}", self.path))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from(body.to_string())))?;
        let answer = tokio::time::timeout(WHOLE, sender.send_request(request))
            .await
            .context("no answer came")?;
        Ok(answer?)
    }
}

async fn read(response: Response<Incoming>, stream: bool) -> Result<Answer> {
    let status = response.status();
    let text_of = |name: &str| {
        let value = response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut answer = Answer {
        status,
        text: String::new(),
        complete: false,
        target: text_of(names::HEADER_TARGET),
        location: text_of(names::HEADER_LOCATION),
        reason: text_of(names::HEADER_REASON),
        decision: text_of(names::HEADER_DECISION),
        retry_after: Some(text_of("retry-after")).filter(|value| !value.is_empty()),
    };
    let mut body = Vec::new();
    let mut incoming = response.into_body();
    let mut broken = false;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend(frame.into_data().unwrap_or_default()),
            Err(_) => broken = true,
        }
        if broken {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if status != StatusCode::OK {
        answer.complete = !broken;
        answer.text = body;
        return Ok(answer);
    }
    if stream {
        (answer.text, answer.complete) = streamed(&body)?;
    } else {
        let whole: Value =
            serde_json::from_str(&body).with_context(|| format!("not JSON: {body:?}"))?;
        answer.text = content(&whole["choices"][0]["message"]);
        answer.complete = whole["usage"]["total_tokens"].is_u64();
    }
    answer.complete &= !broken;
    Ok(answer)
}

/// Text of a stream of chunks, and whether it ended as it should.
fn streamed(body: &str) -> Result<(String, bool)> {
    let mut text = String::new();
    let mut done = false;
    for event in body
        .split("\n\n")
        .filter_map(|event| event.trim().strip_prefix("data: "))
    {
        if done {
            bail!("an event after [DONE]: {event}");
        }
        if event == "[DONE]" {
            done = true;
            continue;
        }
        let chunk: Value =
            serde_json::from_str(event).with_context(|| format!("not JSON: {event:?}"))?;
        if chunk.get("error").is_some() {
            return Ok((text, false));
        }
        text.push_str(&content(&chunk["choices"][0]["delta"]));
    }
    Ok((text, done))
}

fn content(message: &Value) -> String {
    message["content"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_complete_only_with_done_and_without_errors() {
        let chunk = r#"data: {"choices":[{"delta":{"content":"a"}}]}"#;
        let whole = format!("{chunk}\n\n{chunk}\n\ndata: [DONE]\n\n");
        assert_eq!(streamed(&whole).expect("readable"), ("aa".to_owned(), true));
        let cut = format!("{chunk}\n\n");
        assert_eq!(streamed(&cut).expect("readable"), ("a".to_owned(), false));
        let failed = format!("{chunk}\n\ndata: {{\"error\":{{}}}}\n\n");
        assert_eq!(
            streamed(&failed).expect("readable"),
            ("a".to_owned(), false)
        );
    }
}

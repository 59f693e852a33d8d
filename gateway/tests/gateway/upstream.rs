//! A target that follows a script.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One thing that a scripted target does.
#[derive(Clone, Debug)]
pub enum Step {
    Send(String),
    Raw(Vec<u8>),
    Pause(Duration),
    /// Sends, and counts what was taken.
    Count(Arc<AtomicUsize>, String),
    /// Closes the connection.
    Close,
    /// Waits until the peer closes.
    UntilClosed,
}

/// A request as the target saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    pub body: String,
}

type Script = Arc<dyn Fn(usize) -> Vec<Step> + Send + Sync>;

/// A target that follows a script for each request.
pub struct Upstream {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    gone: watch::Receiver<Option<Instant>>,
    task: JoinHandle<()>,
    #[cfg_attr(not(feature = "cloud"), allow(dead_code))]
    pub ca_pem: Option<String>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub async fn start(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_with(script, None).await
    }

    /// The same for every request.
    pub async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone()).await
    }

    /// The same for every request, counting the bytes that were taken.
    pub async fn start_counting(steps: Vec<Step>, counter: Arc<AtomicUsize>) -> Self {
        let counted = steps.into_iter().map(move |step| match step {
            Step::Send(text) => Step::Count(Arc::clone(&counter), text),
            other => other,
        });
        Self::always(counted.collect()).await
    }

    /// Speaks TLS as `localhost`, with an authority of its own.
    #[cfg(feature = "cloud")]
    pub async fn start_tls(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let certified =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                .expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der())
            .expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut upstream = Self::start_with(script, Some(acceptor)).await;
        upstream.ca_pem = Some(certified.cert.pem());
        upstream
    }

    async fn start_with(
        script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (gone_sender, gone) = watch::channel(None);
        let script: Script = Arc::new(script);
        let (record, gone_sender) = (Arc::clone(&seen), Arc::new(gone_sender));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("nodelay");
                let (script, record, gone, tls) = (
                    Arc::clone(&script),
                    Arc::clone(&record),
                    Arc::clone(&gone_sender),
                    tls.clone(),
                );
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, &script, &record, &gone).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, &script, &record, &gone).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            seen,
            gone,
            task,
            ca_pem: None,
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }

    pub fn count(&self) -> usize {
        self.seen().len()
    }

    /// Waits until a peer of a script in [`Step::UntilClosed`] has closed.
    pub async fn closed(&mut self) -> Instant {
        let gone =
            tokio::time::timeout(Duration::from_secs(5), self.gone.wait_for(Option::is_some)).await;
        gone.expect("the peer closes")
            .expect("alive")
            .expect("a time")
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: &Script,
    record: &Mutex<Vec<Seen>>,
    gone: &watch::Sender<Option<Instant>>,
) {
    while let Some(seen) = read_request(&mut stream).await {
        let number = {
            let mut record = record.lock().expect("lock");
            record.push(seen);
            record.len() - 1
        };
        for step in script(number) {
            match step {
                Step::Count(counter, text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                    counter.fetch_add(text.len(), Ordering::Relaxed);
                }
                Step::Send(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err()
                        || stream.flush().await.is_err()
                    {
                        gone.send_replace(Some(Instant::now()));
                        return;
                    }
                }
                Step::Raw(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                }
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Close => return,
                Step::UntilClosed => {
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    gone.send_replace(Some(Instant::now()));
                    return;
                }
            }
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse().expect("a length"));
            while bytes.len() < end + 4 + length {
                let read = stream
                    .read(&mut piece)
                    .await
                    .ok()
                    .filter(|read| *read > 0)?;
                bytes.extend_from_slice(&piece[..read]);
            }
            let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
            return Some(Seen {
                head: String::from_utf8_lossy(&bytes[..end]).into_owned(),
                body,
            });
        }
        let read = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
}

pub fn whole(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Send(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))]
}

pub fn ok() -> Vec<Step> {
    whole(
        200,
        "",
        r#"{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
    )
}

pub fn stream_head() -> Step {
    Step::Send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .into(),
    )
}

pub fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()))
}

pub fn event(text: &str) -> Step {
    chunk(&format!(
        "data: {}\n\n",
        serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]})
    ))
}

pub fn end() -> Step {
    Step::Send("0\r\n\r\n".into())
}

/// Pieces, usage, `[DONE]`.
pub fn stream(pieces: &[&str]) -> Vec<Step> {
    let mut steps = vec![stream_head()];
    steps.extend(pieces.iter().map(|piece| event(piece)));
    steps.push(chunk(
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    ));
    steps.push(chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n"));
    steps.push(chunk("data: [DONE]\n\n"));
    steps.push(end());
    steps
}

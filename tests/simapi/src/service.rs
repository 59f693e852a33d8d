//! The transport: a `tower::Service` for `kube::Client`, with faults and the record of requests.

use crate::core::{Answer, Core};
use crate::discovery;
use crate::fault::{Fault, Record};
use crate::read::metadata_only;
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::watch::{Cursor, Signal, expired};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Decides what becomes of a request.
pub type FaultHook = Arc<dyn Fn(&RequestInfo) -> Fault + Send + Sync>;

/// A connection that broke.
#[derive(Clone, Debug, thiserror::Error)]
#[error("connection closed before the answer was complete")]
pub struct Broken;

type AnswerBody = UnsyncBoxBody<Bytes, Broken>;

/// What all clients of one server share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    records: Mutex<Vec<Record>>,
    counter: Mutex<usize>,
    pub(crate) signal: watch::Sender<Signal>,
    pub(crate) hook: RwLock<Option<FaultHook>>,
    pub(crate) bookmark_every: Duration,
}

fn unpoisoned<'a, T>(
    guard: Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>,
) -> MutexGuard<'a, T> {
    // A test that panicked elsewhere must not hide its own message behind this one.
    guard.unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(core: Core, bookmark_every: Duration) -> Self {
        let (signal, _) = watch::channel(Signal::default());
        Self {
            core: Mutex::new(core),
            records: Mutex::default(),
            counter: Mutex::default(),
            signal,
            hook: RwLock::default(),
            bookmark_every,
        }
    }

    /// Works on the state, then wakes the watches.
    pub(crate) fn with_core<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = unpoisoned(self.core.lock());
        let out = work(&mut core);
        let revision = core.store.revision();
        drop(core);
        self.signal.send_if_modified(|signal| {
            let changed = signal.revision != revision;
            signal.revision = signal.revision.max(revision);
            changed
        });
        out
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        unpoisoned(self.records.lock())
    }

    fn next_index(&self) -> usize {
        let mut counter = unpoisoned(self.counter.lock());
        *counter += 1;
        *counter - 1
    }

    fn fault(&self, request: &RequestInfo) -> Fault {
        let hook = self
            .hook
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        hook.map_or(Fault::Pass, |hook| hook(request))
    }

    /// Serves a request and records it.
    fn serve(&self, request: &RequestInfo, fault: &Fault) -> Answer {
        let (answer, committed, time) = self.with_core(|core| {
            let before = core.store.revision();
            let answer = core.handle(request);
            let after = core.store.revision();
            (
                answer,
                (after != before).then_some(after),
                (core.clock)().as_second(),
            )
        });
        self.record(request, fault, &answer, committed, time);
        answer
    }

    fn record(
        &self,
        request: &RequestInfo,
        fault: &Fault,
        answer: &Answer,
        committed: Option<u64>,
        time: i64,
    ) {
        let (code, body) = match answer {
            Ok((code, body)) => (*code, body.clone()),
            Err(error) => (error.code, error.body()),
        };
        self.records().push(Record {
            request: request.clone(),
            fault: fault.clone(),
            code,
            committed,
            answer: body,
            time,
        });
    }

    fn record_unseen(&self, request: &RequestInfo, fault: &Fault) {
        let time = self.with_core(|core| (core.clock)().as_second());
        let unseen: Answer = Ok((0, Value::Null));
        self.record(request, fault, &unseen, None, time);
    }
}

/// The server as one actor's client sees it.
#[derive(Clone)]
pub struct SimService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) actor: String,
}

impl tower::Service<Request<Body>> for SimService {
    type Response = Response<AnswerBody>;
    type Error = Broken;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (shared, actor) = (self.shared.clone(), self.actor.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
            let Some(mut info) = RequestInfo::read(&parts.method, &parts.uri, &parts.headers)
            else {
                return Ok(about_itself(&shared, parts.uri.path()));
            };
            if info.resource.is_empty() {
                return Ok(about_itself(&shared, parts.uri.path()));
            }
            info.actor = actor;
            info.index = shared.next_index();
            info.body = serde_json::from_slice(&body).unwrap_or_default();
            if !body.is_empty() && info.body.is_null() {
                let error = ApiError::bad_request("the body of the request is not JSON");
                return Ok(error_answer(&error));
            }
            answer(&shared, &info).await
        })
    }
}

fn about_itself(shared: &Shared, path: &str) -> Response<AnswerBody> {
    match shared.with_core(|core| discovery::answer(&core.kinds, path)) {
        Some(answer) => json_answer(200, &answer),
        None => error_answer(&ApiError::no_such_path()),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: &RequestInfo,
) -> Result<Response<AnswerBody>, Broken> {
    let fault = shared.fault(request);
    match fault {
        Fault::RespondBefore(code) => {
            shared.record_unseen(request, &fault);
            return Ok(error_answer(&injected(code)));
        }
        Fault::DropBefore => {
            shared.record_unseen(request, &fault);
            return Err(Broken);
        }
        Fault::Hang => {
            shared.record_unseen(request, &fault);
            return std::future::pending().await;
        }
        Fault::Delay(time) => tokio::time::sleep(time).await,
        _ => {}
    }
    if request.verb == "watch" {
        return Ok(watch_answer(shared, request, &fault));
    }
    let answer = shared.serve(request, &fault);
    match fault {
        Fault::RespondAfterCommit(code) => Ok(error_answer(&injected(code))),
        Fault::DropAfterCommit => Err(Broken),
        Fault::HangAfterCommit => std::future::pending().await,
        Fault::Garbage => Ok(respond(
            200,
            Bytes::from_static(b"<html>not the API server</html>"),
        )),
        _ => Ok(match answer {
            Ok((code, body)) if request.wants_metadata() => json_answer(code, &metadata_only(body)),
            Ok((code, body)) => json_answer(code, &body),
            Err(error) => error_answer(&error),
        }),
    }
}

/// The error that a fault asks for, worded as the server words it.
fn injected(code: u16) -> ApiError {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    ApiError::new(code, reason, "a fault of the test")
}

fn respond(code: u16, body: Bytes) -> Response<AnswerBody> {
    let body = Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

fn json_answer(code: u16, body: &Value) -> Response<AnswerBody> {
    respond(code, Bytes::from(body.to_string()))
}

fn error_answer(error: &ApiError) -> Response<AnswerBody> {
    json_answer(error.code, &error.body())
}

fn watch_answer(
    shared: &Arc<Shared>,
    request: &RequestInfo,
    fault: &Fault,
) -> Response<AnswerBody> {
    let (cursor, time) =
        shared.with_core(|core| (Cursor::open(core, request), (core.clock)().as_second()));
    let opened: Answer = cursor
        .as_ref()
        .map(|_| (200, Value::Null))
        .map_err(Clone::clone);
    shared.record(request, fault, &opened, None, time);
    let cursor = match cursor {
        Ok(cursor) => cursor,
        Err(error) => return error_answer(&error),
    };
    let signal = shared.signal.subscribe();
    let opened_at = *signal.borrow();
    let seconds = request.parameter("timeoutSeconds").parse().unwrap_or(1800);
    let stream = EventStream {
        shared: shared.clone(),
        cursor,
        opened_at,
        signal,
        ends: Instant::now() + Duration::from_secs(seconds),
        bookmark: request
            .flag("allowWatchBookmarks")
            .then(|| Instant::now() + shared.bookmark_every),
        left: match fault {
            Fault::CutWatchAfter(events) => Some(*events),
            _ => None,
        },
        over: false,
    };
    let frames = stream.into_frames().map(Ok::<_, Broken>);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

struct EventStream {
    shared: Arc<Shared>,
    cursor: Cursor,
    opened_at: Signal,
    signal: watch::Receiver<Signal>,
    ends: Instant,
    bookmark: Option<Instant>,
    left: Option<usize>,
    over: bool,
}

impl EventStream {
    fn into_frames(self) -> impl Stream<Item = Frame<Bytes>> + Send {
        stream::unfold(self, |mut stream| async move {
            let event = stream.next().await?;
            let line = Bytes::from(format!("{event}\n"));
            Some((Frame::data(line), stream))
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let now = *self.signal.borrow_and_update();
            if self.over || self.left == Some(0) || now.cuts != self.opened_at.cuts {
                return None;
            }
            if now.expirations != self.opened_at.expirations {
                self.over = true;
                return Some(expired());
            }
            if !now.frozen {
                match self.shared.with_core(|core| self.cursor.next(core)) {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        self.left = self.left.map(|left| left - 1);
                        return Some(event);
                    }
                    Err(event) => {
                        self.over = true;
                        return Some(event);
                    }
                }
            }
            let wake = self
                .bookmark
                .map_or(self.ends, |bookmark| bookmark.min(self.ends));
            tokio::select! {
                changed = self.signal.changed() => changed.ok()?,
                () = tokio::time::sleep_until(wake) => {
                    if wake == self.ends {
                        return None;
                    }
                    self.bookmark = Some(Instant::now() + self.shared.bookmark_every);
                    if !now.frozen {
                        return self.cursor.bookmark();
                    }
                }
            }
        }
    }
}

//! The proxy between a real client and a small server.

use super::*;
use axum::body::Body as AxumBody;
use axum::extract::State as Extract;
use axum::routing::any;
use futures::StreamExt;

/// What the server got, in order.
type Got = Arc<Mutex<Vec<String>>>;
type Killed = Arc<Mutex<Vec<(Point, Position)>>>;

struct Scene {
    proxy: FaultProxy,
    client: kube::Client,
    got: Got,
    killed: Killed,
}

async fn answer(Extract(got): Extract<Got>, request: Request<AxumBody>) -> Response<AxumBody> {
    let path = request.uri().path().to_owned();
    let token = request.headers().get("authorization");
    let token = token.and_then(|token| token.to_str().ok());
    let line = format!(
        "{} {path} {}",
        request.method(),
        token.unwrap_or("anonymous")
    );
    got.lock().expect("unpoisoned").push(line);
    if path.starts_with("/forbidden") {
        return Response::builder()
            .status(403)
            .body(AxumBody::from("{}"))
            .expect("an answer");
    }
    if path == "/watch" {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("first\n"))]);
        return Response::new(AxumBody::from_stream(
            first.chain(futures::stream::pending()),
        ));
    }
    Response::new(AxumBody::from("{}"))
}

async fn scene() -> Scene {
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server: http::Uri = format!("http://{}", listener.local_addr().expect("bound"))
        .parse()
        .expect("a URL");
    let app = axum::Router::new()
        .fallback(any(answer))
        .with_state(Arc::clone(&got));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let killed = Killed::default();
    let noted = Arc::clone(&killed);
    let upstream = Upstream::of(&kube::Config::new(server)).expect("a server");
    let proxy = FaultProxy::start(
        upstream,
        Box::new(|write, before| {
            let after_create = before.iter().any(|label| label == "POST /pods by me");
            let name = format!("{} {} by {}", write.verb, write.path, write.manager);
            let name = if after_create && write.path == "/late" {
                format!("{name} after the pod")
            } else {
                name
            };
            (write.path != "/leases").then_some(name)
        }),
        Box::new(move |point, position| {
            noted
                .lock()
                .expect("unpoisoned")
                .push((point.clone(), position));
        }),
    )
    .await
    .expect("a proxy");
    let kubeconfig =
        kube::config::Kubeconfig::from_yaml(&proxy.kubeconfig("secret")).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .expect("a configuration");
    let mut config = config;
    config.default_retry = false;
    let client = kube::Client::try_from(config).expect("a client");
    Scene {
        proxy,
        client,
        got,
        killed,
    }
}

impl Scene {
    async fn send(&self, verb: Method, path: &str) -> Result<String, kube::Error> {
        let request = Request::builder()
            .method(verb)
            .uri(path)
            .body(Vec::from(*b"{}"))
            .expect("a request");
        self.client.request_text(request).await
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().expect("unpoisoned").clone()
    }

    fn killed(&self) -> Vec<(Point, Position)> {
        self.killed.lock().expect("unpoisoned").clone()
    }
}

fn point(label: &str, occurrence: usize) -> Point {
    Point {
        label: label.to_owned(),
        occurrence,
    }
}

const CREATE: &str = "POST /pods by me";
const SENT: &str = "POST /pods Bearer secret";

async fn create(scene: &Scene) -> Result<String, kube::Error> {
    scene.send(Method::POST, "/pods?fieldManager=me").await
}

#[tokio::test]
async fn a_write_killed_before_forwarding_never_arrives_and_its_repetition_is_the_same_point() {
    let scene = scene().await;
    scene
        .proxy
        .begin([(point(CREATE, 1), Position::BeforeForwarding)]);
    create(&scene).await.expect_err("no answer");
    assert_eq!(scene.got(), Vec::<String>::new());
    assert_eq!(
        scene.killed(),
        [(point(CREATE, 1), Position::BeforeForwarding)]
    );
    create(&scene)
        .await
        .expect("a second kill was not asked for");
    assert_eq!(scene.got(), [SENT]);
    assert_eq!(scene.proxy.points(), [point(CREATE, 1)]);
}

#[tokio::test]
async fn a_write_killed_after_its_commit_arrives_once_and_is_not_answered() {
    let scene = scene().await;
    scene
        .proxy
        .begin([(point(CREATE, 2), Position::AfterCommit)]);
    create(&scene)
        .await
        .expect("the first is none of the points");
    create(&scene).await.expect_err("no answer");
    assert_eq!(scene.got(), [SENT, SENT]);
    assert_eq!(scene.killed(), [(point(CREATE, 2), Position::AfterCommit)]);
    assert_eq!(scene.proxy.armed(), []);
    let last = scene.proxy.exchanges().pop().expect("an exchange");
    assert_eq!(last.killed, Some(Position::AfterCommit));
    assert_eq!(last.status, Some(StatusCode::OK));
}

#[tokio::test]
async fn a_watch_streams_while_it_goes_on() {
    use futures::AsyncBufReadExt;
    let scene = scene().await;
    let request = Request::get("/watch").body(Vec::new()).expect("a request");
    let stream = scene
        .client
        .request_stream(request)
        .await
        .expect("a stream");
    let first = tokio::time::timeout(Duration::from_secs(5), stream.lines().next()).await;
    let first = first.expect("in time").expect("a line").expect("readable");
    assert_eq!(first, "first");
}

#[tokio::test]
async fn a_label_may_depend_on_the_writes_before_it_and_a_write_without_one_is_no_point() {
    let scene = scene().await;
    scene.proxy.begin([]);
    scene.send(Method::PUT, "/late").await.expect("forwarded");
    scene.send(Method::PUT, "/leases").await.expect("forwarded");
    create(&scene).await.expect("forwarded");
    scene.send(Method::PUT, "/late").await.expect("forwarded");
    let expected = [
        point("PUT /late by ", 1),
        point(CREATE, 1),
        point("PUT /late by  after the pod", 1),
    ];
    assert_eq!(scene.proxy.points(), expected);
    assert_eq!(scene.proxy.exchanges().len(), 4);
    assert_eq!(scene.got().len(), 4);
}

#[tokio::test]
async fn reads_are_recorded_only_when_they_are_refused() {
    let scene = scene().await;
    scene.send(Method::GET, "/pods").await.expect("forwarded");
    scene
        .send(Method::GET, "/forbidden")
        .await
        .expect_err("refused");
    let recorded: Vec<String> = scene
        .proxy
        .exchanges()
        .iter()
        .map(|each| each.path.clone())
        .collect();
    assert_eq!(recorded, ["/forbidden"]);
}

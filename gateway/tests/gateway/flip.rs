//! A move while streams run.

use crate::failover::cloud;
use crate::support::{
    CHAT, Route, STREAM, Server, Step, Upstream, chunk, end, event, ok, stream, stream_head,
};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use weir_gateway::routing::RouteTable;

#[tokio::test]
async fn a_stream_stays_on_its_target_and_new_requests_go_to_the_new_one() {
    let mut steps = vec![stream_head(), event("local")];
    for _ in 0..5 {
        steps.extend([Step::Pause(Duration::from_millis(50)), event("local")]);
    }
    steps.extend([chunk("data: [DONE]\n\n"), end()]);
    let local = Upstream::always(steps).await;
    let provider = Upstream::start_tls(|_| ok()).await;
    let state = Arc::default();
    let route = |step, here, there| {
        let mut route = Route {
            step,
            state: Arc::clone(&state),
            ..Route::default()
        }
        .local("local", here, local.port);
        route.push(
            "cloud",
            there,
            cloud(provider.port, provider.ca_pem.clone()),
        );
        route.build()
    };
    let server = Server::start(vec![route(1, 100, 0)]).await;
    let request = server.request(http::Method::POST, "/v1/chat/completions");
    let mut stream = server.send(request, STREAM).await.into_body();
    stream.frame().await.expect("a frame").expect("bytes");

    server
        .shared
        .publish(RouteTable::new(vec![route(2, 0, 100)]));
    for _ in 0..5 {
        assert_eq!(
            server.post(CHAT).await.way(),
            ("cloud", "External", "placement")
        );
    }
    let mut text = String::new();
    while let Some(frame) = stream.frame().await {
        text.push_str(&String::from_utf8_lossy(
            &frame.expect("not cut").into_data().expect("data"),
        ));
    }
    assert_eq!(text.matches("local").count(), 5);
    assert!(text.ends_with("data: [DONE]\n\n"));
    let metering = state.metering();
    let requests: Vec<_> = metering
        .by_step
        .iter()
        .map(|((name, step), counters)| (&**name, *step, counters.requests()))
        .collect();
    assert_eq!(
        requests,
        [("cloud", 2, 5), ("local", 1, 1)],
        "each request counts at the step that routed it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_the_table_flips() {
    let local = Upstream::start(|number| {
        if number % 2 == 0 {
            ok()
        } else {
            stream(&["a"])
        }
    })
    .await;
    let provider = Upstream::start_tls(|_| ok()).await;
    let state = Arc::default();
    let route = |step: i64| {
        let (here, there) = if step % 2 == 0 { (100, 0) } else { (0, 100) };
        let mut route = Route {
            step,
            state: Arc::clone(&state),
            ..Route::default()
        }
        .local("local", here, local.port);
        route.push(
            "cloud",
            there,
            cloud(provider.port, provider.ca_pem.clone()),
        );
        route.build()
    };
    let server = Arc::new(Server::start(vec![route(0)]).await);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for _ in 0..25 {
                    let answer = server
                        .post(if worker % 2 == 0 { CHAT } else { STREAM })
                        .await;
                    assert!(
                        answer.status == 200 && answer.whole && !answer.body.contains("error"),
                        "{answer:?}"
                    );
                    assert_eq!(answer.header("x-weir-reason"), "placement");
                }
            })
        })
        .collect();
    let flips = async {
        for step in 1.. {
            server.shared.publish(RouteTable::new(vec![route(step)]));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        finished = futures::future::try_join_all(workers) => { finished.expect("no request failed"); }
        () = flips => unreachable!(),
    }
    let requests: u64 = state
        .metering()
        .by_step
        .values()
        .map(weir_gateway::metering::Counters::requests)
        .sum();
    assert!(local.count() > 0 && provider.count() > 0);
    assert!(requests <= 200 && local.count() + provider.count() == 200);
}

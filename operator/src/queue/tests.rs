//! The queue on tokio's paused clock.

use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Never = std::convert::Infallible;

fn options(concurrency: usize) -> QueueOptions {
    QueueOptions {
        name: "test",
        concurrency,
        debounce: Duration::from_millis(200),
        metrics: Arc::new(Metrics::new()),
    }
}

#[tokio::test(start_paused = true)]
async fn changes_within_the_debounce_are_one_reconcile() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let stop = CancellationToken::new();
    let task = run(
        options(2),
        UnboundedReceiverStream::new(receiver),
        move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, Never>(Requeue::OnChange))
        },
        stop.clone(),
    );
    let feed = async {
        for _ in 0..50 {
            sender.send(Key::cluster("a")).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send(Key::cluster("a")).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.cancel();
    };
    tokio::join!(task, feed);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_never_runs_twice_at_once_and_runs_again_when_it_changed_meanwhile() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let spans = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&spans);
    let begin = Instant::now();
    let stop = CancellationToken::new();
    let task = run(
        options(8),
        UnboundedReceiverStream::new(receiver),
        move |_| {
            let log = Arc::clone(&log);
            async move {
                let from = begin.elapsed();
                tokio::time::sleep(Duration::from_secs(5)).await;
                log.lock().unwrap().push((from, begin.elapsed()));
                Ok::<_, Never>(Requeue::OnChange)
            }
        },
        stop.clone(),
    );
    let feed = async {
        for _ in 0..20 {
            sender.send(Key::cluster("a")).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        stop.cancel();
    };
    tokio::join!(task, feed);
    let spans = spans.lock().unwrap();
    assert!(spans.len() >= 2, "{spans:?}");
    assert!(
        spans.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{spans:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_is_retried_ever_more_rarely_and_does_not_hold_up_others() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let runs = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let log = Arc::clone(&runs);
    let stop = CancellationToken::new();
    let task = run(
        options(1),
        UnboundedReceiverStream::new(receiver),
        move |key| {
            *log.lock().unwrap().entry(key.name.clone()).or_default() += 1;
            let result = match key.name.as_str() {
                "bad" => Err(std::io::Error::other("no")),
                _ => Ok(Requeue::After(Duration::from_secs(10))),
            };
            std::future::ready(result)
        },
        stop.clone(),
    );
    let feed = async {
        sender.send(Key::cluster("bad")).unwrap();
        sender.send(Key::cluster("good")).unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.cancel();
    };
    tokio::join!(task, feed);
    let runs = runs.lock().unwrap();
    assert!((10..=35).contains(&runs["bad"]), "{runs:?}");
    assert!((58..=61).contains(&runs["good"]), "{runs:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_time_is_no_backlog_and_what_waits_for_a_slot_is() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let options = options(1);
    let metrics = Arc::clone(&options.metrics);
    let stop = CancellationToken::new();
    let task = run(
        options,
        UnboundedReceiverStream::new(receiver),
        |key: Key| async move {
            if key.name == "slow" {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            Ok::<_, Never>(Requeue::After(Duration::from_secs(600)))
        },
        stop.clone(),
    );
    let shown = || {
        let depth = metrics.queue_depth.with_label_values(&["test"]).get();
        let delayed = metrics.queue_delayed.with_label_values(&["test"]).get();
        let oldest = metrics.queue_oldest.with_label_values(&["test"]).get();
        (depth, delayed, oldest.round())
    };
    let feed = async {
        for at in 0..35 {
            sender.send(Key::cluster(at.to_string())).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(shown(), (0, 35, 0.0));
        sender.send(Key::cluster("slow")).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for at in 0..5 {
            sender.send(Key::cluster(at.to_string())).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!((shown().0, shown().1), (5, 30));
        assert!((9.0..=11.0).contains(&shown().2), "{:?}", shown());
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(shown(), (0, 36, 0.0));
        stop.cancel();
    };
    tokio::join!(task, feed);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_changes_all_the_time_does_not_hold_up_another() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let begin = Instant::now();
    let quiet_ran = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&quiet_ran);
    let stop = CancellationToken::new();
    let key = |namespace: &str, name: usize| Key {
        namespace: Some(namespace.to_owned()),
        name: name.to_string(),
    };
    let task = run(
        options(1),
        UnboundedReceiverStream::new(receiver),
        move |key: Key| {
            let noted = Arc::clone(&noted);
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if key.namespace.as_deref() == Some("quiet") {
                    *noted.lock().unwrap() = Some(begin.elapsed());
                }
                Ok::<_, Never>(Requeue::OnChange)
            }
        },
        stop.clone(),
    );
    let feed = async {
        for name in 0..1_000 {
            sender.send(key("busy", name)).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send(key("quiet", 0)).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.cancel();
    };
    tokio::join!(task, feed);
    let ran = quiet_ran.lock().unwrap().expect("it ran");
    assert!(ran < Duration::from_secs(2), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_its_key_alone() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let options = options(1);
    let metrics = Arc::clone(&options.metrics);
    let stop = CancellationToken::new();
    let task = run(
        options,
        UnboundedReceiverStream::new(receiver),
        move |key: Key| async move {
            assert_ne!(key.name, "panics", "on purpose");
            Ok::<_, Never>(Requeue::OnChange)
        },
        stop.clone(),
    );
    let feed = async {
        sender.send(Key::cluster("panics")).unwrap();
        sender.send(Key::cluster("good")).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        stop.cancel();
    };
    tokio::join!(task, feed);
    let count = |result| {
        metrics
            .reconciles
            .with_label_values(&["test", result])
            .get()
    };
    assert_eq!(count("ok"), 1);
    assert!(count("panic") >= 1);
}

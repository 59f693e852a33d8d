//! `price diff` of files.

use std::fs;

use serde_json::{Value, json};

use super::support::offline;

async fn diff(a: Value, b: Value) -> kubectl_weir::Answer {
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (folder.path().join("a.json"), folder.path().join("b.json"));
    fs::write(&before, a.to_string()).expect("writes");
    fs::write(&after, b.to_string()).expect("writes");
    let line = format!("price diff {} {}", before.display(), after.display());
    offline(&line).await.expect("differs")
}

fn model(input: f64, output: f64) -> Value {
    json!({"input_cost_per_token": input, "output_cost_per_token": output})
}

#[tokio::test]
async fn a_diff_has_what_changed_by_how_much_and_what_the_guard_holds() {
    let a = json!({"kept": model(1e-6, 2e-6), "cheaper": model(4e-7, 1.6e-6), "wrong-unit": model(1e-6, 2e-6),
        "gone": model(3e-6, 15e-6), "garbled": model(1e-6, 1e-6)});
    let b = json!({"kept": model(1e-6, 2e-6), "cheaper": model(3e-7, 1.6e-6), "wrong-unit": model(1e-3, 2e-3),
        "new": model(5e-7, 5e-7), "free": model(0.0, 0.0), "garbled": {"input_cost_per_token": "n/a"}});
    insta::assert_snapshot!("price_diff", diff(a, b).await.output);
}

#[tokio::test]
async fn a_feed_does_not_differ_from_itself() {
    let a = json!({"m": model(1e-6, 2e-6)});
    insta::assert_snapshot!("price_diff_of_the_same", diff(a.clone(), a).await.output);
}

#[tokio::test]
async fn a_difference_is_told_by_the_exit_status_where_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, price: f64| {
        let file = folder.path().join(name);
        fs::write(&file, json!({"m": model(price, price)}).to_string()).expect("writes");
        file.display().to_string()
    };
    let (a, b) = (write("a.json", 1e-6), write("b.json", 2e-6));
    let complete = async |line: String| offline(&line).await.expect("differs").complete;
    assert!(complete(format!("price diff {a} {b}")).await);
    assert!(!complete(format!("price diff {a} {b} --exit-code")).await);
    assert!(complete(format!("price diff {a} {a} --exit-code")).await);
}

#[tokio::test]
async fn a_file_that_is_no_feed_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    fs::write(&file, "<html>").expect("writes");
    let line = format!("price diff {0} {0}", file.display());
    let failure = offline(&line).await.expect_err("is refused");
    assert!(failure.to_string().contains("page.html"), "{failure}");
    assert_eq!(failure.exit_status(), 1);
}

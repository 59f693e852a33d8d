//! The acceptance of the engine: through HTTP, f32 activations give the float64 reference's tokens for all prompts.

mod serving;

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use serving::Server;

/// A position where the reference's two likeliest tokens are closer than this may differ.
const TIE: f64 = 0.001;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    user: Option<String>,
    prompt: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    #[serde(rename = "top2LogprobGaps")]
    gaps: Vec<f64>,
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

async fn check(server: &Server, case: &Case) -> Result<(), String> {
    let mut body =
        json!({"model": "smol", "temperature": 0, "max_tokens": 64, "return_token_ids": true});
    let (prompt, choice) = match &case.user {
        Some(user) => {
            body["messages"] = json!([{"role": "user", "content": user}]);
            let (status, answer) = server.json("/v1/chat/completions", &body).await;
            assert_eq!(status, 200, "{answer}");
            (
                answer["prompt_token_ids"].clone(),
                answer["choices"][0].clone(),
            )
        }
        None => {
            body["prompt"] = json!(case.prompt);
            let (status, answer) = server.json("/v1/completions", &body).await;
            assert_eq!(status, 200, "{answer}");
            let choice = answer["choices"][0].clone();
            (choice["prompt_token_ids"].clone(), choice)
        }
    };
    if ids(&prompt) != case.prompt_tokens {
        return Err(format!("prompt tokens of {:?}: {prompt}", case.prompt));
    }
    let tokens = ids(&choice["token_ids"]);
    let differs = tokens.iter().zip(&case.tokens).position(|(a, b)| a != b);
    match differs {
        Some(at) if case.gaps[at] >= TIE => Err(format!(
            "{:?}: position {at}: {} instead of {}, gap {}",
            case.prompt, tokens[at], case.tokens[at], case.gaps[at]
        )),
        None if tokens.len() != case.tokens.len() => Err(format!(
            "{:?}: {} tokens instead of {}",
            case.prompt,
            tokens.len(),
            case.tokens.len()
        )),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_fifty_prompts_give_the_references_tokens_through_http() {
    let text =
        include_str!("../../engine/tests/fixtures/smollm2-135m-instruct-q4_1.reference.json");
    let cases: Vec<Case> = serde_json::from_str(text).expect("the fixture");
    assert_eq!(cases.len(), 50);
    let args = [
        "--activations",
        "f32",
        "--max-concurrent",
        "16",
        "--sha256",
        serving::SHA256,
    ];
    let server = Server::start(&args).await;
    let results: Vec<Result<(), String>> = stream::iter(&cases)
        .map(|case| check(&server, case))
        .buffer_unordered(20)
        .collect()
        .await;
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    println!(
        "{} of {} prompts agree",
        cases.len() - failures.len(),
        cases.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

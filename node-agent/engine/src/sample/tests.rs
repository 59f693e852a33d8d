use super::*;
use proptest::prelude::*;

fn params(temperature: f32) -> SamplingParams {
    SamplingParams {
        temperature,
        ..SamplingParams::default()
    }
}

fn draws(params: SamplingParams, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(params, &[]);
    (0..count)
        .map(|_| sampler.sample(&mut logits.to_vec(), &[]))
        .collect()
}

#[test]
fn temperature_zero_takes_the_likeliest_and_the_first_of_equals() {
    assert_eq!(draws(params(0.0), &[1.0, 3.0, 3.0, 2.0], 3), [1, 1, 1]);
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits = [0f32, 2f32.ln(), 5f32.ln()];
    let tokens = draws(params(1.0), &logits, 80_000);
    for (token, share) in [(0, 1.0 / 8.0), (1, 2.0 / 8.0), (2, 5.0 / 8.0)] {
        let seen = tokens.iter().filter(|t| **t == token).count() as f64 / 80_000.0;
        assert!((seen - share).abs() < 0.01, "{token}: {seen} {share}");
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32).collect();
    let seeded = |seed| SamplingParams {
        seed,
        ..params(1.0)
    };
    assert_eq!(draws(seeded(7), &logits, 50), draws(seeded(7), &logits, 50));
    assert_ne!(draws(seeded(7), &logits, 50), draws(seeded(8), &logits, 50));
}

#[test]
fn top_k_and_top_p_and_min_p_keep_the_likeliest_only() {
    let logits: Vec<f32> = (0..1000).map(|i| -(i as f32) * 0.5).collect();
    let cases = [
        (
            SamplingParams {
                top_k: 3,
                ..params(1.0)
            },
            3,
        ),
        // 1 - e^-0.5 = 0.39, 0.63, 0.78: two tokens reach 0.6.
        (
            SamplingParams {
                top_p: 0.6,
                ..params(1.0)
            },
            2,
        ),
        // e^-0.5 = 0.61, e^-1 = 0.37, e^-1.5 = 0.22.
        (
            SamplingParams {
                min_p: 0.3,
                ..params(1.0)
            },
            3,
        ),
    ];
    for (params, kept) in cases {
        let mut seen = draws(params, &logits, 3000);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (0..kept).collect::<Vec<u32>>(), "{params:?}");
    }
}

#[test]
fn a_flat_distribution_needs_a_large_nucleus() {
    let logits = vec![0f32; 2000];
    let mut seen = draws(
        SamplingParams {
            top_p: 0.5,
            ..params(1.0)
        },
        &logits,
        20_000,
    );
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
}

#[test]
fn penalties_lower_what_was_said() {
    let mut sampler = Sampler::new(
        SamplingParams {
            presence_penalty: 0.6,
            frequency_penalty: 0.5,
            ..params(0.0)
        },
        &[0],
    );
    let mut next = || sampler.sample(&mut [3.0, 2.5, 1.0], &[]);
    // 3.0 → 1.9 once said, 2.5 → 1.4, 1.9 → 1.4, and the first of equals.
    assert_eq!([next(), next(), next(), next()], [0, 1, 0, 0]);
}

#[test]
fn repetition_counts_the_prompt_too() {
    let mut sampler = Sampler::new(
        SamplingParams {
            repetition_penalty: 2.0,
            ..params(0.0)
        },
        &[0, 2],
    );
    assert_eq!(sampler.sample(&mut [3.0, 2.0, -0.1], &[]), 1);
    assert_eq!(sampler.sample(&mut [-3.0, -2.9, -1.0], &[]), 2);
}

#[test]
fn a_banned_token_is_never_chosen() {
    let mut sampler = Sampler::new(params(1.0), &[]);
    for _ in 0..200 {
        assert_eq!(sampler.sample(&mut [9.0, 1.0], &[0]), 1);
    }
}

#[test]
fn logprobs_are_of_the_model_and_descend() {
    let logits = [1f32, 3.0, 2.0];
    let result = logprobs(&logits, 0, 2);
    let total = (1f64.exp() + 3f64.exp() + 2f64.exp()).ln();
    assert!((f64::from(result.chosen.logprob) - (1.0 - total)).abs() < 1e-6);
    let order: Vec<u32> = result.top.iter().map(|s| s.token).collect();
    assert_eq!(order, [1, 2]);
}

proptest! {
    #[test]
    fn any_parameters_choose_a_token_of_the_vocabulary(
        logits in prop::collection::vec(-50f32..50.0, 1..300),
        temperature in 0f32..3.0,
        top_k in 0usize..400,
        top_p in 0f32..=1.0,
        min_p in 0f32..=1.0,
        seed: u64,
    ) {
        let params = SamplingParams { temperature, top_k, top_p, min_p, seed, ..SamplingParams::default() };
        let mut sampler = Sampler::new(params, &[]);
        for _ in 0..5 {
            let token = sampler.sample(&mut logits.clone(), &[]);
            prop_assert!((token as usize) < logits.len());
        }
    }
}

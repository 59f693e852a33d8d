//! Choosing the next token from logits. Pure: the same seed gives the same tokens.

use std::collections::HashMap;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// Only the likeliest so many; 0 is all.
    pub top_k: usize,
    /// Only the likeliest whose probabilities add up to this.
    pub top_p: f32,
    /// Only those with at least this share of the likeliest's probability.
    pub min_p: f32,
    /// Taken from the logit for each time a token was generated.
    pub frequency_penalty: f32,
    /// Taken from the logit of every token that was generated.
    pub presence_penalty: f32,
    /// Divides positive logits, multiplies negative ones, of every token in prompt or answer.
    pub repetition_penalty: f32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// A token with its log-probability under the model, before penalties and temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// The chosen token's log-probability and the likeliest alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The chosen token.
    pub chosen: Scored,
    /// The likeliest, descending.
    pub top: Vec<Scored>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same forever, which a seed promises.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The sampling state of one request.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: SplitMix64,
    /// Times that a token was generated; 0 for those of the prompt.
    counts: HashMap<u32, u32>,
}

impl Sampler {
    /// A sampler for a request with this prompt.
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        let counts = if params.repetition_penalty == 1.0 {
            HashMap::new()
        } else {
            prompt.iter().map(|token| (*token, 0)).collect()
        };
        Self {
            params,
            random: SplitMix64(params.seed),
            counts,
        }
    }

    /// Chooses a token. `banned` tokens are never chosen. `logits` are changed by penalties.
    pub fn sample(&mut self, logits: &mut [f32], banned: &[u32]) -> u32 {
        self.penalize(logits);
        for token in banned {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let token = if self.params.temperature <= 0.0 {
            greedy(logits)
        } else {
            self.draw(logits)
        };
        if self.keeps_counts() {
            *self.counts.entry(token).or_insert(0) += 1;
        }
        token
    }

    fn keeps_counts(&self) -> bool {
        let p = &self.params;
        p.frequency_penalty != 0.0 || p.presence_penalty != 0.0 || p.repetition_penalty != 1.0
    }

    fn penalize(&self, logits: &mut [f32]) {
        let p = &self.params;
        for (token, count) in &self.counts {
            let Some(logit) = logits.get_mut(*token as usize) else {
                continue;
            };
            if *logit > 0.0 {
                *logit /= p.repetition_penalty;
            } else {
                *logit *= p.repetition_penalty;
            }
            if *count > 0 {
                *logit -= p.frequency_penalty * *count as f32 + p.presence_penalty;
            }
        }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let mut candidates = self.candidates(logits);
        let p = &self.params;
        let most = candidates.len();
        let keep = if p.top_k > 0 { p.top_k.min(most) } else { most };
        if keep < most {
            candidates.select_nth_unstable_by(keep, likelier);
            candidates.truncate(keep);
        }
        if p.top_p < 1.0 {
            nucleus(&mut candidates, f64::from(p.top_p));
        }
        candidates.sort_unstable_by_key(|(token, _)| *token);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for (token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding can leave a little; the likeliest is as good as any.
        greedy(logits)
    }

    /// Tokens with weights relative to the likeliest, those of no weight left out.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = f64::from(self.params.temperature);
        // Below e^-40 of the likeliest, a token never comes in practice.
        let least = f64::from(self.params.min_p).max((-40f64).exp());
        logits
            .iter()
            .enumerate()
            .map(|(token, logit)| {
                let weight = (f64::from(logit - most) / temperature).exp();
                (token as u32, weight)
            })
            .filter(|(_, weight)| *weight >= least)
            .collect()
    }
}

fn likelier(a: &(u32, f64), b: &(u32, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the likeliest whose weights add up to a share of the total, at least one.
fn nucleus(candidates: &mut Vec<(u32, f64)>, share: f64) {
    let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
    let wanted = share * total;
    let mut sorted = 0;
    let mut sum = 0.0;
    // The nucleus is mostly small: sort in growing parts.
    while sorted < candidates.len() {
        let next = (sorted + 256).max(sorted * 4).min(candidates.len());
        if next < candidates.len() {
            candidates[sorted..].select_nth_unstable_by(next - sorted, likelier);
        }
        candidates[sorted..next].sort_unstable_by(likelier);
        for index in sorted..next {
            sum += candidates[index].1;
            if sum >= wanted {
                candidates.truncate(index + 1);
                return;
            }
        }
        sorted = next;
    }
}

/// The likeliest token; the first of equals.
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// The log-probabilities of a chosen token and of the `top` likeliest.
pub fn logprobs(logits: &[f32], chosen: u32, top: usize) -> Logprobs {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|l| f64::from(l - most).exp()).sum();
    let offset = f64::from(most) + total.ln();
    let scored = |token: u32| Scored {
        token,
        logprob: (f64::from(logits[token as usize]) - offset) as f32,
    };
    let top = top.min(logits.len());
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top, by_logit);
    }
    order.truncate(top);
    order.sort_unstable_by(by_logit);
    Logprobs {
        chosen: scored(chosen),
        top: order.into_iter().map(scored).collect(),
    }
}

#[cfg(test)]
mod tests;

use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// Straight transcriptions of the formats' definitions, in f64.
fn reference(tensor_type: TensorType, b: &[u8]) -> Vec<f64> {
    let h = |at: usize| half::f16::from_le_bytes([b[at], b[at + 1]]).to_f64();
    match tensor_type {
        TensorType::Q4_0 => (0..32)
            .map(|i| (f64::from((b[2 + i % 16] >> (i / 16 * 4)) & 15) - 8.0) * h(0))
            .collect(),
        TensorType::Q4_1 => (0..32)
            .map(|i| f64::from((b[4 + i % 16] >> (i / 16 * 4)) & 15) * h(0) + h(2))
            .collect(),
        TensorType::Q5_0 => (0..32)
            .map(|i| {
                let low = (b[6 + i % 16] >> (i / 16 * 4)) & 15;
                let high = (b[2 + i / 8] >> (i % 8)) & 1;
                (f64::from(low | (high << 4)) - 16.0) * h(0)
            })
            .collect(),
        TensorType::Q5_1 => (0..32)
            .map(|i| {
                let low = (b[8 + i % 16] >> (i / 16 * 4)) & 15;
                let high = (b[4 + i / 8] >> (i % 8)) & 1;
                f64::from(low | (high << 4)) * h(0) + h(2)
            })
            .collect(),
        TensorType::Q8_0 => (0..32).map(|i| f64::from(b[2 + i] as i8) * h(0)).collect(),
        TensorType::Q4K | TensorType::Q5K => (0..256)
            .map(|i| {
                let (sub, j) = (i / 32, i % 32);
                let s = &b[4..16];
                let (scale, min) = if sub < 4 {
                    (s[sub] & 63, s[sub + 4] & 63)
                } else {
                    (
                        (s[sub + 4] & 15) | ((s[sub - 4] >> 6) << 4),
                        (s[sub + 4] >> 4) | ((s[sub] >> 6) << 4),
                    )
                };
                let five = tensor_type == TensorType::Q5K;
                let low_at = if five { 48 } else { 16 };
                let low = (b[low_at + sub / 2 * 32 + j] >> (sub % 2 * 4)) & 15;
                let high = if five { (b[16 + j] >> sub) & 1 } else { 0 };
                h(0) * f64::from(scale) * f64::from(low | (high << 4)) - h(2) * f64::from(min)
            })
            .collect(),
        TensorType::Q6K => (0..256)
            .map(|i| {
                let (half, r) = (i / 128, i % 128);
                let (quarter, l) = (r / 32, r % 32);
                let low = b[half * 64 + l + 32 * (quarter % 2)] >> (quarter / 2 * 4) & 15;
                let high = (b[128 + half * 32 + l] >> (2 * quarter)) & 3;
                let scale = b[192 + half * 8 + l / 16 + 2 * quarter] as i8;
                h(208) * f64::from(scale) * (f64::from(low | (high << 4)) - 32.0)
            })
            .collect(),
        TensorType::F32 => vec![f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))],
        TensorType::F16 => vec![h(0)],
        TensorType::Bf16 => vec![half::bf16::from_le_bytes([b[0], b[1]]).to_f64()],
    }
}

/// Blocks whose half-precision fields are small normal numbers.
fn block(tensor_type: TensorType, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut bytes: Vec<u8> = (0..tensor_type.block_bytes()).map(|_| next()).collect();
    let tame = |bytes: &mut [u8], at: usize| bytes[at + 1] = (bytes[at + 1] & 0x83) | 0x28;
    match tensor_type {
        TensorType::F32 => bytes[3] &= 0x3f,
        TensorType::F16 | TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => {
            tame(&mut bytes, 0);
        }
        TensorType::Bf16 => bytes[1] &= 0x3f,
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => {
            tame(&mut bytes, 0);
            tame(&mut bytes, 2);
        }
        TensorType::Q6K => tame(&mut bytes, 208),
    }
    bytes
}

proptest! {
    #[test]
    fn every_codec_equals_its_definition(seed: u64) {
        for tensor_type in TensorType::ALL {
            let bytes = block(tensor_type, seed);
            let mut out = vec![0f32; tensor_type.block_len()];
            dequantize(tensor_type, &bytes, &mut out);
            for (got, want) in out.iter().zip(reference(tensor_type, &bytes)) {
                let scale = want.abs().max(1e-3);
                prop_assert!((f64::from(*got) - want).abs() / scale < 1e-4, "{tensor_type:?}: {got} {want}");
            }
        }
    }

    #[test]
    fn the_affine_form_gives_the_same_weights(seed: u64) {
        for tensor_type in TensorType::ALL {
            let bytes = block(tensor_type, seed);
            let mut out = vec![0f32; tensor_type.block_len()];
            dequantize(tensor_type, &bytes, &mut out);
            let Some(bits) = affine_bits(tensor_type) else {
                prop_assert!(affine_block(tensor_type, &bytes, 0).is_none());
                continue;
            };
            for (index, values) in out.chunks(32).enumerate() {
                let affine = affine_block(tensor_type, &bytes, index).expect("an affine type");
                for (q, want) in affine.q.iter().zip(values) {
                    prop_assert!(u32::from(*q) < 1 << bits);
                    let got = affine.scale * f32::from(*q) + affine.min;
                    prop_assert!((got - want).abs() <= want.abs().max(affine.min.abs()) * 1e-5);
                }
            }
        }
    }

    #[test]
    fn quantizing_stays_within_half_a_step(values in prop::array::uniform32(-4f32..4f32)) {
        let mut out = [0f32; 32];
        dequantize(TensorType::Q8_0, &quantize_q8_0(&values), &mut out);
        for (a, b) in values.iter().zip(out) {
            prop_assert!((a - b).abs() <= 4.0 / 127.0);
        }
        dequantize(TensorType::Q4_1, &quantize_q4_1(&values), &mut out);
        for (a, b) in values.iter().zip(out) {
            prop_assert!((a - b).abs() <= 8.0 / 15.0);
        }
        dequantize(TensorType::Q4_0, &quantize_q4_0(&values), &mut out);
        for (a, b) in values.iter().zip(out) {
            prop_assert!((a - b).abs() <= 4.0 / 7.0);
        }
    }
}

#[test]
fn half_precision_is_widened_exactly_for_every_bit_pattern() {
    for bits in 0..=u16::MAX {
        let want = half::f16::from_bits(bits).to_f32();
        let got = f16_to_f32(bits);
        assert!(
            got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
            "{bits:#06x}: {got} {want}"
        );
    }
}

#[rstest]
fn numbers_of_types_are_ggmls() {
    for tensor_type in TensorType::ALL {
        assert_eq!(
            TensorType::from_gguf(tensor_type.gguf_id()),
            Some(tensor_type)
        );
    }
    assert_eq!(TensorType::from_gguf(16), None);
}

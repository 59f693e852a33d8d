//! Dot products in f32.

/// Dot product over 64 running sums, which are added pairwise: the error grows with the logarithm of the length.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<64>();
    let (b_chunks, b_rest) = b.as_chunks::<64>();
    let mut sums = [0f32; 64];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..64 {
            sums[lane] = multiply_add::<FMA>(x[lane], y[lane], sums[lane]);
        }
    }
    for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = multiply_add::<FMA>(*x, *y, sums[lane]);
    }
    let mut width = 32;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[inline(always)]
pub(super) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

//! Which vector instructions the CPU has, and kernels compiled for each.
//!
//! A kernel is written once as portable code over fixed-width arrays; the wrappers here compile it again with more
//! instructions allowed, and choose at run time.
#![allow(unsafe_code)]

use super::kernels::attention::{self, HeadJob};
use super::kernels::output::Output;
use super::kernels::quantize::{self, QuantizedRows};
use super::kernels::raw::{self, RawRows};
use super::kernels::tile::{self, Tiles};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A set of instructions that this CPU has; made by detection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(Level);

impl Isa {
    /// The widest set that this CPU has.
    pub(super) fn detect() -> Self {
        Self::available()[0]
    }

    /// Every set that this CPU has, the widest first.
    pub(super) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                levels.push(Self(Level::Avx512));
            }
            if avx2 {
                levels.push(Self(Level::Avx2));
            }
        }
        levels.push(Self(Level::Portable));
        levels
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512-vnni",
        }
    }

    /// Whether AVX2 with FMA and F16C was detected, and nothing wider.
    #[cfg(target_arch = "x86_64")]
    fn has_avx2(self) -> bool {
        self.0 == Level::Avx2
    }

    /// Whether AVX-512 with VNNI was detected.
    #[cfg(target_arch = "x86_64")]
    fn has_vnni(self) -> bool {
        self.0 == Level::Avx512
    }
}

/// `for_each_isa! { fn name(arg: Type, …) = path; … }`: wrappers that call `path::<FMA>(arg, …)` compiled for the
/// instructions that [`Isa`] stands for.
macro_rules! for_each_isa {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $module:ident::$kernel:ident;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::*;
            $(
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $ty),*) {
                    $module::$kernel::<true>($($arg),*)
                }
            )*
        }
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::*;
            $(
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name($($arg: $ty),*) {
                    $module::$kernel::<true>($($arg),*)
                }
            )*
        }
        impl Isa {
            $(
                #[allow(clippy::too_many_arguments)]
                pub(super) fn $name(self, $($arg: $ty),*) {
                    match self.0 {
                        Level::Portable => $module::$kernel::<false>($($arg),*),
                        #[cfg(target_arch = "x86_64")]
                        // SAFETY: this level is made only after detecting these instructions.
                        Level::Avx2 => unsafe { avx2::$name($($arg),*) },
                        #[cfg(target_arch = "x86_64")]
                        // SAFETY: this level is made only after detecting these instructions.
                        Level::Avx512 => unsafe { avx512::$name($($arg),*) },
                    }
                }
            )*
        }
    };
}

for_each_isa! {
    fn raw_rows(matrix: RawRows<'_>, rows: Range<usize>, input: &[f32], output: &Output<'_>) = raw::raw_rows;
    fn tile_rows(tiles: Tiles<'_>, input: QuantizedRows<'_>, range: Range<usize>, output: &Output<'_>) = tile::tile_rows;
    fn quantize_row(values: &[f32], q: &mut [i8], scales: &mut [f32], sums: &mut [f32]) = quantize::quantize_row;
    fn attend_f32(job: HeadJob<'_>, keys: &[f32], values: &[f32], out: &mut [f32]) = attention::attend_f32;
    fn attend_f16(job: HeadJob<'_>, keys: &[u16], values: &[u16], out: &mut [f32]) = attention::attend_f16;
}

impl Isa {
    /// Products of some row tiles with every input row, by the best kernel for these instructions.
    pub(super) fn multiply_tiles(
        self,
        tiles: Tiles<'_>,
        input: QuantizedRows<'_>,
        range: Range<usize>,
        output: &Output<'_>,
    ) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `has_vnni` and `has_avx2` are true only after detecting the instructions.
        unsafe {
            match (self.has_vnni(), self.has_avx2(), tiles.bits()) {
                (true, _, 4) => return tile::vnni::rows::<4>(tiles, input, range, output),
                (true, _, _) => return tile::vnni::rows::<8>(tiles, input, range, output),
                (_, true, 4) => return tile::avx2::rows::<4>(tiles, input, range, output),
                (_, true, _) => return tile::avx2::rows::<8>(tiles, input, range, output),
                _ => (),
            }
        }
        self.tile_rows(tiles, input, range, output);
    }
}

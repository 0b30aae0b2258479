//! Which instructions for bf16 the machine has, found once at run time.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::amx::{self, Tiles};
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::blocks::Block;
use super::portable;
use super::product::Sums;

/// Instructions that multiply bf16 numbers; a value proves that this machine has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Unit {
    /// The best instructions of this machine; `None` where it has none for bf16.
    pub fn detect() -> Option<Self> {
        static BEST: OnceLock<Option<Unit>> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().filter(|unit| unit.0 != Kind::Portable))
    }

    /// All that this machine has, the best last. The first is plain Rust, which shows what the
    /// others compute and is too slow to serve.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                found.push(Self(Kind::Avx512));
            }
            if has_tiles() && amx::permitted() {
                found.push(Self(Kind::Amx));
            }
        }
        found
    }

    pub(super) fn portable() -> Self {
        Self(Kind::Portable)
    }

    /// Its name in logs and tables.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx-bf16",
        }
    }

    /// Makes the current thread ready to multiply.
    pub(super) fn enter(self) -> Entered {
        match self.0 {
            Kind::Portable => Entered::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Entered::Avx512,
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: a `Unit` of this kind exists only where there are tile registers and they are
            // permitted.
            Kind::Amx => Entered::Amx(unsafe { Tiles::configure() }),
        }
    }
}

/// Whether the processor has tile registers and multiplies bf16 in them: bits 24 and 22 of CPUID's
/// leaf 7.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16
}

/// A unit on a thread that is ready for it.
pub(super) enum Entered {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Amx(Tiles),
}

impl Entered {
    /// `sums` = activations · weights for the one or two groups of rows in `x`, each as long as the
    /// panel is deep.
    pub(super) fn sum(&self, x: &[&[Block]], weights: &[Block], sums: &mut Sums) {
        match self {
            Self::Portable => portable::sum(x, weights, sums),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: a `Unit` of this kind exists only where the machine has these instructions.
            Self::Avx512 => unsafe { avx512::sum(x, weights, sums) },
            #[cfg(target_arch = "x86_64")]
            Self::Amx(tiles) => tiles.sum(x, weights, sums),
        }
    }
}

//! Instruction sets for bf16: which of them the processor has, and the call of their kernels.
//!
//! The choice is made once at run time; [`super::check`] compares it with plain Rust before a model
//! uses it.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::amx::{self, Tiles};
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::portable;
use super::tile::{PanelSums, TileData};

/// An instruction set that multiplies bf16 numbers; a value proves that this machine has it.
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
    /// The best instruction set of this machine; `None` if it has none for bf16.
    pub fn detect() -> Option<Self> {
        static BEST: OnceLock<Option<Unit>> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().filter(|unit| unit.0 != Kind::Portable))
    }

    /// All instruction sets of this machine, the best last. The first is plain Rust, the reference
    /// of the others, which is too slow to serve.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                found.push(Self(Kind::Avx512));
            }
            // Asked for only where the processor has them, as the kernel grants it to the whole
            // process.
            if has_tiles() && amx::permitted() {
                found.push(Self(Kind::Amx));
            }
        }
        found
    }

    /// Plain Rust.
    pub(super) fn portable() -> Self {
        Self(Kind::Portable)
    }

    /// Name in logs and tables.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => "amx-bf16",
        }
    }

    /// Prepares the current thread for products; AMX registers are configured per thread.
    pub(super) fn enter(self) -> ThreadUnit {
        match self.0 {
            Kind::Portable => ThreadUnit::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => ThreadUnit::Avx512,
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: `available` makes a `Unit` of this kind only after CPUID has shown tile
            // registers and Linux has permitted their use.
            Kind::Amx => ThreadUnit::Amx(unsafe { Tiles::configure() }),
        }
    }
}

/// Returns true if the processor has tile registers and multiplies bf16 in them: AMX-TILE and
/// AMX-BF16, bits 24 and 22 of EDX in CPUID's leaf 7. The standard library's macro for them is not
/// stable.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILE | BF16) == TILE | BF16
}

/// A [`Unit`] on a thread that is prepared for it.
pub(super) enum ThreadUnit {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Amx(Tiles),
}

impl ThreadUnit {
    /// `sums` = activations · weights for the one or two groups of rows in `x`, each of as many
    /// tiles as the panel is deep.
    pub(super) fn sum(&self, x: &[&[TileData]], weights: &[TileData], sums: &mut PanelSums) {
        match self {
            Self::Portable => portable::sum(x, weights, sums),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: `Unit::available` makes this kind only after it has detected both features.
            Self::Avx512 => unsafe { avx512::sum(x, weights, sums) },
            #[cfg(target_arch = "x86_64")]
            Self::Amx(tiles) => tiles.sum(x, weights, sums),
        }
    }
}

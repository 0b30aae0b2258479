//! Instruction sets: which of them the processor has, and how one body of Rust is compiled for
//! each.
//!
//! The choice is made once at run time, so one binary serves every x86-64 machine. A value of
//! [`Isa`] is the proof that kernels need before they run code behind `#[target_feature]`.

use std::sync::OnceLock;

/// An instruction set that kernels may use; a value proves that this machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

/// Instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self(Kind::Portable)))
    }

    /// All instruction sets of this machine, the best last.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self(Kind::Avx2));
                // All four, as the compiler may use any of them for a body that is compiled for
                // AVX-512.
                if ["avx512f", "avx512bw", "avx512dq", "avx512vl"].into_iter().all(has_avx512) {
                    found.push(Self(Kind::Avx512));
                }
            }
        }
        found
    }

    /// Name in logs and tables.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// The instruction set, to be matched on.
    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        _ => is_x86_feature_detected!("avx512vl"),
    }
}

/// Runs `body::<FMA>(arguments)` compiled for the instruction set `isa`; the body must be
/// `#[inline(always)]`, as only then it takes on the `target_feature` of its caller.
///
/// `FMA` says whether a fused multiply-add is one instruction there; elsewhere it would be a call
/// of the C library.
macro_rules! by_isa {
    ($isa:expr, $body:ident($($argument:ident: $kind:ty = $value:expr),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512($($argument: $kind),*) {
            $body::<true>($($argument),*);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($argument: $kind),*) {
            $body::<true>($($argument),*);
        }
        #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
        match $isa.kind() {
            // SAFETY: `Isa::available` makes a value of this kind only after it has detected these
            // features, and its field is private.
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Kind::Avx512 => unsafe { avx512($($value),*) },
            // SAFETY: as above, for AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            $crate::kernels::isa::Kind::Avx2 => unsafe { avx2($($value),*) },
            $crate::kernels::isa::Kind::Portable => $body::<false>($($value),*),
        }
    }};
}
pub(crate) use by_isa;

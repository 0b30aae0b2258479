//! Tile registers (AMX): eight of a kibibyte, and one instruction for 8192 products.
//!
//! Intel, "Architecture Instruction Set Extensions and Future Features", chapter 3. Rust's
//! intrinsics for them are not stable, hence assembler; the compiler itself never uses tile
//! registers.

#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::marker::PhantomData;

use super::blocks::{ACROSS, Block, SIDE};
use super::product::Sums;
use crate::kernels::matrix::PANEL;

/// Bytes from one line of a block to the next, and from one row of [`Sums`] to the next.
const LINE: usize = 64;
const SUMS_ROW: usize = PANEL * size_of::<f32>();

/// Asks the kernel to let this process use tile registers; whether the processor has them has to be
/// known before.
pub(super) fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    #[allow(unsafe_code, reason = "a system call without a wrapper")]
    // SAFETY: the call takes two numbers, touches no memory of ours and only widens what a signal
    // frame may hold.
    let answer = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    answer == 0
}

/// All tile registers of the current thread set to 16 lines of 64 bytes; they are given back with
/// this.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures the registers.
    ///
    /// # Safety
    /// The processor must have tile registers and [`permitted`] have been answered with true.
    #[allow(unsafe_code, reason = "an instruction that faults where it is not permitted")]
    pub(super) unsafe fn configure() -> Self {
        /// Palette 1, then for each register the bytes of a line at 16 and the lines at 48.
        #[repr(C, align(64))]
        struct Configuration([u8; 64]);
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for register in 0..8 {
            configuration.0[16 + 2 * register] = LINE as u8;
            configuration.0[48 + register] = SIDE as u8;
        }
        // SAFETY: the caller's promise; the 64 bytes are a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
        }
        Self(PhantomData)
    }

    /// `sums` = activations · weights for one or two groups of rows; see [`Sums`].
    pub(super) fn sum(&self, x: &[&[Block]], weights: &[Block], sums: &mut Sums) {
        match x {
            [one] => self.one(one, weights, sums),
            [one, two] => self.two(one, two, weights, sums),
            _ => unreachable!("one or two groups"),
        }
    }

    /// 16 × 32 sums.
    #[allow(unsafe_code, reason = "tile registers have no stable intrinsics")]
    fn one(&self, x: &[Block], weights: &[Block], sums: &mut Sums) {
        assert!(!x.is_empty() && weights.len() == x.len() * ACROSS, "as many blocks of weights");
        // SAFETY: the registers are configured, which `self` proves; `x.len()` blocks are read from
        // `x` and twice as many from `weights`, and 16 rows of `sums` are written.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{x} + {line} * 1]",
                "tileloadd tmm6, [{weights} + {line} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {line} * 1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {x}, 1024",
                "add {weights}, 2048",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {row} * 1], tmm0",
                "tilestored [{sums} + {row} * 1 + 64], tmm1",
                x = inout(reg) x.as_ptr() => _,
                weights = inout(reg) weights.as_ptr() => _,
                count = inout(reg) x.len() => _,
                sums = in(reg) sums.0.as_mut_ptr(),
                line = in(reg) LINE,
                row = in(reg) SUMS_ROW,
                options(nostack),
            );
        }
    }

    /// 32 × 32 sums.
    #[allow(unsafe_code, reason = "tile registers have no stable intrinsics")]
    fn two(&self, x: &[Block], below: &[Block], weights: &[Block], sums: &mut Sums) {
        assert!(!x.is_empty() && weights.len() == x.len() * ACROSS, "as many blocks of weights");
        assert_eq!(x.len(), below.len(), "groups of one matrix");
        let upper = sums.0.as_mut_ptr();
        // SAFETY: as in `one`, with as many blocks of `below` and all rows of `sums`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{x} + {line} * 1]",
                "tileloadd tmm6, [{weights} + {line} * 1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {line} * 1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {line} * 1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {x}, 1024",
                "add {below}, 1024",
                "add {weights}, 2048",
                "dec {count}",
                "jnz 2b",
                "tilestored [{upper} + {row} * 1], tmm0",
                "tilestored [{upper} + {row} * 1 + 64], tmm1",
                "tilestored [{lower} + {row} * 1], tmm2",
                "tilestored [{lower} + {row} * 1 + 64], tmm3",
                x = inout(reg) x.as_ptr() => _,
                below = inout(reg) below.as_ptr() => _,
                weights = inout(reg) weights.as_ptr() => _,
                count = inout(reg) x.len() => _,
                upper = in(reg) upper,
                lower = in(reg) upper.wrapping_add(SIDE),
                line = in(reg) LINE,
                row = in(reg) SUMS_ROW,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    #[allow(unsafe_code, reason = "tile registers have no stable intrinsics")]
    fn drop(&mut self) {
        // SAFETY: the registers were configured on this thread, which a `Tiles` never leaves.
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

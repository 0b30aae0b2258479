//! AMX: eight tile registers of a kibibyte, and one instruction, `tdpbf16ps`, for 8,192 products.
//!
//! Intel, "Architecture Instruction Set Extensions and Future Features", chapter 3. Rust's
//! intrinsics for AMX are not stable, hence inline assembly. The compiler never uses tile registers
//! itself, so they need not be declared as clobbered.

#![cfg(target_arch = "x86_64")]

use std::arch::asm;
use std::marker::PhantomData;

use super::tile::{PANEL_TILES, PanelSums, TILE_ROWS, TileData};
use crate::kernels::matrix::PANEL;

/// Bytes from one line of a tile to the next.
const LINE: usize = 64;
/// Bytes from one row of [`PanelSums`] to the next.
const SUMS_ROW: usize = PANEL * size_of::<f32>();

/// Asks Linux for permission to use tile registers, for all threads of this process. The caller
/// must know already that the processor has them.
pub(super) fn permitted() -> bool {
    // Names and numbers of the kernel's documentation, "Using XSTATE features in user space
    // applications".
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    #[allow(unsafe_code, reason = "a system call without a wrapper")]
    // SAFETY: the call takes two numbers and no pointer; it changes nothing but the permission, and
    // with it the size of signal frames.
    let answer = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    answer == 0
}

/// The tile registers of the current thread, configured as 16 lines of 64 bytes each; released on
/// drop. Neither `Send` nor `Sync`, as the configuration is that of a thread.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures the registers.
    ///
    /// # Safety
    /// The processor must have tile registers, and [`permitted`] must have returned true.
    #[allow(unsafe_code, reason = "an instruction that faults without permission")]
    pub(super) unsafe fn configure() -> Self {
        /// Palette 1, then for each register the bytes of a line at 16 and the lines at 48.
        #[repr(C, align(64))]
        struct Configuration([u8; 64]);
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for register in 0..8 {
            configuration.0[16 + 2 * register] = LINE as u8;
            configuration.0[48 + register] = TILE_ROWS as u8;
        }
        // SAFETY: the caller promises that the instruction exists and is permitted. It reads 64
        // bytes, which are a valid configuration for palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
        }
        Self(PhantomData)
    }

    /// `sums` = activations · weights for one or two groups of rows.
    pub(super) fn sum(&self, x: &[&[TileData]], weights: &[TileData], sums: &mut PanelSums) {
        match x {
            [one] => self.one(one, weights, sums),
            [one, two] => self.two(one, two, weights, sums),
            _ => unreachable!("one or two groups"),
        }
    }

    /// 16 × 32 sums, in two tile registers.
    #[allow(unsafe_code, reason = "tile registers have no stable intrinsics")]
    fn one(&self, x: &[TileData], weights: &[TileData], sums: &mut PanelSums) {
        assert!(
            !x.is_empty() && weights.len() == x.len() * PANEL_TILES,
            "as many tiles of weights as of activations"
        );
        // SAFETY: `self` proves that this thread's registers are configured. The loop runs
        // `x.len()` times, at least once, and reads a tile of `x` and two of `weights` each time,
        // which the assertion has shown to exist. 16 rows of 32 floats are written to `sums`, which
        // holds 32.
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

    /// 32 × 32 sums, in four tile registers: each loaded tile is used twice.
    #[allow(unsafe_code, reason = "tile registers have no stable intrinsics")]
    fn two(&self, x: &[TileData], below: &[TileData], weights: &[TileData], sums: &mut PanelSums) {
        assert!(
            !x.is_empty() && weights.len() == x.len() * PANEL_TILES,
            "as many tiles of weights as of activations"
        );
        assert_eq!(x.len(), below.len(), "groups of one matrix");
        let upper = sums.0.as_mut_ptr();
        // SAFETY: as in `one`, with as many tiles of `below`, which was asserted, and all 32 rows
        // of `sums`.
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
                lower = in(reg) upper.wrapping_add(TILE_ROWS),
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
        // SAFETY: `configure` ran on this very thread, as a `Tiles` is not `Send`, so the
        // instruction exists and is permitted.
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

//! Matrices of f32 whose rows begin on cache lines, and the units in which weights are packed.
//!
//! A matrix is a buffer that is reused between forward passes: it grows and never shrinks. Rows
//! have room for whole panels, so that micro-kernels store full vectors without a tail loop.

/// Columns of a panel: the unit in which matrix products are shared out among threads. Two strips,
/// as wide as the AVX-512 register tile. Every row has room for a multiple of it.
pub(crate) const PANEL: usize = 32;
/// Columns of a strip, the micro-panel of BLIS: their weights for one step of the inner dimension
/// fill one cache line of 64 bytes.
pub(super) const STRIP: usize = 16;

/// One cache line of 16 floats.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct CacheLine([f32; CacheLine::FLOATS]);

impl CacheLine {
    /// Floats of a line of 64 bytes, as on every x86-64 processor.
    pub(super) const FLOATS: usize = 16;
    const ZERO: Self = Self([0.0; Self::FLOATS]);

    /// Zeroed lines that hold at least `floats`.
    pub(super) fn zeros(floats: usize) -> Vec<Self> {
        vec![Self::ZERO; floats.div_ceil(Self::FLOATS)]
    }

    /// Grows a scratch buffer to hold at least `floats`.
    pub(super) fn reserve(lines: &mut Vec<Self>, floats: usize) {
        let wanted = floats.div_ceil(Self::FLOATS);
        if lines.len() < wanted {
            lines.resize(wanted, Self::ZERO);
        }
    }

    /// The floats of some lines, one after the other.
    #[allow(unsafe_code, reason = "a line is nothing but its floats")]
    pub(super) fn floats(lines: &[Self]) -> &[f32] {
        // SAFETY: `CacheLine` is repr(C) around 16 floats and exactly as large (its alignment of 64
        // adds no padding), so a slice of lines is a slice of initialised, contiguous floats. The
        // result borrows from `lines`.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * Self::FLOATS) }
    }

    /// The floats of some lines, for writing.
    #[allow(unsafe_code, reason = "a line is nothing but its floats")]
    pub(super) fn floats_mut(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: as in `floats`; `lines` is borrowed exclusively for as long as the result.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * Self::FLOATS) }
    }

    /// The bytes of some lines.
    #[allow(unsafe_code, reason = "a line is nothing but its bytes")]
    pub(super) fn bytes(lines: &[Self]) -> &[u8] {
        // SAFETY: as in `floats`; floats have no padding, so each of their bytes is initialised.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
    }

    /// The bytes of some lines, for writing.
    #[allow(unsafe_code, reason = "a line is nothing but its bytes")]
    pub(super) fn bytes_mut(lines: &mut [Self]) -> &mut [u8] {
        // SAFETY: as in `floats_mut`; any four bytes that are written here are a valid f32.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
    }
}

/// A row-major matrix, reused between forward passes.
///
/// Rows lie an odd number of cache lines apart, so that the same column of neighbouring rows falls
/// into different sets of the L1 cache. They have room for whole panels; the surplus columns are
/// unspecified.
#[derive(Debug, Default)]
pub struct Matrix {
    lines: Vec<CacheLine>,
    rows: usize,
    width: usize,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn new(rows: usize, width: usize) -> Self {
        let mut matrix = Self::default();
        matrix.resize(rows, width);
        matrix
    }

    /// A copy of row-major values.
    pub fn from_rows(values: &[f32], width: usize) -> Self {
        let mut matrix = Self::new(values.len() / width, width);
        for (index, row) in values.chunks_exact(width).enumerate() {
            matrix.row_mut(index).copy_from_slice(row);
        }
        matrix
    }

    /// Changes the shape; what the rows hold afterwards is unspecified.
    pub fn resize(&mut self, rows: usize, width: usize) {
        self.rows = rows;
        self.width = width;
        // Never shrinks: a forward pass of another size must not allocate.
        let floats = rows * self.stride();
        CacheLine::reserve(&mut self.lines, floats);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, without the surplus.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from one row to the next.
    pub fn stride(&self) -> usize {
        self.width.next_multiple_of(PANEL) + CacheLine::FLOATS
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data()[index * self.stride()..][..self.width]
    }

    /// One row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        let (stride, width) = (self.stride(), self.width);
        &mut self.data_mut()[index * stride..][..width]
    }

    pub(super) fn data(&self) -> &[f32] {
        &CacheLine::floats(&self.lines)[..self.rows * self.stride()]
    }

    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        let floats = self.rows * self.stride();
        &mut CacheLine::floats_mut(&mut self.lines)[..floats]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_begin_on_lines_an_odd_number_apart() {
        for width in [1, 8, 31, 32, 33, 384, 768, 2304, 3072] {
            let mut matrix = Matrix::new(3, width);
            assert_eq!(matrix.stride() % 32, 16, "{width}");
            assert!(matrix.row(1).as_ptr().cast::<CacheLine>().is_aligned());
            matrix.row_mut(2).fill(1.0);
            assert!(matrix.row(1).iter().all(|x| *x == 0.0));
            assert_eq!(matrix.row(2).len(), width);
        }
    }
}

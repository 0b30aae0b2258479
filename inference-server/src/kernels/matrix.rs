//! Rows of f32 that begin on cache lines.

/// Columns that matrix products share out among threads; every row has room for a multiple of it.
pub(crate) const PANEL: usize = 32;
/// Columns of a panel whose weights lie together, those of one step of the sums on a cache line.
pub(super) const STRIP: usize = 16;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([f32; Line::FLOATS]);

impl Line {
    pub(super) const FLOATS: usize = 16;
    const ZERO: Self = Self([0.0; Self::FLOATS]);

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

    #[allow(unsafe_code, reason = "a line is nothing but its floats")]
    pub(super) fn floats(lines: &[Self]) -> &[f32] {
        // SAFETY: `Line` is repr(C) around an array of f32 of its own size, so lines are contiguous
        // floats.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * Self::FLOATS) }
    }

    #[allow(unsafe_code, reason = "a line is nothing but its floats")]
    pub(super) fn floats_mut(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: as in `floats`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * Self::FLOATS) }
    }

    #[allow(unsafe_code, reason = "a line is nothing but its bytes")]
    pub(super) fn bytes(lines: &[Self]) -> &[u8] {
        // SAFETY: as in `floats`; any byte of a number is a byte.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
    }

    #[allow(unsafe_code, reason = "a line is nothing but its bytes")]
    pub(super) fn bytes_mut(lines: &mut [Self]) -> &mut [u8] {
        // SAFETY: as in `floats_mut`; any four bytes are a number.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
    }
}

/// A buffer of rows that is reused between forward passes.
///
/// Rows lie an odd number of cache lines apart, so that the same column of neighbouring rows falls
/// into different sets of the first-level cache, and have room for a whole number of panels, whose
/// surplus columns hold no meaning.
#[derive(Debug, Default)]
pub struct Matrix {
    lines: Vec<Line>,
    rows: usize,
    width: usize,
}

impl Matrix {
    /// Zeros.
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
        let floats = rows * self.stride();
        Line::reserve(&mut self.lines, floats);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns with meaning.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from one row to the next.
    pub fn stride(&self) -> usize {
        self.width.next_multiple_of(PANEL) + Line::FLOATS
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
        &Line::floats(&self.lines)[..self.rows * self.stride()]
    }

    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        let floats = self.rows * self.stride();
        &mut Line::floats_mut(&mut self.lines)[..floats]
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
            assert!(matrix.row(1).as_ptr().cast::<Line>().is_aligned());
            matrix.row_mut(2).fill(1.0);
            assert!(matrix.row(1).iter().all(|x| *x == 0.0));
            assert_eq!(matrix.row(2).len(), width);
        }
    }
}

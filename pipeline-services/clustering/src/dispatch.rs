//! Turns a run-time number of columns into a compile-time one, so that points are arrays.
//!
//! One to eight columns have code of their own; for more, the caller says what happens.

/// Calls `$function::<D>(args)` for the `D` in 1..=8 that equals `$dims`; `$otherwise` beyond.
macro_rules! with_dims {
    ($dims:expr, $function:ident($($argument:expr),*), $otherwise:expr) => {
        match $dims {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            6 => $function::<6>($($argument),*),
            7 => $function::<7>($($argument),*),
            8 => $function::<8>($($argument),*),
            _ => $otherwise,
        }
    };
}

pub(crate) use with_dims;

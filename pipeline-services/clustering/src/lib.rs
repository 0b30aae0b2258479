//! Dimension reduction, clustering and cluster quality for the analyzer.
//!
//! Plain numbers in, plain numbers out: nothing here reads a file, talks to a database or is
//! asynchronous, and every function is a pure function of its arguments. A run on the same
//! numbers gives the same bytes, whatever the number of threads and the processor's instructions.
//!
//! | step | call | source |
//! |---|---|---|
//! | vectors to a map for the eye | [`umap::umap`] | McInnes, Healy & Melville 2018 |
//! | vectors to coordinates for clustering | [`eigenmap::eigenmap`] | Belkin & Niyogi 2003 |
//! | coordinates to clusters and noise | [`hdbscan::hdbscan`] | Campello, Moulavi & Sander 2013 |
//! | how good is the grouping | [`quality`] | Rousseeuw 1987; Davies & Bouldin 1979 |
//! | who stands for a cluster | [`members::clusters`] | |
//!
//! ```
//! use observatory_clustering::{Matrix, eigenmap, hdbscan, quality};
//!
//! // Forty directions in three dimensions, twenty around each of two axes.
//! let vectors: Vec<f32> = (0..40)
//!     .flat_map(|i| {
//!         let t = (i / 2) as f32 * 0.01;
//!         if i % 2 == 0 { [1.0, t, 0.3 * t] } else { [t, 0.3 * t, 1.0] }
//!     })
//!     .collect();
//! let vectors = Matrix::new(&vectors, 3)?;
//! let map = eigenmap::eigenmap(vectors, &eigenmap::EigenmapParams::default())?;
//! let coordinates = Matrix::new(&map.coordinates, map.dims)?;
//! let found = hdbscan::hdbscan(coordinates, &hdbscan::HdbscanParams::default())?;
//! assert_eq!(found.labels.len(), 40);
//! assert!(quality::noise_share(&found.labels) < Some(0.2));
//! # Ok::<(), observatory_clustering::ClusteringError>(())
//! ```

mod dispatch;
mod eigen;
pub mod eigenmap;
mod error;
mod graph;
pub mod hdbscan;
mod math;
mod matrix;
pub mod members;
mod parallel;
pub mod quality;
mod rng;
mod simd;
pub mod umap;

pub use error::ClusteringError;
pub use matrix::Matrix;
#[doc(hidden)]
pub use simd::use_base_instructions;

/// A cluster number per row, `None` for noise.
pub type Label = Option<u32>;

/// The most coordinates per point that the layout handles, and the exact clustering engine by its
/// tree.
pub const MAX_COORDINATES: usize = 8;

//! Links wordings to concepts of a taxonomy.
//!
//! An [`Index`] holds every wording of every concept: labels, alternative labels and the phrases by
//! which Latin American advertisements name ESCO's skills. A wording is looked up exactly, then by
//! the roots of its words ([`Index::same`]), and for a ranking by how much its words and letters
//! resemble ([`Index::rank`]). Everything happens in memory, without a server or a database.

mod hashing;
mod index;
pub mod phrases;
mod roots;

pub use index::{Candidate, Index, Source, Wording};

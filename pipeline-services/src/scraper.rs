//! From the pages of job portals to postings.
//!
//! A portal is a file (`portals/*.toml`): its addresses, how its listings and details are read,
//! what its refusals look like. [`crawl()`] follows the listings of one portal in one country
//! through a [`Fetcher`], which obeys robots.txt and keeps its pace, and sends every ad as a
//! [`NewPosting`](crate::domain::posting::NewPosting). Nothing here knows the database.

mod address;
mod blocked;
mod crawl;
mod date;
mod document;
mod fetch;
mod gathering;
mod json_ld;
mod page;
mod portal;
mod robots;
pub(crate) mod stage;
mod template;
mod tree;

use address::Base;
use crawl::{CrawlOptions, CrawlReport, Cursor, Fate, Found, StopReason, crawl};
pub use fetch::PRODUCT;
use fetch::{FetchOptions, Fetcher, Reach, honest_agent};
pub use portal::Portal;
use portal::load;
pub use robots::Robots;

#[cfg(test)]
mod tests;

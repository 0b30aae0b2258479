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
pub mod stage;
mod template;
mod tree;

pub use address::{BadBase, Base, canonical};
pub use crawl::{
    CrawlError, CrawlOptions, CrawlReport, Cursor, Fate, Found, PageCursor, PageDone, StopReason, crawl,
};
pub use fetch::{
    AutoThrottle, Counters, FetchCounters, FetchError, FetchOptions, Fetcher, FetcherError, PRODUCT, Page,
    Reach, Request, honest_agent,
};
pub use portal::{
    Country, FIELDS, Kind, Limits, Method, Permission, Portal, PortalError, Problem, built_in, load,
};
pub use robots::Robots;

#[cfg(test)]
mod tests;

//! How far a crawl has come: its searches, and what is sent of them.
//!
//! The serialised [`Cursor`] lies in checkpoints of the store: a later version must still read it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Next, StopReason};
use crate::domain::posting::NewPosting;

/// The place from which a crawl goes on: what lies before it has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cursor {
    /// Place of the search in the list of queries.
    pub search: usize,
    /// The listing page of that search; its first when absent.
    pub page: Option<PageCursor>,
    /// Listing pages read before it, of all searches.
    pub pages: u64,
    /// Postings sent before it.
    pub items: u64,
}

/// A listing page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageCursor {
    /// Its number, as the portal counts.
    pub number: u32,
    /// Its address, where pages link to the next one.
    pub url: Option<String>,
}

/// A message of a crawl.
#[derive(Debug)]
pub(crate) enum Found {
    /// A search begins or goes on: what follows is of this query.
    Search(String),
    /// An advertisement.
    Ad(Box<NewPosting>),
    /// All of a listing page has been sent, or its search is over.
    Page(PageDone),
}

/// Progress of a crawl.
#[derive(Debug)]
pub(crate) struct PageDone {
    /// Listing pages read of this search since the crawl began.
    pub pages: u32,
    /// Reason for which the search is over; none while it goes on.
    pub stop: Option<StopReason>,
    /// Ids of ads that are stored already and that the page still shows.
    pub seen_again: Vec<String>,
    /// The place from which the crawl goes on.
    pub cursor: Cursor,
}

/// The state of one search.
#[derive(Default)]
pub(super) struct Walk<'q> {
    pub(super) query: &'q str,
    pub(super) number: u32,
    /// Past the first page.
    pub(super) turned: bool,
    // With the body: the pages of a search by POST may differ in nothing else.
    pub(super) asked: HashSet<(Url, Option<String>)>,
    pub(super) met: HashSet<String>,
    pub(super) stale: u32,
    /// Number of ads that the portal says there are.
    pub(super) total: Option<u64>,
    /// Listing pages that the crawl had read when the search began.
    pub(super) pages_before: u64,
    /// The listing itself came to an end.
    pub(super) complete: bool,
    /// Begun in the middle.
    pub(super) resumed: bool,
}

impl Walk<'_> {
    pub(super) fn end(&mut self) -> Next {
        self.complete = true;
        Next::End
    }
}

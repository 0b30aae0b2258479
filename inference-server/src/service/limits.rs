//! Bounds of one request, and the checks that hold it to them.
//!
//! Each is an operator's flag; see `inference-server --help`.

use std::time::Duration;

use super::Service;
use crate::error::Error;

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Texts of one request.
    pub texts: usize,
    /// Bytes of one text.
    pub text_bytes: usize,
    /// Items of one stream whose results have not gone out.
    pub stream_items: usize,
    /// Bytes of one request message.
    pub request_bytes: usize,
    /// Bytes of one response message.
    pub response_bytes: usize,
    /// Time, unless the caller's deadline is earlier.
    pub time: Duration,
}

impl Service {
    /// # Errors
    /// [`Error::EmptyBatch`] and [`Error::BatchTooLarge`].
    pub(super) fn check_count(&self, field: &str, count: usize) -> Result<(), Error> {
        let (field, limit) = (field.to_owned(), self.limits().texts);
        match count {
            0 => Err(Error::EmptyBatch { field, limit }),
            _ if count > limit => Err(Error::BatchTooLarge { field, count, limit }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Error::InputTooLarge`].
    pub(super) fn check_size(&self, field: &str, text: &str) -> Result<(), Error> {
        let (bytes, limit) = (text.len(), self.limits().text_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::InputTooLarge { field: field.to_owned(), bytes, limit })
    }

    /// Checks the size of an encoded answer.
    ///
    /// # Errors
    /// [`Error::AnswerTooLarge`].
    pub(crate) fn check_answer(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limits().response_bytes;
        if bytes <= limit { Ok(()) } else { Err(Error::AnswerTooLarge { bytes, limit }) }
    }
}

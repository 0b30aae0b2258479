//! Reading texts on the tokenizer's threads.
//!
//! A request is cut into shares, so that all threads work on a large one and a small one does not
//! wait behind it; work stops when the caller goes away.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Service;
use super::call::Call;
use crate::error::Error;

/// Texts of one share at most: few enough that every thread gets a part of a large request, enough
/// that handing them over costs little. Not tuned: at the 10,000 strings of 16 tokens that a core
/// tokenizes in a second (benches/RESULTS.md, "NVIDIA H200": 119,000 on 12 cores) they are about 3
/// ms.
pub(crate) const SHARE_TEXTS: usize = 32;
/// Bytes of one share at most, for long texts: the same [`SHARE_TEXTS`] at 512 bytes each. Not
/// tuned.
pub(crate) const SHARE_BYTES: usize = 16 << 10;

/// Texts of a request, each with its place there.
pub(super) type Placed = Vec<(usize, String)>;

/// Path in the request of the text at a place, for messages.
pub(crate) type FieldPath = fn(usize) -> String;

impl Service {
    /// Runs `one` over each text and its path. A text that is too large, or that `one` refuses,
    /// fails by itself; the texts come back with the results, in order.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many shares wait, and [`Error::Backend`] if a thread panicked.
    pub(super) async fn read_each<T: Send + 'static>(
        &self,
        call: &Call,
        texts: Placed,
        field: FieldPath,
        one: impl Fn(&str, &str) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<(Placed, Vec<Result<T, Error>>), Error> {
        let one = Arc::new(one);
        let mut jobs = Vec::new();
        for share in shares(texts) {
            let (service, cancel, one) = (self.clone(), call.cancel.clone(), Arc::clone(&one));
            jobs.push(move || {
                let mut results = Vec::with_capacity(share.len());
                for (index, text) in &share {
                    let field = field(*index);
                    // Checked for every text: the caller may go away while a share waits or is
                    // worked on.
                    results.push(match cancel.is_cancelled() {
                        true => Err(Error::Cancelled),
                        false => service.check_size(&field, text).and_then(|()| one(&field, text)),
                    });
                }
                (share, results)
            });
        }
        let (mut texts, mut results) = (Vec::new(), Vec::new());
        // In the order of the texts; a share that is done early waits in its channel.
        for answer in self.read(call, jobs)? {
            let (share, of_share) = answer.await.map_err(|_| Error::Backend)?;
            texts.extend(share);
            results.extend(of_share);
        }
        Ok((texts, results))
    }

    /// Submits jobs to the tokenizer's threads.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(super) fn read<T: Send + 'static>(
        &self,
        call: &Call,
        jobs: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Vec<oneshot::Receiver<T>>, Error> {
        self.0.tokenizers.submit(&call.cancel, jobs).map_err(|full| {
            self.0.admission.overloaded("texts to tokenize", full.waiting as u64, full.bound as u64)
        })
    }
}

/// Cuts texts into shares.
fn shares(texts: Placed) -> Vec<Placed> {
    let mut shares: Vec<Placed> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        bytes += text.1.len();
        match shares.last_mut() {
            Some(share) if share.len() < SHARE_TEXTS && bytes <= SHARE_BYTES => share.push(text),
            _ => {
                bytes = text.1.len();
                shares.push(vec![text]);
            }
        }
    }
    shares
}

//! From a directory of the model store to a loaded model.
//!
//! Encoders and language models are read by different code (`encoder`, `decoder`); which of the two
//! a directory holds is decided by its files. A model that is returned from here has computed once.

mod decoder;
mod encoder;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::loaded::LoadedModel;
use crate::device::OpenDevice;
use crate::models::checkpoint;
use crate::models::load_progress::LoadProgress;

/// Loads `<store>/<name>` onto the device and runs it once, so that a model that cannot compute
/// never becomes ready.
///
/// # Errors
/// Names the file at fault and what was expected of it, on one line.
pub fn load(store: &Path, name: &str, device: &OpenDevice) -> Result<LoadedModel> {
    load_within(store, name, device, &Arc::default())
}

/// Like [`load`], reporting to `progress` and keeping to its memory limit.
///
/// # Errors
/// As [`load`], and if the weights exceed the limit.
pub(super) fn load_within(
    store: &Path,
    name: &str,
    device: &OpenDevice,
    progress: &Arc<LoadProgress>,
) -> Result<LoadedModel> {
    if checkpoint::is_decoder(&store.join(name))? {
        decoder::load(store, name, device, progress)
    } else {
        encoder::load(store, name, device, progress)
    }
}

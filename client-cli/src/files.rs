//! Files as people have them: packed, in folders, in encodings of their own.

pub(crate) mod archive;
pub(crate) mod encoding;

//! The bearer token that every call carries.
//!
//! A token from a file is read again for every call, so that it may be renewed at any time.

use std::fmt;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::{Error, Flags, Secret};

/// Interceptor that adds the bearer token, if there is one.
#[derive(Clone)]
pub struct Bearer(Token);

#[derive(Clone)]
enum Token {
    None,
    Fixed(MetadataValue<Ascii>),
    File(Flags, PathBuf),
}

impl Bearer {
    /// Returns true if there is a token to send.
    pub(crate) fn has_token(&self) -> bool {
        !matches!(self.0, Token::None)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bearer").field("has_token", &self.has_token()).finish()
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = match &self.0 {
            Token::None => return Ok(request),
            Token::Fixed(value) => value.clone(),
            // A few bytes, usually in the page cache: cheap compared with the call.
            Token::File(flags, file) => {
                read(*flags, file).map_err(|error| Status::unauthenticated(error.to_string()))?
            }
        };
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// The given token, or the one in the file.
pub(crate) fn bearer(flags: Flags, token: Option<&Secret>, file: Option<&Path>) -> Result<Bearer, Error> {
    // Some environments unset a variable by making it empty.
    let token = token.map(|token| token.reveal().trim()).filter(|token| !token.is_empty());
    match (token, file) {
        (Some(_), Some(_)) => Err(Error::TwoTokens(flags)),
        (Some(token), None) => Ok(Bearer(Token::Fixed(header(token)?))),
        // Read once, so that a wrong path is found before the first call.
        (None, Some(file)) => read(flags, file).map(|_| Bearer(Token::File(flags, file.to_owned()))),
        (None, None) => Ok(Bearer(Token::None)),
    }
}

fn read(flags: Flags, file: &Path) -> Result<MetadataValue<Ascii>, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Unreadable {
        flag: flags.of("token-file"),
        file: file.to_owned(),
        source,
    })?;
    match text.trim() {
        "" => Err(Error::EmptyToken { flag: flags.of("token-file"), file: file.to_owned() }),
        token => header(token),
    }
}

fn header(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| Error::BadToken)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_file_may_be_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shown = |bearer: &mut Bearer| {
            let request = bearer.call(Request::new(()))?;
            Ok::<_, Status>(request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned())
        };
        std::fs::write(file.path(), "old\n").unwrap();
        let mut bearer = bearer(Flags::INFERENCE, None, Some(file.path())).unwrap();
        assert_eq!(shown(&mut bearer).unwrap(), "Bearer old");
        std::fs::write(file.path(), "new").unwrap();
        assert_eq!(shown(&mut bearer).unwrap(), "Bearer new");
        std::fs::remove_file(file.path()).unwrap();
        assert!(shown(&mut bearer).unwrap_err().message().starts_with("cannot read --inference-token-file"));
    }
}

//! The type that cannot be printed.

use crate::Error;
use std::fmt;
use zeroize::Zeroizing;

/// Most bytes of a value. Keys and certificates are a few thousand.
pub const MAX_BYTES: usize = 1 << 20;

/// A value that nobody is to see.
///
/// Its memory is zeroed when it is dropped. What a library below held of it on the way, such as the receive buffer of a
/// connection, is out of reach and is not.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes `bytes` over. They are zeroed where they are more than [`MAX_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Secret, Error> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        Ok(Secret(bytes))
    }

    /// A copy of `bytes` in memory of its own size, which is never moved.
    pub(crate) fn of(bytes: &[u8]) -> Result<Secret, Error> {
        Secret::new(bytes.to_vec())
    }

    /// The value.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value, where it is UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        // The cause would say at which byte it is not, which is more than needs to be known.
        std::str::from_utf8(&self.0).map_err(|_| Error::NotText)
    }

    /// Another one of the same value. There is no `Clone`: a copy is to be seen where it is made.
    #[must_use]
    pub fn copy(&self) -> Secret {
        Secret(self.0.clone())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_value_to_who_asks_and_to_nobody_else() {
        let secret = Secret::new(b"s3cret".to_vec()).unwrap();
        assert_eq!((secret.expose(), secret.text().unwrap()), (&b"s3cret"[..], "s3cret"));
        assert_eq!(secret.copy().expose(), b"s3cret");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
    }

    #[test]
    fn bytes_that_are_no_text_are_a_value_and_no_text() {
        let secret = Secret::new(vec![b'a', 0xff]).unwrap();
        assert_eq!(secret.expose(), [b'a', 0xff]);
        let error = secret.text().unwrap_err();
        assert!(matches!(error, Error::NotText));
        assert!(std::error::Error::source(&error).is_none());
    }

    #[test]
    fn it_holds_a_mebibyte_and_no_more() {
        assert_eq!(Secret::new(vec![1; MAX_BYTES]).unwrap().expose().len(), MAX_BYTES);
        assert!(matches!(Secret::new(vec![1; MAX_BYTES + 1]), Err(Error::TooLong)));
    }
}

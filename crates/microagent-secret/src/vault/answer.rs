//! What Vault answers.

use super::VaultError;
use crate::Secret;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The answer, as far as it matters (Vault's documentation, "KV secrets engine - version 2 (API)", "Read secret
/// version"). Fields are not decoded, and stay in the one buffer that is zeroed.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Version<'a>,
}

#[derive(Deserialize)]
struct Version<'a> {
    /// Null where the version is deleted or destroyed.
    #[serde(borrow)]
    data: Option<BTreeMap<String, &'a RawValue>>,
    /// What version 1 does not have.
    #[serde(borrow, rename = "metadata")]
    _metadata: BTreeMap<String, &'a RawValue>,
}

impl Version<'_> {
    /// The cause of a failure is dropped: serde's errors repeat what they found.
    fn parse(body: &[u8]) -> Option<Version<'_>> {
        serde_json::from_slice::<Answer<'_>>(body).ok().map(|answer| answer.data)
    }
}

/// Whether `body` is about a version that is deleted. The status of it is 404, as of what never was.
pub(super) fn is_deleted(body: &[u8]) -> bool {
    Version::parse(body).is_some_and(|version| version.data.is_none())
}

/// The value of `field`: its text, or a number or truth value as it is written.
pub(super) fn field(body: &[u8], field: &str) -> Result<Secret, VaultError> {
    let fields = Version::parse(body).ok_or(VaultError::BadAnswer)?.data.ok_or(VaultError::Deleted)?;
    let value = fields.get(field).ok_or_else(|| VaultError::NoField { field: field.to_owned() })?.get();
    match value.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(value).map_err(|_| VaultError::BadAnswer)?;
            Secret::new(text.into_bytes()).map_err(|_| VaultError::TooLong)
        }
        Some(b'{' | b'[' | b'n') | None => Err(VaultError::NotText { field: field.to_owned() }),
        Some(_) => Secret::of(value.as_bytes()).map_err(|_| VaultError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(fields: &str, name: &str) -> Result<String, VaultError> {
        let body = format!(
            r#"{{"request_id": "x", "data": {{"data": {fields}, "metadata": {{"version": 1}}}}, "auth": null}}"#
        );
        field(body.as_bytes(), name).map(|secret| secret.text().unwrap().to_owned())
    }

    #[test]
    fn text_is_decoded_and_numbers_are_as_they_are_written() {
        let fields = r#"{"a": "x\n\u00e4\"", "b": 1.10, "c": 123456789012345678901234567890, "d": true, "e": -1e5, "a.b": "dot", "f": ""}"#;
        for (name, value) in [
            ("a", "x\nä\""),
            ("b", "1.10"),
            ("c", "123456789012345678901234567890"),
            ("d", "true"),
            ("e", "-1e5"),
            ("a.b", "dot"),
            ("f", ""),
        ] {
            assert_eq!(of(fields, name).unwrap(), value);
        }
        assert!(matches!(of(fields, "g"), Err(VaultError::NoField { field }) if field == "g"));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for value in ["null", "{}", "[]", r#"["hunter2"]"#, r#"{"a": "hunter2"}"#] {
            let error = of(&format!(r#"{{"a": {value}}}"#), "a").unwrap_err();
            assert!(matches!(error, VaultError::NotText { .. }), "{value}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn other_answers_are_not_taken_for_this_one() {
        for body in [
            "",
            "null",
            "<html>hunter2</html>",
            "{}",
            r#"{"data": null}"#,
            r#"{"data": {"a": "hunter2"}}"#,
            r#"{"data": {"data": "hunter2", "metadata": {}}}"#,
            r#"{"data": {"data": {"a": "hunter2"}}}"#,
            r#"{"data": {"data": {"a": "hunter2"}, "metadata": {}}} x"#,
        ] {
            let error = field(body.as_bytes(), "a").unwrap_err();
            assert!(matches!(error, VaultError::BadAnswer), "{body}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
            assert!(!is_deleted(body.as_bytes()), "{body}");
        }
        assert!(matches!(of("null", "a"), Err(VaultError::Deleted)));
    }

    proptest! {
        #[test]
        fn every_text_comes_back_as_it_is(text in "\\PC{0,40}", name in "\\PC{1,10}") {
            let fields = serde_json::json!({ &name: text }).to_string();
            prop_assert_eq!(of(&fields, &name).unwrap(), text);
        }

        #[test]
        fn no_body_panics(body in "[\\[\\]{}\":,a0 data\\\\]{0,40}") {
            let _ = field(body.as_bytes(), "a");
        }
    }
}

use proptest::prelude::*;

use super::*;

fn digest(seed: &str) -> Digest {
    Digest::of(seed.as_bytes())
}

fn entry(media_type: &str, platform: &str) -> String {
    let mut parts = platform.split('/');
    let (os, architecture) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let variant = parts.next().map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":7,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#,
        digest(platform)
    )
}

fn index(platforms: &[&str]) -> Index {
    let entries: Vec<String> = platforms.iter().map(|platform| entry(OCI_MANIFEST, platform)).collect();
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
    match Document::parse(text.as_bytes(), None, "test") {
        Ok(Document::Index(index)) => index,
        other => panic!("{other:?}"),
    }
}

fn manifest(layer_type: &str, layers: usize) -> Result<Document, Error> {
    let descriptor =
        |media_type: &str| format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#, digest("x"));
    let layers = vec![descriptor(layer_type); layers].join(",");
    let text = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]}}"#, descriptor(OCI_CONFIG));
    Document::parse(text.as_bytes(), Some(OCI_MANIFEST), "test")
}

#[test]
fn baseline_variant_wins_whatever_the_order() {
    let chosen = index(&["linux/amd64/v3", "linux/amd64", "linux/arm64/v8"]);
    assert_eq!(chosen.choose(Platform::AMD64, "test").unwrap().digest, digest("linux/amd64"));
    assert_eq!(chosen.choose(Platform::ARM64, "test").unwrap().digest, digest("linux/arm64/v8"));
}

#[test]
fn missing_platform_is_an_error_that_lists_the_others() {
    let error = index(&["windows/amd64", "linux/s390x", "unknown/unknown"]).choose(Platform::AMD64, "x").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("windows/amd64") && text.contains("linux/s390x"), "{text}");
    assert!(!text.contains("unknown"), "{text}");
}

#[test]
fn document_that_is_both_index_and_manifest_is_refused() {
    let text = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    assert!(matches!(Document::parse(text, None, "test"), Err(Error::AmbiguousManifest { .. })));
}

#[test]
fn old_and_foreign_formats_are_named() {
    let old = br#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
    assert!(matches!(Document::parse(old, None, "test"), Err(Error::UnsupportedMediaType { .. })));
    let encrypted = manifest("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", 1).unwrap_err();
    assert!(encrypted.to_string().contains("+encrypted"), "{encrypted}");
}

#[test]
fn layer_count_is_bounded() {
    assert!(manifest(OCI_LAYER_GZIP, MAX_LAYERS).is_ok());
    assert!(matches!(manifest(OCI_LAYER_GZIP, MAX_LAYERS + 1), Err(Error::LimitExceeded { .. })));
}

#[test]
fn nesting_and_size_of_documents_are_bounded() {
    let deep = format!(r#"{{"schemaVersion":2,"config":{}"#, "[".repeat(100_000));
    assert!(matches!(Document::parse(deep.as_bytes(), None, "test"), Err(Error::InvalidManifest { .. })));
    let large = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
    assert!(matches!(Document::parse(&large, None, "test"), Err(Error::LimitExceeded { .. })));
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Document::parse(&bytes, None, "test"));
    }

    #[test]
    fn json_of_any_shape_never_panics(
        version in 0u32..4, size in any::<i64>(), media_type in "[a-z./+]{0,40}", text in "\\PC{0,20}"
    ) {
        let value = serde_json::json!({
            "schemaVersion": version,
            "mediaType": media_type,
            "config": {"mediaType": text, "digest": text, "size": size},
            "layers": [{"mediaType": OCI_LAYER, "digest": digest("x"), "size": size}],
        });
        drop(Document::parse(value.to_string().as_bytes(), Some(&media_type), "test"));
    }
}

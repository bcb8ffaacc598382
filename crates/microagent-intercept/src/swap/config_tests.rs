use super::*;

fn load(text: &str) -> Result<SwapConfig, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swaps.yaml");
    std::fs::write(&path, text).unwrap();
    SwapConfig::load(&path)
}

fn swap(rest: &str) -> String {
    format!(
        "swaps:\n  one:\n    domains: [api.example.com]\n    header: Authorization\n    format: Bearer {{key}}\n    {rest}\n"
    )
}

const STATIC: &str = "type: static\n    key_ref: env:KEY";
const CLIENT: &str =
    "type: oauth2-cc\n    token_url: https://t.example/\n    client_id_ref: env:ID\n    client_secret_ref: env:S";
const SIGNED: &str = "type: jwt-bearer\n    signing_key_ref: file:/k.pem";

#[test]
fn every_kind_is_read_and_written_as_the_same() {
    let all = [
        swap(STATIC),
        swap(&format!("{CLIENT}\n    scopes: [a, b]\n    token_response_field: id_token\n    token_ttl_seconds: 0")),
        swap(&format!("{SIGNED}\n    claims: {{iss: me, n: 1}}\n    algorithm: RS256\n    token_ttl_seconds: 60")),
        swap(&format!("{SIGNED}\n    token_url: http://127.0.0.1:9/t\n    token_response_field: t")),
        "# nothing\n".to_owned(),
        "swaps: {}\n".to_owned(),
    ];
    for text in all {
        let config = load(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SwapConfig>(&written).unwrap(), config, "{text}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_reason() {
    let with = |from: &str, to: &str| swap(STATIC).replace(from, to);
    for (text, reason) in [
        (with("static", "basic"), "`static`, `oauth2-cc` or `jwt-bearer`"),
        (with("    key_ref: env:KEY\n", ""), "`static` needs `key_ref`"),
        (with("[api.example.com]", "[]"), "lists no host"),
        (with("[api.example.com]", "[192.0.2.1]"), "is an address"),
        (with("[api.example.com]", "[https://api.example.com]"), "scheme"),
        (with("[api.example.com]", "['*.example.com']"), "leading dot"),
        (with("Authorization", "a b"), "not the name of a header"),
        (with("Authorization", "Host"), "needs for itself"),
        (with("Authorization", "Transfer-Encoding"), "needs for itself"),
        (with("Bearer {key}", "Bearer"), "holds `{key}` once"),
        (with("Bearer {key}", "'{key} {key}'"), "holds `{key}` once"),
        (with("Bearer {key}", "\"Bearer\\r\\nX: {key}\""), "printable"),
        (with("one", "o ne"), "letters, digits"),
        (swap(&format!("{STATIC}\n    token_url: https://t.example/")), "`token_url` is not for `static`"),
        (swap(&format!("{STATIC}\n    kay_ref: env:X")), "key that is unknown"),
        (swap(&format!("{STATIC}\n    header: X")), "twice"),
        (swap(&CLIENT.replace("https:", "http:")), "not `https`"),
        (swap(&CLIENT.replace("t.example", "u:p@t.example")), "user in it"),
        (swap(&format!("{CLIENT}\n    claims: {{a: b}}")), "`claims` is not for `oauth2-cc`"),
        (swap(&format!("{CLIENT}\n    scopes: ['a b']")), "one word"),
        (swap(&format!("{CLIENT}\n    token_ttl_seconds: -1")), "line 10"),
        (swap(&format!("{CLIENT}\n    token_ttl_seconds: 86401")), "at most"),
        (swap(&format!("{SIGNED}\n    algorithm: HS256")), "`RS256`"),
        (swap(&format!("{SIGNED}\n    claims: {{exp: 1}}")), "`exp` is set"),
        (swap(&format!("{SIGNED}\n    token_response_field: t")), "`token_url`"),
        (format!("{}---\n{}", swap(STATIC), swap(STATIC)), "more than one document"),
        ("swap: {}\n".to_owned(), "key that is unknown"),
        ("[".to_owned(), "not YAML"),
    ] {
        let error = load(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(matches!(SwapConfig::load(Path::new("/none.yaml")), Err(Error::File { .. })));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for text in [
        swap("type: static\n    key_ref: sk-s3cret"),
        swap("type: static\n    key_ref: {sk-s3cret: 1}"),
        swap("type: sk-s3cret"),
        swap(&format!("{STATIC}\n    sk-s3cret: 1")),
        swap(&CLIENT.replace("https://t.example/", "sk-s3cret")),
        swap(&CLIENT.replace("https://t.example/", "https://t.example/?key=s3cret#x")),
        swap(&format!("{CLIENT}\n    token_ttl_seconds: s3cret")),
        swap(&format!("{CLIENT}\n    scopes: s3cret")),
        swap(STATIC).replace("one:", "sk/s3cret:"),
        "swaps: sk-s3cret\n".to_owned(),
        "sk-s3cret".to_owned(),
        "\"sk-s3cret".to_owned(),
    ] {
        let error = load(&text).unwrap_err();
        let all = format!("{error} {error:?} {:?}", microagent_protocol::FaultReport::new(&error));
        assert!(!all.contains("s3cret"), "{text}: {all}");
    }
    for text in ["sk-s3cret", "openai=sk-s3cret", "openai=s3cret:x", "OPENAI_API_KEY=s3cret", "=s3cret", ""] {
        let error = SwapConfig::provider(text).unwrap_err();
        let all = format!("{error} {error:?} {:?}", microagent_protocol::FaultReport::new(&error));
        assert!(!all.contains("s3cret"), "{text}: {all}");
    }
}

#[test]
fn providers_have_their_reference_and_their_variable() {
    for (text, reference, variable) in [
        ("openai", "env:OPENAI_API_KEY", "OPENAI_API_KEY"),
        ("anthropic=env:MINE", "env:MINE", "ANTHROPIC_API_KEY"),
        ("gemini=file:/k", "file:/k", "GEMINI_API_KEY"),
    ] {
        let config = SwapConfig::provider(text).unwrap();
        assert_eq!(config.references().map(ToString::to_string).collect::<Vec<_>>(), [reference]);
        let name = text.split('=').next().unwrap();
        assert_eq!(config.environment(), [(variable.to_owned(), format!("microagent-swap-{name}"))]);
    }
    let mut all = SwapConfig::default();
    for name in super::super::provider_names() {
        all.merge(SwapConfig::provider(name).unwrap()).unwrap();
    }
    assert_eq!((all.hosts().len(), all.environment().len()), (6, 6));
    // Another one of the same name is not the provider.
    assert_eq!(load(&swap(STATIC).replace("one", "openai")).unwrap().environment(), []);
}

#[test]
fn one_header_of_one_host_has_one_value() {
    let two = |second: &str, header: &str| {
        let other = format!(
            "  two: {{type: static, key_ref: env:K, domains: [{second}], header: {header}, format: '{{key}}'}}\n"
        );
        load(&(swap(STATIC) + &other))
    };
    for second in ["api.example.com", ".example.com", ".api.example.com"] {
        let error = two(second, "AUTHORIZATION").unwrap_err();
        assert!(matches!(error, Error::TwoSwaps { .. }) && error.to_string().contains("`authorization`"), "{error}");
        two(second, "x-other").unwrap();
    }
    two("api.example.org", "Authorization").unwrap();
    two(".x.api.example.com", "Authorization").unwrap();
    let mut config = SwapConfig::provider("openai").unwrap();
    let before = config.clone();
    assert!(config.merge(before.clone()).is_err());
    let other = swap(STATIC).replace("api.example.com", ".openai.com");
    assert!(matches!(config.merge(load(&other).unwrap()), Err(Error::TwoSwaps { .. })));
    assert_eq!(config, before);
}

#[test]
fn values_are_had_at_the_start_or_nothing_starts() {
    let config = load(&swap(STATIC)).unwrap();
    let error = config.resolve(&Sources::of_variables::<&str, &str>([])).unwrap_err();
    assert!(error.to_string().contains("`one` needs `env:KEY`"), "{error}");
    for value in ["two\nlines", "ü", "tab\t"] {
        let error = config.resolve(&Sources::of_variables([("KEY", value)])).unwrap_err();
        assert!(matches!(error, Error::BadValue { .. }) && !format!("{error:?}").contains(value), "{error}");
    }
    let swaps = config.resolve(&Sources::of_variables([("KEY", "s3cret-value")])).unwrap();
    assert!(!swaps.is_empty() && swaps.hosts() == config.hosts() && swaps.references().len() == 1);
    assert!(!format!("{swaps:?} {config:?}").contains("s3cret"));
    assert_eq!((swaps.of("API.example.com").len(), swaps.of("example.com").len()), (1, 0));
}

#[test]
fn a_key_that_signs_is_checked_at_the_start() {
    let text = swap("type: jwt-bearer\n    signing_key_ref: env:KEY");
    for key in ["hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let error = load(&text).unwrap().resolve(&Sources::of_variables([("KEY", key)])).unwrap_err();
        assert!(error.to_string().contains("RSA private key"), "{error}");
    }
}

//! What a registry asks for in `WWW-Authenticate`.

/// A way of authenticating that a registry offers and that is understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token server.
    Bearer(Bearer),
}

/// Where to get a token, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    /// URL of the token server.
    pub(super) realm: String,
    /// Name of the registry to the token server.
    pub(super) service: Option<String>,
    /// What the token must allow.
    pub(super) scope: Option<String>,
}

impl Challenge {
    /// The understood challenges in one header value. A value may hold several, separated by the same commas that
    /// separate the parameters of one.
    pub(super) fn parse(header: &str) -> Vec<Challenge> {
        let mut challenges = Vec::new();
        let mut current: Option<(String, Bearer)> = None;
        let mut rest = header;
        while let Some((word, after)) = next_word(rest) {
            let parameter = after.trim_start().strip_prefix('=');
            if let Some(value) = parameter {
                let (value, after) = next_value(value.trim_start());
                if let Some((_, bearer)) = &mut current {
                    match word.to_ascii_lowercase().as_str() {
                        "realm" => bearer.realm = value,
                        "service" => bearer.service = Some(value),
                        "scope" => bearer.scope = Some(value),
                        _ => {}
                    }
                }
                rest = after;
            } else {
                challenges.extend(current.take().and_then(understood));
                current = Some((word.to_ascii_lowercase(), Bearer::default()));
                rest = after;
            }
        }
        challenges.extend(current.and_then(understood));
        challenges
    }

    /// A token rather than the password itself, if there is a choice.
    pub(super) fn strongest(challenges: impl Iterator<Item = Challenge>) -> Option<Challenge> {
        challenges.max_by_key(|challenge| matches!(challenge, Challenge::Bearer(_)))
    }
}

fn understood((scheme, bearer): (String, Bearer)) -> Option<Challenge> {
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" if !bearer.realm.is_empty() => Some(Challenge::Bearer(bearer)),
        _ => None,
    }
}

fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    let end = text.find(|c: char| c == ',' || c == '=' || c.is_whitespace()).unwrap_or(text.len());
    // A stray `=` would otherwise be read as an empty word for ever.
    if end == 0 { text.get(1..).filter(|rest| !rest.is_empty()).and_then(next_word) } else { Some(text.split_at(end)) }
}

/// A quoted string with its escapes undone, or a bare token; and what follows it.
fn next_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bearer_parameters_may_hold_commas_and_escapes() {
        let header = r#"Bearer realm="https://auth.example/token",service="a \"b\"",scope="repository:x:pull,push""#;
        let expected = Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("a \"b\"".to_owned()),
            scope: Some("repository:x:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(header), [Challenge::Bearer(expected)]);
    }

    #[test]
    fn token_is_preferred_to_sending_the_password() {
        let header = r#"Negotiate, Basic realm="r", Bearer realm=https://t.example/"#;
        assert!(matches!(Challenge::strongest(Challenge::parse(header).into_iter()), Some(Challenge::Bearer(_))));
        assert_eq!(Challenge::parse("basic realm=\"x\""), [Challenge::Basic]);
        assert_eq!(Challenge::parse("Bearer service=x"), []);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_or_hangs(header in "[A-Za-z=,\" \\\\é]{0,60}") {
            Challenge::parse(&header);
        }
    }
}

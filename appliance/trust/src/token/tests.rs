use super::*;
use palisade_model::NodeRole;
use palisade_words::Generation;
use proptest::prelude::*;

fn token() -> TokenText {
    TokenText {
        secret: TokenSecret(*b"0123456789abcdef"),
        authority: Sha256Sum([0xa5; 32]),
    }
}

/// Operators have them in their notes for a week: the text never changes its meaning.
const GOLDEN: &str =
    "palisade-join-aeydcmrtgq2tmnzyhfqwey3emvtkljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljl74xxuc";

#[test]
fn a_token_has_one_text_that_survives_being_pasted() {
    let text = token().to_string();
    assert_eq!(text, GOLDEN);
    assert_eq!(text.parse(), Ok(token()));
    let (begins, ends) = text.split_at(40);
    let pasted = format!("  {begins}\n {}\n", ends.to_uppercase());
    assert_eq!(pasted.parse(), Ok(token()));
    assert_ne!(
        TokenText::generate(Sha256Sum([1; 32])).unwrap().secret,
        TokenText::generate(Sha256Sum([1; 32])).unwrap().secret
    );
}

#[test]
fn a_token_that_was_not_copied_whole_is_told_from_a_wrong_one() {
    let text = token().to_string();
    for end in PREFIX.len()..text.len() {
        assert_eq!(
            text.split_at(end).0.parse::<TokenText>(),
            Err(TokenTextError::Damaged),
            "{end}"
        );
    }
    for at in PREFIX.len()..text.len() {
        let other = if text.as_bytes().get(at) == Some(&b'q') {
            "r"
        } else {
            "q"
        };
        let mut changed = text.clone();
        changed.replace_range(at..=at, other);
        assert_eq!(changed.parse::<TokenText>(), Err(TokenTextError::Damaged), "{at}");
    }
    for none in ["", "palisade", "join-abc", text.split_at(1).1] {
        assert_eq!(none.parse::<TokenText>(), Err(TokenTextError::Prefix), "{none}");
    }
    assert_eq!(
        format!("{text}a").parse::<TokenText>(),
        Err(TokenTextError::Damaged)
    );
    let mut later = vec![2];
    later.extend(check(&later));
    let later = format!("{PREFIX}{}", encode(&later));
    assert_eq!(
        later.parse::<TokenText>(),
        Err(TokenTextError::Version { version: 2 })
    );
}

#[test]
fn a_secret_is_not_shown_and_found_by_its_sum_alone() {
    let shown = format!("{:?} {:?}", token(), token().secret());
    assert!(!shown.contains("48") && !shown.contains("0123"), "{shown}");
    let mut cluster = Cluster::empty();
    assert_eq!(token().secret().find(&cluster), None);
    for (number, text) in ["a", "b", "c"].into_iter().enumerate() {
        let hash = match text {
            "b" => token().secret().hash(),
            _ => Sha256Sum([number as u8 + 1; 32]),
        };
        let entry = JoinToken {
            created: Generation(1),
            revision: Generation(1),
            hash,
            expires_at_s: 1,
            admits: NodeRole::Voter,
            used_by: None,
        };
        cluster.tokens.insert(Name::new(text).unwrap(), entry);
    }
    let found = token().secret().find(&cluster);
    assert_eq!(found.map(|(name, _)| name.as_str()), Some("b"));
    cluster.tokens.remove("b");
    assert_eq!(token().secret().find(&cluster), None);
}

proptest! {
    #[test]
    fn whatever_the_bytes_they_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,120}") {
        let _ = text.parse::<TokenText>();
        if let Ok(token) = format!("{PREFIX}{text}").parse::<TokenText>() {
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }
    }
}

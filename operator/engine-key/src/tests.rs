use super::*;
use rstest::rstest;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn lock(root: &EngineRoot) -> EngineLock {
    EngineLock::new(root.public(), Audience::new("local", "uid-1"))
}

fn root() -> EngineRoot {
    EngineRoot::generate().expect("a root")
}

#[test]
fn a_token_of_the_plane_for_the_workload_opens_its_engine_until_its_end() {
    let root = root();
    let key = root.certify("local", NOW + DAY).expect("a key");
    let token = key.token("uid-1", NOW + 600);
    let opens = |now| lock(&root).open(Some(&token), now);
    assert_eq!(opens(NOW), Ok(()));
    assert_eq!(opens(NOW + 600 + CLOCK_LEEWAY), Ok(()));
    assert_eq!(opens(NOW + 601 + CLOCK_LEEWAY), Err(Refused::Expired));
}

#[test]
fn nothing_else_opens_it() {
    let root = root();
    let key = |plane| root.certify(plane, NOW + DAY).expect("a key");
    let ours = key("local").token("uid-1", NOW + 600);
    let strange = EngineRoot::generate().expect("a root");
    let strange = strange.certify("local", NOW + DAY).expect("a key");
    let old = root.certify("local", NOW - DAY).expect("a key");
    // As if its holder had put the end off.
    let mut stretched = URL_SAFE_NO_PAD.decode(&ours).expect("base64url");
    stretched[CERTIFICATE + TIME - 2] ^= 1;
    let stretched = URL_SAFE_NO_PAD.encode(stretched);
    let cases = [
        (None, Refused::Missing),
        (Some(String::new()), Refused::Missing),
        (Some("Bearer x".to_owned()), Refused::Malformed),
        (Some(ours[1..].to_owned()), Refused::Malformed),
        (
            Some(key("cloud").token("uid-1", NOW + 600)),
            Refused::Uncertified,
        ),
        (
            Some(strange.token("uid-1", NOW + 600)),
            Refused::Uncertified,
        ),
        (
            Some(key("local").token("uid-2", NOW + 600)),
            Refused::OtherWorkload,
        ),
        (Some(old.token("uid-1", NOW + 600)), Refused::Expired),
        (Some(stretched), Refused::OtherWorkload),
    ];
    for (tokens, why) in cases {
        assert_eq!(
            lock(&root).open(tokens.as_deref(), NOW),
            Err(why),
            "{tokens:?}"
        );
    }
}

#[test]
fn a_key_takes_over_from_another_without_a_word_to_the_engine() {
    let root = root();
    let lock = lock(&root);
    for end in [NOW + DAY, NOW + 2 * DAY] {
        let key = root.certify("local", end).expect("a key");
        assert_eq!(lock.open(Some(&key.token("uid-1", NOW + 60)), NOW), Ok(()));
    }
}

#[test]
fn while_the_root_changes_a_request_carries_a_token_for_either() {
    let (before, after) = (root(), root());
    let token = |root: &EngineRoot| {
        let key = root.certify("local", NOW + DAY).expect("a key");
        key.token("uid-1", NOW + 60)
    };
    let both = format!("{}, {}", token(&after), token(&before));
    for root in [&before, &after] {
        assert_eq!(lock(root).open(Some(&both), NOW), Ok(()));
    }
    let many = ["x"; MAX_TOKENS].join(",");
    let behind = format!("{many},{}", token(&before));
    assert_eq!(
        lock(&before).open(Some(&behind), NOW),
        Err(Refused::Malformed)
    );
}

#[test]
fn keys_survive_being_stored_and_do_not_show_themselves() {
    let root = root();
    let again = EngineRoot::from_pkcs8(root.pkcs8()).expect("a root");
    assert_eq!(again.public(), root.public());
    assert_eq!(root.public().to_string().parse(), Ok(root.public()));
    let key = root.certify("local", NOW + DAY).expect("a key");
    let stored = PlaneKey::from_parts(key.pkcs8(), key.certificate()).expect("a key");
    assert_eq!(stored.not_after(), NOW + DAY);
    assert!(stored.is_certified(root.public(), "local"));
    assert!(!stored.is_certified(root.public(), "cloud"));
    let other = root.certify("local", NOW + DAY).expect("a key");
    let mixed = PlaneKey::from_parts(key.pkcs8(), other.certificate());
    assert_eq!(mixed.map(|_| ()), Err(KeyError::Certificate));
    let shown = format!("{key:?} {root:?}");
    assert_eq!(
        shown,
        format!(
            "PlaneKey(until {}) EngineRoot({})",
            NOW + DAY,
            root.public()
        )
    );
}

#[rstest]
#[case("local/uid-1", true)]
#[case("local", false)]
#[case("/uid-1", false)]
#[case("local/", false)]
fn an_audience_names_plane_and_workload(#[case] text: &str, #[case] is_one: bool) {
    let parsed = text.parse::<Audience>();
    assert_eq!(
        parsed.as_ref().map(Audience::to_string).ok().as_deref(),
        is_one.then_some(text)
    );
    assert!("AAAA".parse::<RootPublic>().is_err());
}

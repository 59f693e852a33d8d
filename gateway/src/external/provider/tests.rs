use super::*;
use rstest::rstest;

fn providers(secret: Option<&str>) -> Providers {
    let mut providers = Providers::new(ExternalTimeouts {
        connect: std::time::Duration::from_secs(1),
    });
    let input = ProviderInput {
        name: "p".into(),
        endpoint: "https://api.example.com/v1/".into(),
        format: ProviderFormat::OpenAIChat,
        secret: Some(SecretRef {
            name: "s".into(),
            key: "api-key".into(),
        }),
        ca_bundle: None,
        allow_private: false,
        models: BTreeSet::new(),
        uid: "u".into(),
        generation: 1,
        terms: ProviderTerms::default(),
    };
    providers.set_providers([("p".into(), Some(input))].into());
    if let Some(value) = secret {
        let values = [("api-key".to_owned(), ApiKey::new(value.as_bytes()))].into();
        providers.set_secrets([("s".to_owned(), values)].into());
    }
    providers
}

#[test]
fn a_provider_without_its_key_is_not_used() {
    assert_eq!(
        providers(None).try_resolve("p").err(),
        Some(Unusable::SecretMissing("s".into()))
    );
    assert!(matches!(
        providers(Some(" ")).try_resolve("p").err(),
        Some(Unusable::KeyMissing { .. })
    ));
    assert!(providers(Some("k")).resolve("p").is_some());
    assert!(providers(Some("k")).resolve("q").is_none());
}

#[test]
fn a_new_key_makes_a_new_handle_and_keeps_the_health() {
    let mut providers = providers(Some("one"));
    let before = providers.resolve("p").expect("usable");
    assert!(Arc::ptr_eq(
        &before,
        &providers.resolve("p").expect("usable")
    ));
    let values = [("api-key".to_owned(), ApiKey::new(b"two"))].into();
    providers.set_secrets([("s".to_owned(), values)].into());
    let after = providers.resolve("p").expect("usable");
    assert!(before.key != after.key && Arc::ptr_eq(&before.health, &after.health));
    assert_eq!(after.base_path, "/v1");
}

#[test]
fn nothing_is_known_of_an_endpoint_that_was_changed() {
    let mut providers = providers(Some("one"));
    let before = providers.resolve("p").expect("usable");
    before.health.record_success(None);
    let mut moved = providers.declared["p"].clone().expect("declared");
    moved.endpoint = "https://elsewhere.example.com/v1".into();
    providers.set_providers([("p".into(), Some(moved))].into());
    let after = providers.resolve("p").expect("usable");
    assert_eq!(after.health.report(std::time::Instant::now()).circuit, None);
    assert!(Arc::ptr_eq(&providers.rows()[0].health, &after.health));
}

#[rstest]
#[case("http://api.example.com/v1")]
#[case("https://user@api.example.com/v1")]
#[case("https://api.example.com/v1?x=1")]
#[case("not a url")]
fn only_plain_https_urls_are_used(#[case] endpoint: &str) {
    assert_eq!(base(endpoint), None);
}

#[test]
fn a_key_is_never_printed() {
    let key = ApiKey::new(b"sk-canary").expect("a key");
    assert!(!format!("{key:?} {:?}", key.with_prefix("Bearer ")).contains("canary"));
}

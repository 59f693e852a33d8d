//! Names that people and clusters read.

use super::*;

const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";

#[test]
fn a_short_name_is_kept_whole() {
    assert_eq!(
        child_name("chat", "local-8b", UID),
        "chat-local-8b-0f9c2b1e"
    );
    assert_eq!(
        key_secret_name("chat", UID, "0123456789abcdef"),
        "chat-0f9c2b1e-key-01234567"
    );
    assert_eq!(demand_name("chat", UID), "chat-0f9c2b1e");
}

#[test]
fn long_names_fit_a_label_and_stay_distinct() {
    let a = child_name(&"a".repeat(63), "one", UID);
    let b = child_name(&"a".repeat(63), "two", UID);
    assert!(a.len() <= 63 && b.len() <= 63, "{a} {b}");
    assert_ne!(a, b);
}

#[test]
fn a_dotted_name_becomes_a_service_name() {
    assert_eq!(child_name("a.b", "c", UID), "a-b-c-0f9c2b1e");
}

#[test]
fn the_name_of_a_substitute_can_be_taken_apart_again() {
    let long = "m".repeat(MAX_SUBSTITUTE - "cloud@".len());
    for model in [
        "gpt-mini",
        "openai/gpt-4o:free",
        "@cf/meta/llama@8b",
        "100% \u{fc}ber\tsmall\n",
        "%41",
        &long,
    ] {
        let name = substitute_name("cloud", model).expect("a name");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
        assert_eq!(substitute_of(&name), Some(("cloud", model.to_owned())));
        assert_eq!(declared_target(&name), "cloud");
    }
    assert_eq!(
        substitute_name("cloud", "openai/gpt-4o:free").as_deref(),
        Some("cloud@openai/gpt-4o:free")
    );
}

#[test]
fn a_model_that_no_name_can_hold_has_no_substitute() {
    let too_long = "m".repeat(MAX_SUBSTITUTE);
    let too_long_encoded = "\u{1f600}".repeat(22);
    for model in ["", &too_long, &too_long_encoded] {
        assert_eq!(substitute_name("cloud", model), None, "{model}");
    }
}

#[test]
fn what_no_substitute_is_called_is_none() {
    for name in [
        "cloud",
        "cloud@",
        "cloud@%4",
        "cloud@%zz",
        "cloud@%ff",
        "cloud@%41",
        "cloud@a b",
    ] {
        assert_eq!(substitute_of(name), None, "{name}");
    }
    assert_eq!(declared_target("cloud"), "cloud");
}

#[test]
fn children_of_a_substitute_have_names_and_labels_that_kubernetes_takes() {
    let is_label = |text: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        text.len() <= 63 && text.chars().all(inner) && !text.ends_with('-')
    };
    let long = "t".repeat(63);
    for target in ["here", &long] {
        let one = substitute_name(target, "openai/gpt-4o:free").expect("a name");
        let two = substitute_name(target, "gpt-mini").expect("a name");
        let children = [target, &one, &two].map(|name| child_name("chat.a", name, UID));
        assert!(children.iter().all(|child| is_label(child)), "{children:?}");
        let labels = [target, &one, &two].map(target_label);
        assert!(labels.iter().all(|label| label.len() <= 63), "{labels:?}");
        assert!(is_label(&labels[1].replace('_', "-")) && labels[1].contains('_'));
        for all in [&children, &labels] {
            assert!(
                all[0] != all[1] && all[1] != all[2] && all[0] != all[2],
                "{all:?}"
            );
        }
        assert_eq!(labels[0], target);
    }
}

//! The polkit actions that are shipped are those that the code asks about.

use std::collections::{BTreeMap, BTreeSet};

const POLICY: &str = include_str!("../../../../packaging/polkit/org.coft.Coft1.policy");
const AUTHORISATION: &str = include_str!("../authorisation.rs");
const METHODS: [&str; 5] = [
    include_str!("../classifier.rs"),
    include_str!("../generation.rs"),
    include_str!("../job.rs"),
    include_str!("../manager.rs"),
    include_str!("../source.rs"),
];

/// What stands between the first `start` and the next `end`, and what comes after.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(start)?.1.split_once(end)
}

fn all_between<'a>(mut text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    while let Some((inside, after)) = between(text, start, end) {
        found.push(inside);
        text = after;
    }
    found
}

/// The action's id by the name of its variant, from the match that has to name all of them.
fn asked() -> BTreeMap<&'static str, &'static str> {
    let arms = all_between(AUTHORISATION, "Action::", "\",\n").into_iter();
    arms.filter_map(|arm| arm.split_once(" => \"")).collect()
}

#[test]
fn every_action_that_is_asked_is_in_the_policy_and_every_one_there_is_asked() {
    let shipped: BTreeSet<&str> = all_between(POLICY, "<action id=\"", "\"").into_iter().collect();
    let asked = asked();
    assert_eq!(asked.values().copied().collect::<BTreeSet<_>>(), shipped);
    for (variant, id) in asked {
        let check = format!("authorisation::check(connection, &header, Action::{variant})");
        let may = format!("authorisation::may(connection, header, Action::{variant})");
        let asks = |source: &&str| source.contains(&check) || source.contains(&may);
        assert!(METHODS.iter().any(asks), "no method asks for {id}");
    }
}

/// polkit answers a service that is not root only about actions that name the service's user as their owner.
#[test]
fn every_action_names_the_user_of_the_service_as_its_owner() {
    let unit = include_str!("../../../../systemd/coftd.service");
    let (user, _) = between(unit, "\nUser=", "\n").expect("the unit names a user");
    let owner = format!("<annotate key=\"org.freedesktop.policykit.owner\">unix-user:{user}</annotate>");
    let actions = all_between(POLICY, "<action id=\"", "</action>");
    assert!(!actions.is_empty());
    for action in actions {
        assert!(action.contains(&owner), "{action}");
    }
}

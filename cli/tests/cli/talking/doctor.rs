//! What keeps the service from working, and its configuration.

use super::json;
use super::stage::{self, Play, Stage};
use serde_json::json;

#[tokio::test]
async fn the_doctor_tells_what_both_sides_see() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["doctor", "--json"]).await;
    assert_eq!(told.code, 0, "{}{}", told.stdout, told.stderr);
    let diagnosis = json(&told.stdout);
    assert_eq!((&diagnosis["errors"], &diagnosis["warnings"]), (&json!(0), &json!(1)));
    let checks = diagnosis["checks"].as_array().unwrap();
    let found = |name: &str| checks.iter().find(|check| check["check"] == name).expect(name);
    assert_eq!(found("service")["level"], "ok");
    assert!(found("polkit")["found"].as_str().unwrap().contains("not on this bus"), "{checks:?}");
    assert_eq!(found("clock")["level"], "ok");
    let trainer =
        json!({ "check": "trainer", "level": "warning", "found": "it serves only", "advice": "sudo apt install x" });
    assert_eq!(found("trainer"), &trainer);
    let told = stage.tell(&["doctor"]).await;
    assert!(told.stdout.contains("→ sudo apt install x") && told.stdout.ends_with("1 warning\n"), "{}", told.stdout);

    let damaged = Stage::set(Play { damaged: true, ..Play::default() }).await;
    let told = damaged.tell(&["doctor"]).await;
    assert_eq!(told.code, 1, "{}", told.stdout);
    assert!(told.stdout.ends_with("1 error\n"), "{}", told.stdout);
}

#[tokio::test]
async fn the_doctor_looks_from_outside_where_nobody_answers() {
    let told = stage::run("unix:path=/nowhere/bus", &["doctor", "--json"]).await;
    assert_eq!(told.code, 1, "{}", told.stderr);
    let diagnosis = json(&told.stdout);
    let service = &diagnosis["checks"][0];
    assert_eq!((&service["check"], &service["level"]), (&json!("service"), &json!("error")));
    assert!(service["found"].as_str().unwrap().contains("/nowhere/bus"), "{service}");
    assert!(diagnosis["checks"].as_array().unwrap().iter().any(|check| check["check"] == "clock"));
    assert_eq!(stage::run("the bus", &["doctor"]).await.code, 2);
}

#[tokio::test]
async fn a_reload_says_what_is_used_or_why_nothing_is() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["reload"]).await;
    assert_eq!((told.code, told.stdout.as_str()), (0, "used from now on: round.threads, schedule.automatic\n"));
    let told = stage.tell(&["reload", "--json"]).await;
    assert_eq!(json(&told.stdout), json!({ "changed": ["round.threads", "schedule.automatic"] }));
    let told = Stage::set(Play { ending: "kept", ..Play::default() }).await.tell(&["reload"]).await;
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    assert!(told.stderr.contains("bus changes at a restart alone"), "{}", told.stderr);
}

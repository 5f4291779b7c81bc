//! The machine beside a profile: no daemon is asked, and an option that makes no sense is told before anything is compared.

use crate::site::run;

#[test]
fn preflight_needs_no_daemon() {
    let ran = run("http://127.0.0.1:1", "preflight --profile lab --json");
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(found["profile"], "lab");
    let must = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|finding| finding["severity"] == "must");
    assert_eq!(ran.code, i32::from(must));
    assert_eq!(run("http://127.0.0.1:1", "preflight --profile labb").code, 2);
    run("http://127.0.0.1:1", "preflight --profile lab --cores 0").ok();
    for (cores, says) in [
        ("8192", "this machine has no core 8192"),
        ("0,8190-8192", "this machine has no core 8190-8192"),
        ("1-0", "1-0 runs backwards: write 0-1"),
        ("-1", "is no core"),
        ("x", "is no core"),
        (",", "a number is missing"),
    ] {
        let said = run(
            "http://127.0.0.1:1",
            &format!("preflight --profile lab --cores {cores}"),
        );
        assert!(said.code == 2 && said.err.contains(says), "{said:?}");
    }
}

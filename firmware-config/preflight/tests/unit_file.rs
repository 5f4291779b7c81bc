//! The unit for systemd: that systemd understands it, and that it gives the daemon no more than it needs.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::process::Command;

const UNIT: &str = include_str!("../../host/palisaded.service");

/// All values of a key, in order.
fn values(key: &str) -> Vec<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(found, _)| *found == key)
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn systemd_understands_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("palisaded.service");
    // The program is not installed where the tests run.
    std::fs::write(&unit, UNIT.replace("/usr/bin/palisaded", "/bin/true")).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let Ok(verified) = verified else {
        eprintln!("not run: there is no systemd-analyze on this machine");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("palisaded.service"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn it_gives_no_more_than_is_needed_and_shuts_no_disk_out() {
    let capabilities = values("CapabilityBoundingSet");
    assert_eq!(capabilities, ["CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE"]);
    // Each of these would make a list of devices, in which disks are not.
    for key in ["ProtectClock", "PrivateDevices", "DeviceAllow", "DevicePolicy"] {
        assert!(values(key).is_empty(), "{key}");
    }
    assert_eq!(values("ProtectSystem"), ["strict"]);
    assert!(
        values("ReadWritePaths").is_empty(),
        "StateDirectory and RuntimeDirectory do"
    );
}

#[test]
fn its_folders_are_those_of_the_defaults() {
    assert_eq!(values("StateDirectory"), ["palisade palisade-disks"]);
    assert_eq!(values("RuntimeDirectory"), ["palisade"]);
    assert_eq!(values("ExecStart"), ["/usr/bin/palisaded"]);
    assert!(UNIT.contains("/etc/palisade/palisade.toml"));
}

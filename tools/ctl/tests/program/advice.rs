//! What is said about what did not work names what was tried, and a way out that fits what was typed.

use crate::site::{Ran, Site, run};

fn refused(ran: Ran, code: i32, says: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for words in says {
        assert!(ran.err.contains(words), "{words} is not in {ran:?}");
    }
}

#[test]
fn tls_towards_a_port_without_it_is_told_from_a_daemon_that_does_not_run() {
    let site = Site::new();
    let said = run(&site.url().replace("http:", "https:"), "health");
    assert!(!said.err.contains("systemctl start"), "{said:?}");
    refused(said, 1, &["is not TLS", "http and https differ"]);
}

#[test]
fn who_has_no_disks_is_told_where_one_may_be() {
    let site = Site::new();
    let said = site.palisade("disk list").ok();
    assert!(
        said.contains(&site.words("palisade disk add d1 --file @disks/d1.img --size")),
        "{said}"
    );
    assert!(said.contains("palisade disk import"), "{said}");
    let node = site.palisade("node").ok();
    assert!(node.contains(&site.words("below @disks, @more")), "{node}");
}

#[test]
fn a_guarded_change_that_comes_too_late_is_told_how_to_guard_the_next() {
    let site = Site::new();
    site.palisade("disk add d1 --null 1GiB").ok();
    let now = &site.palisade("disk show d1 --json").json()["state"]["generation"];
    let said = site.palisade("disk set d1 --protect --expect 999");
    let way = format!("--expect {now} on the command line");
    refused(said, 1, &["the request expects 999", &way]);
}

#[test]
fn the_arguments_of_a_machine_are_for_a_machine_that_can_be() {
    let site = Site::with_attachment();
    let args = "attachment qemu-args web1";
    for old in ["5.0", "7.1.9", "6"] {
        let said = site.palisade(&format!("{args} --qemu-version {old}"));
        refused(said, 2, &["QEMU 7.2 or newer is needed"]);
    }
    site.palisade(&format!("{args} --qemu-version 7.2")).ok();
    for little in ["1", "1023KiB", "1.5MiB", "1GB"] {
        for command in [args, "attachment libvirt-xml web1"] {
            let said = site.palisade(&format!("{command} --memory {little}"));
            refused(said, 2, &["whole MiB, as 512MiB"]);
        }
    }
    let shown = site
        .palisade(&format!("{args} --qemu-version 9.2 --memory 512MiB"))
        .ok();
    assert!(shown.contains("-m 512M"), "{shown}");
}

#[test]
fn a_file_without_what_is_looked_for_in_it_is_told_what_belongs_there() {
    let site = Site::new();
    for (option, says) in [
        ("--token-file", "admin.token_file or admin.read_token_file"),
        ("--cacert", "-----BEGIN CERTIFICATE-----"),
    ] {
        let said = site.palisade(&format!("node {option} /dev/null"));
        assert!(!said.err.contains("can be read"), "{said:?}");
        refused(said, 2, &[says]);
        let said = site.palisade(&format!("node {option} /no/such/file"));
        refused(said, 2, &["can be read"]);
    }
}

#[test]
fn a_backup_that_cannot_be_says_what_was_tried() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("there"), "x").unwrap();
    let backup = |file: &str, state: &str| {
        site.palisade(&format!("state backup {} --state-dir {}", at(file), at(state)))
    };
    refused(
        backup("b", "absent"),
        1,
        &["absent is not there: name the state directory"],
    );
    refused(
        backup("b", "there"),
        1,
        &["there is no directory: name the state directory"],
    );
    std::fs::create_dir(at("empty")).unwrap();
    refused(backup("b", "empty"), 1, &["empty holds no cluster database"]);
    assert_eq!(
        std::fs::read_dir(at("empty")).unwrap().count(),
        0,
        "looking makes nothing"
    );
    let restore = site.palisade(&format!(
        "state restore {} --state-dir {}",
        at("none.pal"),
        at("s")
    ));
    refused(restore, 1, &["none.pal cannot be read: No such file"]);
}

//! The real program against a whole node over real sockets.

use crate::site::node::{self, TestNode};
use crate::site::{Ran, Site, line, program, run};
use palisade_control::Work;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[test]
fn a_disk_from_its_adding_to_its_end() {
    let site = Site::new();
    let empty = site.palisade("disk list").ok();
    assert!(
        empty.contains("palisade disk add"),
        "an empty list says how to fill it: {empty}"
    );
    let shown = site
        .palisade("disk add d1 --file @disks/d1.img --size 1GiB --sparse --wait")
        .ok();
    assert_eq!(
        line(&shown, "Size:"),
        ["Size:", "1", "GiB", "(1073741824", "bytes)"]
    );
    assert_eq!(line(&shown, "State:"), ["State:", "applied"]);
    site.palisade("disk add d2 --null 1TiB --whole --block-bytes 4096")
        .ok();
    let table = site.palisade("disk list").ok();
    let row = line(&table, "d1");
    let path = site.node.text("disks/d1.img");
    assert_eq!(row[..5], ["d1", "file", &path, "pooled", "1"]);
    assert_eq!(line(&table, "d2")[1..3], ["null", "whole"]);
    let grown = site.palisade("disk grow d1 2GiB --json").json();
    assert_eq!(grown["bytes"], 2u64 << 30);
    assert_eq!(grown["file"]["sparse"], true);
    site.palisade("disk remove d1 --yes --wait").ok();
    let gone = site.palisade("disk show d1");
    assert_eq!(gone.code, 1);
    assert_eq!(
        gone.err,
        "palisade: there is no disk \"d1\"\n  remedy: see what there is: palisade disk list\n"
    );
}

#[test]
fn disks_that_have_exchanged_their_paths_are_recorded_in_one_step() {
    let site = Site::new();
    let path = |disk: &str| site.node.text(&format!("disks/{disk}.img"));
    for disk in ["a", "b", "c"] {
        let add = format!("disk add {disk} --file @disks/{disk}.img --size 64MiB --sparse --wait");
        site.palisade(&add).ok();
    }
    // The file of each comes to lie where that of the next one was.
    let exchange = |cycle: &[&str]| {
        for disk in cycle {
            std::fs::rename(path(disk), path(&format!("{disk}-aside"))).unwrap();
        }
        for (at, disk) in cycle.iter().enumerate() {
            let next = cycle[(at + 1) % cycle.len()];
            std::fs::rename(path(&format!("{disk}-aside")), path(next)).unwrap();
        }
    };
    exchange(&["a", "b", "c"]);
    let table = site.palisade("disk confirm a b c --wait").ok();
    assert_eq!(line(&table, "a")[..3], ["a", &path("a"), &path("b")]);
    assert_eq!(line(&table, "c")[..3], ["c", &path("c"), &path("a")]);
    assert_eq!(table.matches("the medium of the disk").count(), 3, "{table}");
    // a lies where b was, and b where c was.
    exchange(&["b", "c"]);
    let json = site.palisade("disk confirm a b --json").json();
    assert_eq!(json["disks"][0]["before"], path("b"));
    assert_eq!(
        site.palisade("disk show a --json").json()["file"]["path"],
        path("c")
    );
    for wrong in [
        "disk confirm a b --path /srv/d.img",
        "disk confirm a b --yes",
        "disk confirm a b --expect 3",
    ] {
        let ran = site.palisade(wrong);
        assert_eq!(ran.code, 2, "{wrong}: {}", ran.err);
        assert!(ran.err.contains("are for one disk"), "{}", ran.err);
    }
    let twice = site.palisade("disk confirm a a");
    assert!(
        twice.code == 1 && twice.err.contains("named twice"),
        "{}",
        twice.err
    );
    let unknown = site.palisade("disk confirm a x");
    assert!(unknown.err.contains("there is no disk \"x\""), "{}", unknown.err);
}

#[test]
fn json_is_for_programs() {
    let site = Site::with_attachment();
    assert_eq!(site.palisade("disk list --json").json()[0]["id"], "d1");
    assert_eq!(
        site.palisade("--json volume show v1").json()["layout"]["extents"][0]["disk"],
        "d1"
    );
    assert_eq!(site.palisade("node --json").json()["name"], "host-a");
    assert_eq!(site.palisade("reactors --json").json()[0]["slots"], 64);
    let refused = site.palisade("volume delete v1 --json");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let problem: serde_json::Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(problem["code"], "volume_in_use");
    assert!(
        problem["remedy"]
            .as_str()
            .unwrap()
            .contains("palisade attachment delete web1")
    );
    assert_eq!(
        site.palisade("attachment delete web1 --json --yes --force").ok(),
        ""
    );
}

#[test]
fn a_wrong_command_is_told_apart_from_a_refusal() {
    let site = Site::new();
    for wrong in [
        "disk add d1",
        "disk add d1 --null 1GiB --memory 1GiB",
        "volume create v1 1ZiB",
        "volume create v1",
        "attachment create a v --mode 999",
        "nonsense",
        "node --token x --token-file y",
        "node --token-file /nonexistent",
    ] {
        let ran = site.palisade(wrong);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{wrong}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
    let unreachable = run("http://127.0.0.1:1", "node");
    assert_eq!(unreachable.code, 1);
    assert!(
        unreachable
            .err
            .contains("no appliance answers at http://127.0.0.1:1"),
        "{}",
        unreachable.err
    );
    assert!(
        unreachable.err.contains("remedy: see whether the daemon runs"),
        "{}",
        unreachable.err
    );
    assert_eq!(
        site.palisade("volume show ../node").code,
        1,
        "an id is never a path"
    );
}

#[test]
fn a_change_can_be_guarded() {
    let site = Site::with_attachment();
    let seen = site.palisade("volume show v1 --json").json()["state"]["generation"]
        .as_u64()
        .unwrap();
    site.palisade(&format!("volume grow v1 32MiB --expect {seen}"))
        .ok();
    let late = site.palisade(&format!("volume grow v1 48MiB --expect {seen}"));
    assert_eq!(late.code, 1);
    assert!(late.err.contains("was not touched"), "{}", late.err);
}

#[test]
fn limits_and_rights_are_set_and_taken_away() {
    let site = Site::with_attachment();
    let own = std::fs::metadata("/proc/self").unwrap().uid().to_string();
    let set = site
        .palisade(&format!(
            "attachment set web1 --iops 500 --bandwidth 200MiB --mode 0600 --owner {own} --json"
        ))
        .json();
    assert_eq!(
        set["limits"],
        serde_json::json!({"iops": 500, "bytes_per_second": 200u64 << 20, "burst_ms": 100})
    );
    assert_eq!(
        (set["mode"].as_str(), set["owner"].as_str()),
        (Some("0600"), Some(&*own))
    );
    let shown = site.palisade("attachment show web1").ok();
    assert!(shown.contains("500 requests/s, 200 MiB/s"), "{shown}");
    assert_eq!(line(&shown, "read")[1..3], ["0", "0"]);
    // The socket itself has them too.
    site.until("attachment show web1", |ran| ran.out.contains("applied"));
    let socket = std::fs::metadata(site.node.path("vm,1/it's.sock")).unwrap();
    assert_eq!(socket.mode() & 0o777, 0o600);
    let none = site.palisade("attachment set web1 --no-limits --json").json();
    assert_eq!(none["limits"], serde_json::json!({}));
    assert_eq!(none["mode"], "0600", "what is not named stays");
}

#[test]
fn waiting_ends_when_it_is_applied_or_says_what_it_waits_for() {
    let site = Site::new();
    site.palisade("disk add d1 --memory 64MiB").ok();
    site.palisade("volume create v1 1MiB --disk d1").ok();
    let shown = site.palisade("attachment create a1 v1 --wait").ok();
    assert_eq!(line(&shown, "State:"), ["State:", "applied"]);
    site.palisade("volume create v2 1MiB --disk d1").ok();
    site.node
        .work
        .hold(|work| matches!(work, Work::OfferSocket { .. }));
    site.palisade("attachment create a2 v2").ok();
    site.node.work.until_held();
    let late = site.palisade("attachment create a2 v2 --wait --wait-timeout 0");
    assert_eq!(late.code, 1);
    assert!(
        late.err.contains("agreed on and not in force yet") && late.err.contains("is under way"),
        "{}",
        late.err
    );
    site.node.work.release();
    site.palisade("attachment create a2 v2 --wait").ok();
    let why = "the folder cannot be written";
    site.node
        .work
        .fail(|work| matches!(work, Work::OfferSocket { .. }), why);
    site.palisade("volume create v3 1MiB --disk d1").ok();
    site.palisade("attachment create a3 v3").ok();
    site.until("attachment show a3 --json", |ran| ran.out.contains(why));
    let late = site.palisade("attachment create a3 v3 --wait --wait-timeout 0");
    assert!(late.code == 1 && late.err.contains(why), "{late:?}");
}

#[test]
fn a_wait_is_bounded_although_nobody_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.socket");
    // Connections come about, and nobody takes them: as with a daemon that was stopped or has no descriptors left.
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let begun = std::time::Instant::now();
    let said = run(
        &format!("unix:{}", socket.display()),
        "volume grow v1 2GiB --wait --wait-timeout 1",
    );
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert!(
        said.code == 1 && said.err.contains("did not answer within") && said.err.contains("palisade health"),
        "{said:?}"
    );
    assert!(!said.err.contains("no appliance"), "one may be at work: {said:?}");
}

#[test]
fn health_says_what_is_wrong_and_fails() {
    let site = Site::new();
    let why = "somebody has pulled the plug";
    site.node
        .work
        .fail(|work| matches!(work, Work::OpenDisk { .. }), why);
    assert!(!site.palisade("health").out.contains("disk/d1"));
    site.palisade("disk add d1 --memory 64MiB").ok();
    let ran = site.until("health", |ran| ran.out.contains(why));
    assert_eq!(ran.code, 1);
    assert!(!ran.out.starts_with("ok:"), "{}", ran.out);
    assert!(ran.out.contains("disk/d1"), "{}", ran.out);
    let listed = site.palisade("health --json");
    let found: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let severities: Vec<_> = findings
        .iter()
        .map(|finding| finding["severity"].as_str())
        .collect();
    let worst_first = ["failed", "degraded", "ok"].map(Some);
    let ranks = severities
        .iter()
        .map(|severity| worst_first.iter().position(|one| one == severity).unwrap());
    assert!(ranks.is_sorted(), "{severities:?}");
    site.node.work.heal();
    site.until("health", |ran| !ran.out.contains("disk/d1"));
}

/// A log on a full disk, a reader that has gone: what was done and how it ended stays what it is.
#[test]
fn a_standard_error_that_takes_nothing_changes_no_verdict() {
    let site = Site::with_attachment();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (args, code) in [
        ("volume show v9", 1),
        ("--json volume show v9", 1),
        ("--token-file /dev/zero volume list", 2),
        ("volume", 2),
    ] {
        let ended = program(&site.url(), args).stdout(full()).stderr(full()).status();
        assert_eq!(ended.unwrap().code(), Some(code), "{args}");
    }
}

#[test]
fn what_is_pasted_is_complete_and_quoted() {
    let site = Site::with_attachment();
    let args = site
        .palisade("attachment qemu-args web1 --memory 2GiB --qemu-version 10.0")
        .ok();
    assert_eq!(
        args,
        site.words(
            "-m 2048M \\\n\
         -object memory-backend-memfd,id=palisade-memory-web1,size=2048M,share=on \\\n\
         -machine memory-backend=palisade-memory-web1 \\\n\
         -chardev socket,id=palisade-web1,path='@vm,,1/it'\\''s.sock',reconnect-ms=500 \\\n\
         -device vhost-user-blk-pci,chardev=palisade-web1,num-queues=4,queue-size=256\n"
        )
    );
    let xml = site.palisade("attachment libvirt-xml web1 --target vdb").ok();
    for part in [
        "<disk type='vhostuser' device='disk'",
        &site.words("path='@vm,1/it&apos;s.sock'"),
        "queues='4'",
        "dev='vdb'",
        "mode='shared'",
    ] {
        assert!(xml.contains(part), "no {part} in\n{xml}");
    }
}

#[test]
fn top_shows_rates_of_what_happens_between_two_looks() {
    let site = Site::with_attachment();
    let _machine = site.machine();
    let table = site.palisade("top --interval 1 --count 1").ok();
    let row = line(&table, "web1");
    assert_eq!(row[..5], ["web1", "v1", "connected", "0", "0"], "{table}");
    let lines = site.palisade("top --interval 1 --count 2 --json").ok();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let one: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(one["attachments"][0]["id"], "web1");
        assert_eq!(one["attachments"][0]["reads_per_second"], 0.0);
        assert_eq!(one["restarted"], false);
    }
}

/// The next line of `palisade top --json`.
fn next_look(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> serde_json::Value {
    serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
}

#[test]
fn top_goes_on_across_a_restart() {
    let site = Site::with_attachment();
    let address = site.node.address();
    let mut top = site
        .program("top --interval 1 --count 3 --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    assert_eq!(next_look(&mut lines)["restarted"], false);
    drop(site);
    let mut told = BufReader::new(top.stderr.take().unwrap()).lines();
    let away = told.next().unwrap().unwrap();
    assert!(
        away.contains("no appliance answers") && away.contains("waiting"),
        "{away}"
    );
    // Another run of the daemon, whose counters have begun anew, with an attachment that is new as well.
    let again = Site::of(TestNode::with(&format!("[admin]\nlisten = '{address}'")));
    again.palisade("disk add d1 --memory 64MiB").ok();
    again.palisade("volume create v1 1MiB --disk d1").ok();
    again.palisade("attachment create web2 v1").ok();
    let after = next_look(&mut lines);
    assert_eq!(after["restarted"], true, "{after}");
    let last = next_look(&mut lines);
    assert_eq!(last["restarted"], false, "{last}");
    assert_eq!(last["attachments"][0]["id"], "web2");
    assert!(lines.next().is_none());
    assert!(top.wait().unwrap().success());
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_changed() {
    let site = Site::with_attachment();
    // What the command line can know is its own to refuse (2); what holds for every client, the appliance refuses (1).
    for (code, words, part) in [
        (2, "attachment set web1", "--iops <IOPS>"),
        (2, "attachment set web1 --expect 3", "--no-limits"),
        (2, "volume set v1", "--clear <WHEN>"),
        (2, "disk set d1", "--unprotect"),
        (1, "attachment set web1 --burst-ms 500", "there is no limit"),
        (1, "attachment create web2 v1 --burst-ms 500", "there is no limit"),
        (1, "attachment set web1 --bandwidth 1", "4096 (4KiB)"),
        (1, "attachment create web2 v1 --bandwidth 1", "4096 (4KiB)"),
        (1, "attachment set web1 --iops 9 --burst-ms 20", "112, or 0"),
        (1, "attachment create web2 v1 --iops 0", "let nothing through"),
        (2, "attachment qemu-args web1 web1", "is named twice"),
        (2, "disk import --file /a --file /b --id x", "--id names one disk"),
        (2, "volume create v2 0", "holds nothing"),
        (2, "volume create v2 -1GiB", "below zero"),
        (2, "volume create v2 1e9", "exponent"),
        (2, "volume create v2 ten", "is no size"),
        (2, "volume grow v1 -5", "below zero"),
        (2, "disk add d2 --null 0", "holds nothing"),
        (2, "disk add d2 --file /x --size -1", "below zero"),
        (2, "attachment libvirt-xml web1 --target sda", "vda"),
        (2, "attachment qemu-args web1 --qemu-version new", "written as"),
    ] {
        let said = site.palisade(words);
        assert!(said.code == code && said.err.contains(part), "{words}: {said:?}");
    }
    assert_eq!(
        site.palisade("attachment show web1 --json").json()["limits"],
        serde_json::json!({})
    );
}

#[test]
fn a_limit_that_is_not_named_stays() {
    let site = Site::with_attachment();
    site.palisade("attachment set web1 --iops 500 --bandwidth 200MiB")
        .ok();
    let set = site.palisade("attachment set web1 --burst-ms 250 --json").json();
    let both = serde_json::json!({"iops": 500, "bytes_per_second": 200u64 << 20, "burst_ms": 250});
    assert_eq!(set["limits"], both);
    let set = site.palisade("attachment set web1 --iops 7 --json").json();
    assert_eq!(set["limits"]["bytes_per_second"], 200u64 << 20);
    let set = site.palisade("attachment set web1 --mode 0600 --json").json();
    assert_eq!(set["limits"]["iops"], 7);
}

#[test]
fn what_an_existing_one_differs_in_is_said_with_both_values() {
    let site = Site::with_attachment();
    let said = site.palisade("volume create v1 2GiB");
    assert!(
        said.code == 1 && said.err.contains("2147483648 (2 GiB) was asked for"),
        "{said:?}"
    );
}

const TOKEN: &str = "00112233445566778899aabbccddeeff";

fn private(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A node that asks for the token.
fn guarded(more: &str) -> Site {
    let folder = node::folder();
    let token = private(folder.path(), "token", &format!("{TOKEN}\n"));
    let more = format!("[admin]\ntoken_file = '{token}'\nloopback_without_token = false\n{more}");
    Site::of(TestNode::within(Arc::new(folder), &more))
}

/// The same on all addresses with a certificate, which lies in `folder`.
fn secured(folder: &Path, cert: &str, key: &str) -> Site {
    let (cert, key) = (private(folder, "cert.pem", cert), private(folder, "key.pem", key));
    guarded(&format!(
        "listen = '0.0.0.0:0'\ncertificate = '{cert}'\nkey = '{key}'\n"
    ))
}

#[test]
fn beyond_loopback_a_certificate_and_a_token_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let site = secured(folder.path(), &made.cert.pem(), &made.signing_key.serialize_pem());
    let url = format!("https://127.0.0.1:{}", site.node.address().port());
    let cert = folder.path().join("cert.pem").display().to_string();
    let token_file = site.node.text("token");
    let node = run(&url, &format!("node --cacert {cert} --token-file {token_file}")).ok();
    assert!(node.contains("host-a"));
    assert_eq!(
        run(
            &url,
            &format!("disk add d1 --null 1GiB --cacert {cert} --token {TOKEN}")
        )
        .code,
        0
    );
    let missing = run(&url, &format!("health --cacert {cert} --json"));
    assert!(
        missing.code == 1 && missing.err.contains("token_missing"),
        "{missing:?}"
    );
    let wrong = run(
        &url,
        &format!("node --cacert {cert} --token {} --json", TOKEN.replace('f', "e")),
    );
    assert!(wrong.code == 1 && wrong.err.contains("token_wrong"), "{wrong:?}");
    let untrusted = run(&url, &format!("node --token {TOKEN}"));
    assert!(
        untrusted.code == 1
            && untrusted.err.contains("is not accepted")
            && untrusted.err.contains("--cacert"),
        "{untrusted:?}"
    );
    let plain = run(&url.replace("https", "http"), "node");
    assert!(
        plain.code == 1 && plain.err.contains("is no Palisade appliance"),
        "{plain:?}"
    );
}

#[test]
fn what_the_daemon_takes_its_command_line_takes() {
    let names = || vec!["other.example".to_owned()];
    let mut authority = rcgen::CertificateParams::new(names()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let nameless_key = rcgen::KeyPair::generate().unwrap();
    let nameless = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let nameless = nameless.self_signed(&nameless_key).unwrap();
    let signed_key = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let issuer = rcgen::Issuer::from_params(&authority, &authority_key);
    let signed = signed.signed_by(&signed_key, &issuer).unwrap();
    for (what, cert, key, trusted) in [
        // As `openssl req -x509` makes them: one that may sign others, for another name.
        (
            "an authority's own",
            &authority_cert,
            &authority_key,
            &authority_cert,
        ),
        ("one without a name", &nameless, &nameless_key, &nameless),
        (
            "one that another has signed",
            &signed,
            &signed_key,
            &authority_cert,
        ),
        ("a signed one given itself", &signed, &signed_key, &signed),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let site = secured(folder.path(), &cert.pem(), &key.serialize_pem());
        let url = format!("https://127.0.0.1:{}", site.node.address().port());
        let ca = folder.path().join("ca.pem");
        // A bundle: the one that counts need not be the first.
        let stranger = rcgen::generate_simple_self_signed(names()).unwrap();
        std::fs::write(&ca, stranger.cert.pem() + &trusted.pem()).unwrap();
        let said = run(&url, &format!("node --cacert {} --token {TOKEN}", ca.display()));
        assert_eq!(said.code, 0, "{what}: {said:?}");
        std::fs::write(&ca, stranger.cert.pem()).unwrap();
        let said = run(&url, &format!("node --cacert {} --token {TOKEN}", ca.display()));
        assert!(
            said.code == 1 && said.err.contains("is not accepted"),
            "{what}: {said:?}"
        );
    }
}

#[test]
fn a_token_counts_on_loopback_too() {
    let site = guarded("");
    let refused = site.palisade("node");
    assert!(
        refused.code == 1 && refused.err.contains("admin.token"),
        "{refused:?}"
    );
    site.palisade(&format!("node --token {TOKEN}")).ok();
}

#[test]
fn the_socket_needs_no_token() {
    let folder = Arc::new(node::folder());
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let path = folder.path().join("run/api.socket");
    let url = format!("unix:{}", path.display());
    let gone = run(&url, "node");
    assert!(
        gone.code == 1 && gone.err.contains("there is no socket") && gone.err.contains("makes a socket"),
        "{gone:?}"
    );
    drop(UnixListener::bind(&path).unwrap());
    let dead = run(&url, "node");
    assert!(
        dead.code == 1
            && dead.err.contains("nobody listens")
            && dead.err.contains("systemctl start palisaded"),
        "{dead:?}"
    );
    let _node = TestNode::within(folder, "[admin]\nlisten = 'off'");
    assert!(run(&url, "node").ok().contains("host-a"));
    run(&url, "disk add d1 --null 1GiB").ok();
    assert!(run(&path.display().to_string(), "disk list").ok().contains("d1"));
}

#[test]
fn an_address_that_is_none_is_said_to_be() {
    let said = run("localhost:7780", "node");
    assert!(said.code == 2 && said.err.contains("is no address"), "{said:?}");
}

/// As in a terminal, in which `answer` is typed.
fn typed(site: &Site, args: &str, answer: &str) -> Ran {
    use std::io::Write;
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_palisade"));
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("PALISADE_URL", site.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn nothing_is_taken_away_without_consent() {
    let site = Site::new();
    site.palisade("disk add d1 --memory 64MiB").ok();
    site.palisade("volume create v1 16MiB --disk d1").ok();
    for (what, args, gone) in [
        ("volume v1", "volume delete v1", "volume v1 is deleted, and"),
        (
            "disk d1",
            "disk remove d1",
            "disk d1 (memory, 64 MiB) is given up",
        ),
    ] {
        let asked = site.palisade(args);
        assert_eq!(asked.code, 2, "{asked:?}");
        assert!(
            asked.err.contains(&format!("{what} was not touched")),
            "{asked:?}"
        );
        assert!(asked.err.contains("--yes"), "{asked:?}");
        // What would happen is shown, and does not.
        for asked in [format!("{args} --dry-run"), format!("{args} --yes --dry-run")] {
            let shown = site.palisade(&asked).ok();
            assert!(shown.contains(gone), "{shown}");
        }
        let value = site.palisade(&format!("{args} --dry-run --json")).json();
        assert_eq!(value["subject"], what);
        let declined = typed(&site, args, "n\n");
        assert_eq!(declined.code, 1, "{declined:?}");
        assert!(declined.out.contains("Go on? [y/N]"), "{declined:?}");
        let agreed = typed(&site, args, "y\n");
        assert_eq!(agreed.code, 0, "{agreed:?}");
    }
    site.until("disk list --json", |ran| ran.out.trim() == "[]");
}

#[test]
fn what_a_machine_uses_and_what_is_protected_stays() {
    let site = Site::with_attachment();
    let _machine = site.machine();
    for args in ["attachment delete web1 --yes", "attachment delete web1 --dry-run"] {
        let refused = site.palisade(args);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("virtual machine"), "{refused:?}");
    }
    site.palisade("attachment delete web1 --force --yes").ok();
    let shown = site.palisade("volume set v1 --protect").ok();
    assert_eq!(line(&shown, "Protected:"), ["Protected:", "yes"]);
    assert_eq!(site.palisade("volume delete v1 --yes").code, 1);
    site.palisade("volume set v1 --unprotect --clear on-delete").ok();
    for (choice, effect) in [
        ("--clear", "its space is cleared before anybody else gets it"),
        ("--no-clear", "its space is free at once"),
    ] {
        let gone = site
            .palisade(&format!("volume delete v1 --dry-run {choice} --json"))
            .json();
        let told = gone["effects"][1].as_str().unwrap();
        assert!(told.contains(effect), "{gone}");
    }
    assert_eq!(site.palisade("volume set v1 --protect --unprotect").code, 2);
}

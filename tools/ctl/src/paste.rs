//! What an operator pastes to give attachments to a virtual machine.

use palisade_api::Attachment;
use std::fmt;
use std::process::Command;

/// Milliseconds after which the VMM tries to connect again when the daemon is restarted.
const RECONNECT_MS: u32 = 500;

/// Most entries of a virtqueue that QEMU takes (VIRTQUEUE_MAX_SIZE). Less than what is offered may be asked for.
const QUEUE_SIZE_MAX: u16 = 1024;

/// A version of QEMU, as far as its arguments depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    major: u32,
    minor: u32,
}

impl QemuVersion {
    /// From this one on `reconnect-ms` is known, and `reconnect`, in seconds, is on its way out.
    const WITH_RECONNECT_MS: QemuVersion = QemuVersion { major: 9, minor: 2 };

    /// The oldest one that is known to work.
    pub const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2 };

    /// Reads `10.0.2`, `7.2` or `9`, none older than [`QemuVersion::OLDEST`].
    ///
    /// # Errors
    /// What a version looks like, or which is the oldest.
    pub fn parse(text: &str) -> Result<QemuVersion, String> {
        let version = QemuVersion::parse_any(text)?;
        match version >= QemuVersion::OLDEST {
            true => Ok(version),
            false => Err(format!("QEMU {} or newer is needed", QemuVersion::OLDEST)),
        }
    }

    fn parse_any(text: &str) -> Result<QemuVersion, String> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let parsed = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), None) => Some(QemuVersion { major, minor: 0 }),
            (Some(Ok(major)), Some(Ok(minor))) => Some(QemuVersion { major, minor }),
            _ => None,
        };
        parsed.ok_or_else(|| "a version of QEMU is written as 10.0 or 7.2".to_owned())
    }

    /// Of the QEMU that is installed here, if there is one.
    pub fn installed() -> Option<QemuVersion> {
        let names = ["qemu-system-x86_64", "qemu-system-aarch64", "kvm"];
        let said = names
            .iter()
            .find_map(|name| Command::new(name).arg("--version").output().ok())?;
        QemuVersion::of_banner(&String::from_utf8_lossy(&said.stdout))
    }

    /// From `QEMU emulator version 7.2.17 (Debian ...)`.
    fn of_banner(text: &str) -> Option<QemuVersion> {
        let word = text.split("version ").nth(1)?.split_whitespace().next()?;
        QemuVersion::parse_any(word).ok()
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The memory of a QEMU machine.
#[derive(Clone, Copy, Debug)]
pub struct QemuMemory {
    /// How much, in bytes.
    pub bytes: u64,
    /// Whether it is made of hugepages.
    pub hugepages: bool,
}

/// Arguments of QEMU, one option a line, ready for a shell. The memory comes once, before the disks; its id is that of the
/// first of them, so that what was printed for two of them can be given to one machine: the last memory counts.
///
/// `version` absent: that of a new QEMU.
pub fn qemu_args(
    attachments: &[Attachment],
    memory: Option<QemuMemory>,
    version: Option<QemuVersion>,
) -> String {
    let mut lines = Vec::new();
    if let (Some(memory), Some(first)) = (memory, attachments.first()) {
        let megabytes = memory.bytes.div_ceil(1 << 20).max(1);
        let huge = match memory.hugepages {
            true => ",hugetlb=on,hugetlbsize=2M",
            false => "",
        };
        let id = format!("palisade-memory-{}", first.id);
        lines.push(format!("-m {megabytes}M"));
        lines.push(format!(
            "-object memory-backend-memfd,id={id},size={megabytes}M,share=on{huge}"
        ));
        lines.push(format!("-machine memory-backend={id}"));
    }
    let reconnect = match version.is_none_or(|version| version >= QemuVersion::WITH_RECONNECT_MS) {
        true => format!("reconnect-ms={RECONNECT_MS}"),
        false => format!("reconnect={}", RECONNECT_MS.div_ceil(1000)),
    };
    for attachment in attachments {
        let id = &attachment.id;
        let path = quoted(&attachment.socket.replace(',', ",,"));
        lines.push(format!(
            "-chardev socket,id=palisade-{id},path={path},{reconnect}"
        ));
        let mut device = format!(
            "-device vhost-user-blk-pci,chardev=palisade-{id},num-queues={}",
            attachment.queues
        );
        if attachment.queue_size != 128 {
            device.push_str(&format!(",queue-size={}", queue_size(attachment)));
        }
        lines.push(device);
    }
    lines.join(" \\\n")
}

fn queue_size(attachment: &Attachment) -> u16 {
    attachment.queue_size.min(QUEUE_SIZE_MAX)
}

/// What is to be known of attachments that offer longer queues than QEMU takes.
pub fn note_of_queues(attachments: &[Attachment]) -> Option<String> {
    let longer = attachments.iter().filter(|one| one.queue_size > QUEUE_SIZE_MAX);
    let longer: Vec<String> = longer
        .map(|one| format!("{} offers {}", one.id, one.queue_size))
        .collect();
    (!longer.is_empty()).then(|| {
        format!(
            "QEMU takes queues of up to {QUEUE_SIZE_MAX} entries, so that is what is asked for ({}).",
            longer.join(", ")
        )
    })
}

/// Disks as elements of libvirt. With `memory` in bytes, within a whole domain that can be defined as it is; without, the
/// elements alone, each of which can be attached to a domain whose memory is shared. `targets` names the disks.
pub fn libvirt_xml(attachments: &[Attachment], targets: &[String], memory: Option<u64>) -> String {
    let disks: Vec<String> = attachments
        .iter()
        .zip(targets)
        .map(|(attachment, target)| libvirt_disk(attachment, target))
        .collect();
    let Some(memory) = memory else {
        return disks.join("\n");
    };
    let name = attachments.first().map_or("palisade", |first| first.id.as_str());
    let inner: String = disks
        .join("\n")
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    format!(
        "<domain type='kvm'>\n  <name>{}</name>\n  <memory unit='KiB'>{}</memory>\n  <vcpu>1</vcpu>\n  \
         <!-- the guest's memory must be shared with the daemon -->\n  <memoryBacking>\n    <source type='memfd'/>\n    \
         <access mode='shared'/>\n  </memoryBacking>\n  <os>\n    <type>hvm</type>\n  </os>\n  \
         <devices>\n{inner}  </devices>\n</domain>",
        escaped(name),
        memory.div_ceil(1024).max(1)
    )
}

fn libvirt_disk(attachment: &Attachment, target: &str) -> String {
    let path = escaped(&attachment.socket);
    let target = escaped(target);
    let (queues, queue_size) = (attachment.queues, queue_size(attachment));
    let read_only = match attachment.read_only {
        true => "\n  <readonly/>",
        false => "",
    };
    format!(
        "<disk type='vhostuser' device='disk' snapshot='no'>\n  \
         <driver name='qemu' type='raw' queues='{queues}' queue_size='{queue_size}'/>\n  \
         <source type='unix' path='{path}'>\n    <reconnect enabled='yes' timeout='1'/>\n  </source>\n  \
         <target dev='{target}' bus='virtio'/>{read_only}\n</disk>"
    )
}

/// The names of so many disks, from `first` on: vda, vdb, ... vdz, vdaa. A name that does not end in a letter counts on
/// in numbers.
pub fn targets(first: &str, count: usize) -> Vec<String> {
    let mut names = vec![first.to_owned()];
    while names.len() < count {
        let last = names.last().map(String::as_str).unwrap_or_default();
        names.push(next_target(last));
    }
    names.truncate(count);
    names
}

fn next_target(name: &str) -> String {
    let prefix: &str = name.get(..2).unwrap_or_default();
    let letters = name.get(2..).unwrap_or_default();
    let mut bytes: Vec<u8> = letters.bytes().collect();
    for at in (0..bytes.len()).rev() {
        match bytes.get_mut(at) {
            Some(byte @ b'a'..=b'y') => {
                *byte += 1;
                return format!("{prefix}{}", String::from_utf8_lossy(&bytes));
            }
            Some(byte) => *byte = b'a',
            None => {}
        }
    }
    format!("{prefix}a{}", String::from_utf8_lossy(&bytes))
}

/// For a POSIX shell.
pub fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-,+:@".contains(&byte);
    match text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// For an attribute of XML in single quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(id: &str) -> Attachment {
        let json = serde_json::json!({
            "id": id, "volume": id, "socket": format!("/run/palisade/{id}.sock"), "queues": 2, "queue_size": 256,
            "mode": "0660", "read_only": id == "ro", "serial": "s", "write_cache": true, "limits": {},
            "connection": palisade_api::Connection::default(), "in_flight": 0, "refused": 0, "throttled": 0, "operations": [],
            "state": {"generation": 1, "applied": {"n": {"generation": 1}}},
        });
        serde_json::from_value(json).unwrap()
    }

    const MEMORY: QemuMemory = QemuMemory {
        bytes: 1 << 30,
        hugepages: false,
    };

    #[test]
    fn odd_paths_survive() {
        assert_eq!(quoted("/run/a.sock"), "/run/a.sock");
        assert_eq!(quoted("/run/it's $HOME"), "'/run/it'\\''s $HOME'");
        assert_eq!(escaped("/a&b<'>"), "/a&amp;b&lt;&apos;&gt;");
    }

    #[test]
    fn no_more_entries_are_asked_for_than_qemu_takes() {
        let offering = |queue_size| Attachment {
            queue_size,
            ..attachment("a")
        };
        for (offered, asked) in [(256, 256), (1024, 1024), (2048, 1024), (32768, 1024)] {
            let one = [offering(offered)];
            let args = qemu_args(&one, None, None);
            assert!(args.ends_with(&format!(",queue-size={asked}")), "{args}");
            let xml = libvirt_xml(&one, &["vda".to_owned()], None);
            assert!(xml.contains(&format!("queue_size='{asked}'")), "{xml}");
            assert_eq!(note_of_queues(&one).is_some(), offered > asked);
        }
        let note = note_of_queues(&[attachment("b"), offering(2048)]).unwrap();
        assert!(note.contains("(a offers 2048)"), "{note}");
    }

    #[test]
    fn memory_is_given_once_and_no_id_twice() {
        let ids = |text: &str| -> Vec<String> {
            let words = text.split([',', ' ', '\n']);
            let mut ids: Vec<_> = words
                .filter(|word| word.starts_with("id="))
                .map(str::to_owned)
                .collect();
            ids.sort();
            ids
        };
        let both = qemu_args(&[attachment("a"), attachment("b")], Some(MEMORY), None);
        assert_eq!(both.matches("-object").count(), 1, "{both}");
        assert_eq!(ids(&both).len(), 3);
        // Printed one by one and pasted together.
        let one_by_one = ["a", "b"]
            .map(|id| qemu_args(&[attachment(id)], Some(MEMORY), None))
            .join(" \\\n");
        let mut all = ids(&one_by_one);
        all.dedup();
        assert_eq!(all.len(), 4, "{one_by_one}");
        let bare = qemu_args(&[attachment("a")], None, None);
        assert!(!bare.contains("memory") && !bare.contains("-m "), "{bare}");
    }

    #[test]
    fn each_qemu_is_told_in_its_own_words() {
        let said = |version: &str| {
            let version = QemuVersion::parse(version).unwrap();
            qemu_args(&[attachment("a")], None, Some(version))
        };
        for old in ["7.2", "7.2.17", "9.1", "8"] {
            assert!(said(old).contains(",reconnect=1 "), "{}", said(old));
        }
        for new in ["9.2", "10.0.2", "11"] {
            assert!(said(new).contains(",reconnect-ms=500 "), "{}", said(new));
        }
        for wrong in ["", "new", "7.x", "-1"] {
            assert!(QemuVersion::parse(wrong).is_err(), "{wrong}");
        }
        let banner = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u12)\n";
        assert_eq!(QemuVersion::of_banner(banner), QemuVersion::parse("7.2").ok());
    }

    #[test]
    fn libvirt_gets_one_file_with_every_disk() {
        let all = [attachment("a"), attachment("ro")];
        let domain = libvirt_xml(&all, &targets("vda", 2), Some(1 << 30));
        assert!(domain.starts_with("<domain type='kvm'>") && domain.ends_with("</domain>"));
        assert!(
            domain.contains("dev='vda'") && domain.contains("dev='vdb'"),
            "{domain}"
        );
        assert_eq!(domain.matches("<readonly/>").count(), 1, "{domain}");
        assert!(domain.contains("<memory unit='KiB'>1048576</memory>"), "{domain}");
        let alone = libvirt_xml(&all[1..], &targets("vdc", 1), None);
        assert!(
            alone.starts_with("<disk ") && alone.contains("<readonly/>"),
            "{alone}"
        );
    }

    #[test]
    fn disks_are_named_on_from_the_first() {
        assert_eq!(targets("vda", 3), ["vda", "vdb", "vdc"]);
        assert_eq!(targets("vdz", 2), ["vdz", "vdaa"]);
        assert_eq!(targets("vdaz", 2), ["vdaz", "vdba"]);
        assert!(targets("vda", 0).is_empty());
    }
}

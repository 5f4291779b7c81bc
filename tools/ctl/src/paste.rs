//! What an operator pastes to give an attachment to a virtual machine.

use palisade_api::Attachment;

/// Milliseconds after which the VMM tries to connect again when the daemon is restarted.
const RECONNECT_MS: u32 = 500;

/// Arguments of QEMU, one option a line, ready for a shell.
pub fn qemu_args(attachment: &Attachment, memory_bytes: u64, hugepages: bool) -> String {
    let id = &attachment.id;
    let megabytes = memory_bytes.div_ceil(1 << 20).max(1);
    let huge = if hugepages {
        ",hugetlb=on,hugetlbsize=2M"
    } else {
        ""
    };
    let path = quoted(&attachment.socket.replace(',', ",,"));
    let mut device = format!(
        "-device vhost-user-blk-pci,chardev=palisade-{id},num-queues={}",
        attachment.queues
    );
    if attachment.queue_size != 128 {
        device.push_str(&format!(",queue-size={}", attachment.queue_size));
    }
    [
        format!("-m {megabytes}M"),
        format!("-object memory-backend-memfd,id=palisade-memory,size={megabytes}M,share=on{huge}"),
        "-machine memory-backend=palisade-memory".to_owned(),
        format!("-chardev socket,id=palisade-{id},path={path},reconnect-ms={RECONNECT_MS}"),
        device,
    ]
    .join(" \\\n")
}

/// Elements of a libvirt domain: one beside `<devices>`, one inside it.
pub fn libvirt_xml(attachment: &Attachment, target: &str) -> String {
    let path = escaped(&attachment.socket);
    let target = escaped(target);
    let (queues, queue_size) = (attachment.queues, attachment.queue_size);
    format!(
        "<!-- in <domain>: the guest's memory must be shared with the daemon -->\n\
         <memoryBacking>\n  <source type='memfd'/>\n  <access mode='shared'/>\n</memoryBacking>\n\n\
         <!-- in <devices> -->\n\
         <disk type='vhostuser' device='disk' snapshot='no'>\n  \
         <driver name='qemu' type='raw' queues='{queues}' queue_size='{queue_size}'/>\n  \
         <source type='unix' path='{path}'>\n    <reconnect enabled='yes' timeout='1'/>\n  </source>\n  \
         <target dev='{target}' bus='virtio'/>\n</disk>"
    )
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
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

    #[test]
    fn odd_paths_survive() {
        assert_eq!(quoted("/run/a.sock"), "/run/a.sock");
        assert_eq!(quoted("/run/it's $HOME"), "'/run/it'\\''s $HOME'");
        assert_eq!(escaped("/a&b<'>"), "/a&amp;b&lt;&apos;&gt;");
    }
}

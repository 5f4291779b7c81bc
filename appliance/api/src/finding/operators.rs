//! Kinds of findings of the ways by which operators come in.

/// Puts the rows of this file behind those given, and hands all of them to the next macro of those named.
macro_rules! operators_rows {
    ($next:ident $($later:ident)* { $($rows:tt)* }) => { $next! { $($later)* { $($rows)*
    RestWithoutToken {
        code: "rest_without_token", severity: Ok,
        means: "Every user of this machine may change everything, over a loopback port that asks for no token.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "for anything but a lab, take `admin.loopback_without_token` out of the configuration and restart the daemon",
        clears: Clears::WithItsCause,
    }
    RestPortTaken {
        code: "rest_port_taken", severity: Degraded,
        means: "The TCP port of REST cannot be had: another process holds it, or the machine has not got its address (yet). The \
                Unix socket works.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "see who holds it (`ss -ltnp`) and stop it, or whether its address is there (`ip address`): it is tried again \
                 each second and needs no restart. Or set another `admin.listen` and restart the daemon",
        clears: Clears::WhenTold,
    }
    ClusterNoMajority {
        code: "cluster_no_majority", severity: Degraded,
        means: "No majority of the cluster's voters answers: nothing can be changed, and what this node knows may be out of date.",
        guest: "Nothing where its disk is this node's own. What lies behind a node that does not answer waits.",
        metric: "palisade_findings",
        remedy: "bring the other nodes back, or the network between them: `palisade cluster status` shows who is not heard. It ends \
                 by itself",
        clears: Clears::WhenTold,
    }
    ClusterDoorShut {
        code: "cluster_door_shut", severity: Degraded,
        means: "Other nodes cannot reach this one at an address that it has in the cluster.",
        guest: "Nothing here. Guests of other nodes that use disks of this one may wait.",
        metric: "palisade_findings",
        remedy: "see who holds the port (`ss -ltnp`) or whether the machine has the address (`ip address`): it is tried again each \
                 half second. A node that has moved is told so to the cluster with `palisade node set`",
        clears: Clears::WhenTold,
    }
    ClusterMemberStopped {
        code: "cluster_member_stopped", severity: Failed,
        means: "This node's part of the agreement has stopped, most often as its files could not be written.",
        guest: "Nothing: what is served goes on.",
        metric: "palisade_findings",
        remedy: "make room on the file system of the state directory or see why it cannot be written, and restart the daemon: guests \
                 go on after a pause",
        clears: Clears::WhenTold,
    }
    ClusterMemberSilent {
        code: "cluster_member_silent", severity: Degraded,
        means: "A node is not heard by this one, or does not hear it. Where a majority of the voters finds the same, it is given up \
                within a second.",
        guest: "What lies behind that node waits.",
        metric: "palisade_findings",
        remedy: "see whether the machine of {name} runs and whether the network to it does: `palisade cluster status`, on both sides. It \
                 ends by itself",
        clears: Clears::WithItsCause,
    }
    ClusterMemberLimps {
        code: "cluster_member_limps", severity: Degraded,
        means: "A node is heard, and something is wrong all the same: one of its links is lost, or it is late or slow.",
        guest: "What lies behind that node may take longer.",
        metric: "palisade_findings",
        remedy: "see to the network at the address that is named, or to what keeps the machine of {name} busy. It ends by itself",
        clears: Clears::WithItsCause,
    }
    ClusterMemberEvicted {
        code: "cluster_member_evicted", severity: Degraded,
        means: "The other nodes have given a node up, as they did not hear it: nothing is given to it until it is taken back.",
        guest: "What lies behind that node waits. Its own guests go on with its own disks.",
        metric: "palisade_findings",
        remedy: "bring the machine of {name} back, or the network to it: it is taken back by itself when it has been heard for some time. \
                 A node that is gone for good is taken out with `palisade node remove` when nothing lies on it",
        clears: Clears::WithItsCause,
    }
    ClusterIdentityCopied {
        code: "cluster_identity_copied", severity: Degraded,
        means: "A node is there twice: two programs say to be it. The one that started later counts, and the other one for nothing.",
        guest: "What only the other one serves stands still.",
        metric: "palisade_heartbeats_total",
        remedy: "find the machine that was copied from that of {name} and stop its daemon; then restart the one of {name}, which counts \
                 again as it started later. The copy joins as another node with a state directory of its own",
        clears: Clears::WithItsCause,
    }
    ApiSocketLost {
        code: "api_socket_lost", severity: Degraded,
        means: "The file of the Unix socket by which operators come in is not in its place: somebody has deleted or replaced it.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "it is made anew by itself within seconds, with the same owner and mode, unless something else is in its place: \
                 move that away. See what cleans up in this folder",
        clears: Clears::WhenTold,
    }
    KeysNotTaken {
        code: "keys_not_taken", severity: Degraded,
        means: "A token, certificate or key of REST was changed, deleted or opened to others, and cannot be taken as it is now.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "do what is said above: those of before stay in force as long as the daemon runs, and it does not start again \
                 with a file that it cannot take (an `admin.token` of its own that is gone it makes anew then); once a file \
                 can be taken, that is noticed within seconds",
        clears: Clears::WhenTold,
    }
    CertificateEnds {
        code: "certificate_ends", severity: Ok,
        means: "The certificate of REST ends within two weeks, or within a quarter of its time where that is less.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "have it renewed, and put the new one in its place with its key: it is taken within seconds, without a restart",
        clears: Clears::WhenTold,
    }
    CertificateEndsSoon {
        code: "certificate_ends_soon", severity: Degraded,
        means: "The certificate of REST ends within two days, or within a twentieth of its time where that is less.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "have it renewed now, and put the new one in its place with its key: it is taken within seconds, without a \
                 restart. What renews it by itself should have done so: see why not",
        clears: Clears::WhenTold,
    }
    CertificateNotValid {
        code: "certificate_not_valid", severity: Degraded,
        means: "The certificate of REST has expired, or is not valid yet: clients do not take it.",
        guest: "Nothing.",
        metric: "palisade_findings",
        remedy: "put a valid one in its place with its key: it is taken within seconds, without a restart. If it should be valid, \
                 see whether the clock of this machine is right (`timedatectl`). The Unix socket works meanwhile",
        clears: Clears::WhenTold,
    }
    } } };
}

use super::*;
use palisade_model::Node;
use palisade_words::{Epoch, Generation};
use std::os::unix::fs::PermissionsExt;

/// A cluster of these nodes, by name and number.
fn cluster(nodes: &[(&str, u128)]) -> Cluster {
    let mut cluster = Cluster::empty();
    if !nodes.is_empty() {
        cluster.id = Uuid(1);
        cluster.epoch = Epoch(1);
        cluster.generation = Generation(1);
    }
    let node = |&(name, uuid): &(&str, u128)| {
        let node = Node::of(Uuid(uuid), Generation(1));
        (Name::new(name).unwrap(), node)
    };
    cluster.nodes = nodes.iter().map(node).collect();
    cluster
}

fn identity(directory: &Path, cluster: &Cluster) -> Result<NodeIdentity, IdentityError> {
    NodeIdentity::of(directory, cluster, || Uuid(7))
}

#[test]
fn a_new_node_keeps_its_id_from_before_it_is_in_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let of = |cluster: &Cluster| NodeIdentity::of(directory.path(), cluster, || Uuid(7)).unwrap();
    assert_eq!(of(&cluster(&[])).node(), Uuid(7));
    // Stopped before it came into a cluster: the same id, whatever chance would give now.
    let again = NodeIdentity::of(directory.path(), &cluster(&[]), || Uuid(8)).unwrap();
    assert_eq!(again.node(), Uuid(7));
    let both = cluster(&[("a", 3), ("b", 7)]);
    assert_eq!(of(&both).name_in(&both).map(Name::as_str), Some("b"));
    let about = fs::metadata(directory.path().join(IDENTITY)).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert!(!directory.path().join("identity.new").exists());
}

#[test]
fn a_directory_without_an_identity_is_the_only_nodes_and_never_one_of_several() {
    let directory = tempfile::tempdir().unwrap();
    let several = cluster(&[("a", 3), ("b", 4)]);
    let error = identity(directory.path(), &several).unwrap_err();
    assert!(
        matches!(error, IdentityError::Missing { nodes: 2, .. }),
        "{error}"
    );
    assert!(!directory.path().join(IDENTITY).exists());
    let only = identity(directory.path(), &cluster(&[("a", 3)])).unwrap();
    assert_eq!(only.node(), Uuid(3));
    // It is written down: later it is one of several.
    assert_eq!(identity(directory.path(), &several).unwrap(), only);
}

#[test]
fn another_nodes_database_is_not_taken_for_its_own() {
    let directory = tempfile::tempdir().unwrap();
    identity(directory.path(), &cluster(&[("a", 3)])).unwrap();
    let before = fs::read(directory.path().join(IDENTITY)).unwrap();
    // The same name, and another node.
    let error = identity(directory.path(), &cluster(&[("a", 4)])).unwrap_err();
    assert!(
        matches!(error, IdentityError::Stranger { node: Uuid(3), .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("a ({})", Uuid(4))), "{error}");
    assert_eq!(fs::read(directory.path().join(IDENTITY)).unwrap(), before);
    remove(directory.path()).unwrap();
    remove(directory.path()).unwrap();
    assert_eq!(
        identity(directory.path(), &cluster(&[("a", 4)])).unwrap().node(),
        Uuid(4)
    );
}

#[test]
fn what_is_no_identity_is_named_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(IDENTITY);
    let node = Uuid(3).to_string();
    for (text, later) in [
        (String::new(), false),
        ("{\"format\":1}".into(), false),
        (format!("{{\"format\":1,\"node\":\"{node}\",\"more\":1}}"), false),
        (format!("{{\"format\":0,\"node\":\"{node}\"}}"), false),
        (format!("{{\"format\":1,\"node\":\"{}\"}}", Uuid(0)), false),
        (format!("{{\"format\":2,\"node\":\"{node}\",\"more\":1}}"), true),
    ] {
        fs::write(&path, &text).unwrap();
        let error = identity(directory.path(), &cluster(&[("a", 3)])).unwrap_err();
        let is_right = match error {
            IdentityError::TooNew { format: 2, .. } => later,
            IdentityError::Damaged { .. } => !later,
            _ => false,
        };
        assert!(is_right, "{text}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, format!("{{\"format\":1,\"node\":\"{node}\"}}\n")).unwrap();
    assert_eq!(
        identity(directory.path(), &cluster(&[("a", 3)])).unwrap().node(),
        Uuid(3)
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = identity(directory.path(), &cluster(&[("a", 3)])).unwrap_err();
    assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
}

use super::*;
use std::fs::Permissions;

const NOW_S: u64 = 1_800_000_000;
const CLUSTER: Uuid = Uuid(0xc1);
const NODE_ID: Uuid = Uuid(0xa1);

fn open() -> (tempfile::TempDir, KeyDirectory) {
    let state = tempfile::tempdir().unwrap();
    let keys = KeyDirectory::open(state.path()).unwrap();
    (state, keys)
}

/// A directory as `cluster init` leaves it.
fn filled() -> (tempfile::TempDir, KeyDirectory, Authority) {
    let (state, keys) = open();
    let authority = Authority::create(CLUSTER, NOW_S).unwrap();
    keys.keep_authority(&authority).unwrap();
    let request = keys.node_key().unwrap().request().unwrap();
    let certificate = authority.sign(&request, NODE_ID, NOW_S).unwrap();
    keys.keep_certificate(&certificate).unwrap();
    (state, keys, authority)
}

#[test]
fn what_is_kept_is_private_and_read_back() {
    let (state, keys) = open();
    assert!(keys.authority(CLUSTER).unwrap().is_none());
    assert!(keys.credentials(CLUSTER, NODE_ID).unwrap().is_none());
    let key = keys.node_key().unwrap();
    assert_eq!(keys.node_key().unwrap().sum(), key.sum(), "it is made once");
    drop(state);
    let (state, keys, authority) = filled();
    let mut names = Vec::new();
    for file in fs::read_dir(state.path().join(TRUST)).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["authority-key.pem", "authority.der", "node-key.pem", "node.der"]
    );
    let about = fs::metadata(state.path().join(TRUST)).unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o700);
    let again = KeyDirectory::open(state.path()).unwrap();
    let credentials = again.credentials(CLUSTER, NODE_ID).unwrap().unwrap();
    assert_eq!(credentials.identity().node, NODE_ID);
    assert_eq!(credentials.identity().key, keys.node_key().unwrap().sum());
    let read = again.authority(CLUSTER).unwrap().unwrap();
    assert_eq!(read.fingerprint(), authority.fingerprint());
    // It still signs, and what it signs counts.
    let key = NodeKey::generate().unwrap();
    let signed = read.sign(&key.request().unwrap(), Uuid(9), NOW_S).unwrap();
    assert!(Credentials::new(Arc::new(key), signed, authority.certificate().clone()).is_ok());
    // A node that is not to vote has the certificate alone.
    let (_state, learner) = open();
    learner
        .keep_authority_certificate(authority.certificate())
        .unwrap();
    assert!(learner.authority(CLUSTER).unwrap().is_none());
    let certificate = learner.authority_certificate(CLUSTER).unwrap();
    assert_eq!(certificate.as_ref(), Some(authority.certificate()));
}

#[test]
fn what_others_may_open_is_not_used() {
    let (state, keys, _) = filled();
    let path = state.path().join(TRUST).join(NODE_KEY);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = keys.credentials(CLUSTER, NODE_ID).unwrap_err();
        assert!(matches!(error, KeyDirectoryError::NotPrivate { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(&format!("{mode:04o}")) && said.contains("chmod"),
            "{said}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(keys.credentials(CLUSTER, NODE_ID).is_ok());
    fs::set_permissions(state.path().join(TRUST), Permissions::from_mode(0o750)).unwrap();
    let error = KeyDirectory::open(state.path()).unwrap_err();
    assert!(matches!(error, KeyDirectoryError::NotPrivate { .. }), "{error}");
}

#[test]
fn a_directory_put_together_from_two_is_seen() {
    let (state, keys, _) = filled();
    let error = keys.credentials(Uuid(0xc2), NODE_ID).unwrap_err();
    assert!(
        matches!(error, KeyDirectoryError::OtherCluster { found: CLUSTER, .. }),
        "{error}"
    );
    let error = keys.authority(Uuid(0xc2)).unwrap_err();
    assert!(matches!(error, KeyDirectoryError::OtherCluster { .. }), "{error}");
    let error = keys.credentials(CLUSTER, Uuid(0xa2)).unwrap_err();
    assert!(
        matches!(error, KeyDirectoryError::OtherNode { found: NODE_ID, .. }),
        "{error}"
    );
    // The key of another authority, and the certificate of another key.
    let (other, _, _) = filled();
    let file = |state: &tempfile::TempDir, name: &str| state.path().join(TRUST).join(name);
    fs::copy(file(&other, AUTHORITY_KEY), file(&state, AUTHORITY_KEY)).unwrap();
    let said = keys.authority(CLUSTER).unwrap_err().to_string();
    assert!(
        said.contains("is not the one of the authority's certificate"),
        "{said}"
    );
    fs::copy(file(&other, AUTHORITY), file(&state, AUTHORITY)).unwrap();
    assert!(keys.authority(CLUSTER).is_ok());
    let said = keys.credentials(CLUSTER, NODE_ID).unwrap_err().to_string();
    assert!(said.contains("has not signed"), "{said}");
    fs::copy(file(&other, NODE), file(&state, NODE)).unwrap();
    let said = keys.credentials(CLUSTER, NODE_ID).unwrap_err().to_string();
    assert!(said.contains("private key is not the one"), "{said}");
    fs::remove_file(file(&state, NODE_KEY)).unwrap();
    let said = keys.credentials(CLUSTER, NODE_ID).unwrap_err().to_string();
    assert!(said.contains("is missing"), "{said}");
}

#[test]
fn what_is_damaged_says_what_to_do() {
    for name in [NODE_KEY, NODE, AUTHORITY, AUTHORITY_KEY] {
        let (state, keys, _) = filled();
        let path = state.path().join(TRUST).join(name);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() / 2], b"", &vec![b'x'; 20_000]] {
            fs::write(&path, bytes).unwrap();
            let error = match name {
                AUTHORITY_KEY => keys.authority(CLUSTER).unwrap_err(),
                _ => keys.credentials(CLUSTER, NODE_ID).unwrap_err(),
            };
            assert!(
                matches!(error, KeyDirectoryError::Damaged { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains("Bring it back"), "{error}");
        }
    }
}

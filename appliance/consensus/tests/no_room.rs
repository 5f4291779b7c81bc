//! A backup for which there is no room leaves nothing behind, neither the file nor a piece of it.

use palisade_consensus::Backup;
use palisade_model::Cluster;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Names the folder to the process that may write no file.
const FOLDER: &str = "PALISADE_TEST_FOLDER";

/// A limit on the size of files stands for a file system that is full.
const LIMITED: &str = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";

#[test]
fn a_backup_for_which_there_is_no_room_leaves_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let backup = Backup::of(Cluster::empty());
        let failed = backup.write(&PathBuf::from(folder).join("copy")).unwrap_err();
        assert!(failed.to_string().contains("cannot be written"), "{failed}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new("bash")
        .args(["-c", LIMITED, "bash"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_backup_for_which_there_is_no_room_leaves_nothing"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

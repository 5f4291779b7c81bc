//! What is typed for completion in shells.

use clap::ValueEnum;

/// What has ids.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// Disks.
    Disk,
    /// Volumes.
    Volume,
    /// Attachments.
    Attachment,
    /// Nodes of the cluster, which are called by their names.
    Node,
    /// Tokens that let nodes in.
    Token,
}

/// Shells that completions can be written for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// fish.
    Fish,
}

//! Tests of whole queues over real rings in real memory.

mod hostile;
mod migration;
mod notifications;
mod oracle;
mod recovery;
mod requests;
mod rig;

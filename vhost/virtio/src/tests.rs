//! Tests of whole queues over real rings in real memory.

mod alone;
mod hostile;
mod lengths;
mod long;
mod migration;
mod notifications;
mod oracle;
mod quick;
mod recovery;
mod requests;
mod rig;
mod stores;

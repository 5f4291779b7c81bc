//! The door: sockets on offer, guests that come and go, and what it was told and has not done yet.

use super::Breach;
use crate::rng::Rng;
use palisade_control::{Control, NodeEvent};
use palisade_words::{AttachmentIndex, Name};
use std::collections::BTreeMap;

/// The door's side of an attachment.
#[derive(Debug)]
struct Session {
    attachment: Name,
    connected: bool,
    /// What it was told: to let it go, or to leave it to whoever is connected.
    told: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Detach,
    GiveUp,
    /// Left to whoever is connected, until that one leaves.
    Left,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<AttachmentIndex, Session>);

impl Sessions {
    /// A socket is put in its place. The check: nobody else has its number.
    pub(super) fn begin(&mut self, index: AttachmentIndex, attachment: &Name) -> Result<(), Breach> {
        let session = Session {
            attachment: attachment.clone(),
            connected: false,
            told: None,
        };
        match self.0.insert(index, session) {
            None => Ok(()),
            Some(before) => {
                let what = format!(
                    "attachment {attachment} is offered under the number of {}, which the door still has",
                    before.attachment
                );
                Err(Breach::straddling(what))
            }
        }
    }

    pub(super) fn ask(&mut self, index: AttachmentIndex, detaches: bool) {
        if let Some(session) = self.0.get_mut(&index) {
            session.told = Some(if detaches { Ending::Detach } else { Ending::GiveUp });
        }
    }

    /// Whether nothing is left to be done of what it was told. Who is left may stay for ever.
    pub(super) fn are_idle(&self) -> bool {
        let is_idle = |session: &Session| matches!(session.told, None | Some(Ending::Left));
        self.0.values().all(is_idle)
    }

    /// A guest comes or goes.
    pub(super) fn move_guests(&mut self, rng: &mut Rng, control: &mut Control) -> Option<NodeEvent> {
        let all: Vec<AttachmentIndex> = self.0.keys().copied().collect();
        let index = *all.get(rng.index(all.len()))?;
        let session = self.0.get_mut(&index)?;
        session.connected = !session.connected && session.told.is_none();
        control.set_connected(index, session.connected);
        if session.connected || session.told != Some(Ending::Left) {
            return None;
        }
        self.gone(index, control)
    }

    /// One of them comes to what it was told.
    pub(super) fn go_on(&mut self, rng: &mut Rng, control: &Control) -> Option<NodeEvent> {
        let is_told = |session: &Session| matches!(session.told, Some(Ending::Detach | Ending::GiveUp));
        let told = self.0.iter().filter(|(_, session)| is_told(session));
        let told: Vec<AttachmentIndex> = told.map(|(index, _)| *index).collect();
        let index = *told.get(rng.index(told.len()))?;
        let session = self.0.get_mut(&index)?;
        if session.told == Some(Ending::GiveUp) && session.connected {
            session.told = Some(Ending::Left);
            let offering = control.offering_of(index)?;
            return Some(NodeEvent::GivenUp { offering });
        }
        self.gone(index, control)
    }

    fn gone(&mut self, index: AttachmentIndex, control: &Control) -> Option<NodeEvent> {
        self.0.remove(&index);
        let offering = control.offering_of(index)?;
        Some(NodeEvent::Detached { offering })
    }
}

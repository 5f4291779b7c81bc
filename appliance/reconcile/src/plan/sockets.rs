//! Sockets: offered last, withdrawn first.

use super::Planner;
use crate::observed::{ObservedRoute, ObservedSocket};
use crate::step::Action;
use palisade_model::{Attachment, Kind};
use palisade_words::Name;

impl<'a> Planner<'a> {
    /// Withdraws sockets that are no longer wanted, whose attachment is another one of the same name, or that lead where their
    /// guests may not go any more. One that is being offered anew is so first: what is told to go in between would
    /// come after all.
    pub(super) fn withdraw_sockets(&mut self) {
        let observed = self.observed;
        for (name, socket) in &observed.sockets {
            let attachment = name.clone();
            if observed.under_way.contains(&Action::ReopenSocket { attachment }) {
                continue;
            }
            if self.wanted_here(name, socket).is_none() || self.leads_astray(socket) {
                let generation = self.wanted.generation;
                self.step(
                    generation,
                    Action::WithdrawSocket {
                        attachment: name.clone(),
                    },
                );
            }
        }
    }

    /// Offers sockets over routes in place, and brings those on offer up to date.
    pub(super) fn offer_sockets(&mut self) {
        let (wanted, observed) = (self.wanted, self.observed);
        for (name, attachment) in wanted.attachments.iter().filter(|(_, a)| a.node == *self.node) {
            match observed.sockets.get(name) {
                None => self.offer(name, attachment),
                Some(socket) if self.leads_astray(socket) => {
                    self.wait_on((Kind::Attachment, name), (Kind::Volume, &attachment.volume));
                }
                Some(socket) if self.wanted_here(name, socket).is_some() => {
                    self.keep(name, attachment, socket)
                }
                // The one of that name before it is being withdrawn.
                Some(_) => {}
            }
        }
    }

    fn offer(&mut self, name: &Name, attachment: &Attachment) {
        if self.route_in_place(attachment).is_none() {
            self.wait_on((Kind::Attachment, name), (Kind::Volume, &attachment.volume));
            return;
        }
        match self.rival(name, attachment) {
            Some(rival) => self.wait_on((Kind::Attachment, name), (Kind::Attachment, rival)),
            None => self.step(
                attachment.revision,
                Action::OfferSocket {
                    attachment: name.clone(),
                },
            ),
        }
    }

    fn keep(&mut self, name: &Name, wanted: &Attachment, socket: &ObservedSocket) {
        let now = &socket.attachment;
        let (generation, attachment) = (wanted.revision, name.clone());
        if needs_new_session(now, wanted) {
            // The new session takes over all settings, and the size of the route that is in place.
            match self.rival(name, wanted) {
                Some(rival) => self.wait_on((Kind::Attachment, name), (Kind::Attachment, rival)),
                None => self.step(generation, Action::ReopenSocket { attachment }),
            }
            return;
        }
        if (&now.owner, &now.group, now.mode) != (&wanted.owner, &wanted.group, wanted.mode) {
            let attachment = name.clone();
            self.step(generation, Action::ChangeSocketPermissions { attachment });
        }
        if now.limits != wanted.limits {
            let attachment = name.clone();
            self.step(generation, Action::ChangeLimits { attachment });
        }
        match self.observed.routes.get(&wanted.volume) {
            Some(route) if route.sectors != socket.sectors => {
                self.step(route.generation, Action::ResizeVolume { attachment });
            }
            _ => {}
        }
    }

    /// The wanted attachment that a socket belongs to, if there still is one.
    fn wanted_here(&self, name: &Name, socket: &ObservedSocket) -> Option<&'a Attachment> {
        socket.wanted(self.wanted, self.node, name)
    }

    /// Whether what a socket offers has no route, or one that is to be ended.
    fn leads_astray(&self, socket: &ObservedSocket) -> bool {
        let volume = &socket.attachment.volume;
        let route = self.observed.routes.get(volume);
        route.is_none_or(|route| self.misleads(volume, route))
    }

    /// The route of an attachment's volume, when it is the one wanted and leads to disks that may be used.
    fn route_in_place(&self, attachment: &Attachment) -> Option<&'a ObservedRoute> {
        let volume = self.wanted.volumes.get(&attachment.volume)?;
        let route = self.observed.routes.get(&attachment.volume)?;
        let is_it = route.uuid == volume.uuid && route.generation == volume.route_generation();
        (is_it && !self.misleads(&attachment.volume, route)).then_some(route)
    }

    /// A socket on offer that has to change or go first: it has the path, or it may not be beside the wanted one
    /// because one of the two writes.
    fn rival(&self, name: &Name, wanted: &Attachment) -> Option<&'a Name> {
        let in_the_way = |other: &Attachment| {
            let writes = !other.read_only || !wanted.read_only;
            other.socket == wanted.socket || (other.volume == wanted.volume && writes)
        };
        let mut others = self.observed.sockets.iter().filter(|(other, _)| *other != name);
        others
            .find(|(_, socket)| in_the_way(&socket.attachment))
            .map(|(other, _)| other)
    }
}

/// Whether a change reaches what a guest negotiates at the beginning of its session.
fn needs_new_session(now: &Attachment, wanted: &Attachment) -> bool {
    (now.queues, now.queue_size, now.read_only, now.write_cache)
        != (
            wanted.queues,
            wanted.queue_size,
            wanted.read_only,
            wanted.write_cache,
        )
        || (&now.volume, &now.socket, &now.serial) != (&wanted.volume, &wanted.socket, &wanted.serial)
}

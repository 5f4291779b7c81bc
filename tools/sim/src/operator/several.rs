//! Several nodes of one cluster, each with a control machine of its own, a clock of its own, and its own idea of how far the log
//! has come: what is agreed on reaches one node sooner than another, one that is cut off hears nothing for a while, and each
//! may end and start again at any moment.
//!
//! Disks are given to one node, taken away, and given to another. What must hold meanwhile:
//!
//! - guests of two nodes never share a sector, however far behind one of them is;
//! - no node writes its superblock over that of a disk that is another's by now;
//! - what is proposed out of an old view is refused or changes nothing, and what is proposed twice is done once;
//! - each run of a node is told as a later one than those before;
//! - a node that was given up goes on with its own disks, and loses nothing of what was given to it;
//! - once all have heard of everything, each disk says what the cluster says, and no node has anything left to do.

use super::commands::{draw_for, draw_membership, id_of};
use super::disks::Disks;
use super::log::{Fate, Log};
use super::name;
use super::node::Node;
use crate::finding::{Findings, Invariant};
use crate::node::ServedRoute;
use crate::plan::Break;
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_consensus::{Agreement, ProposeError};
use palisade_model::{
    AddNode, ChangeNode, Cluster, Command, FEATURE_LEVEL, Membership, NodeRole, NodeStarted, Outcome,
    RaiseFeatureLevel, RemoveNode, check,
};
use palisade_wire::DecodeError;
use palisade_words::Name;
use std::sync::Arc;

/// Turns after which nodes with nothing new to do must be at rest.
const TURNS_AT_REST: usize = 60_000;

/// So many turns with nothing to do are rest: what has failed is tried again in less, by the clock of each node.
const TURNS_OF_REST: usize = 200;

/// Runs it.
pub fn run(mut rng: Rng, broken: Option<Break>, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    let lived = Nodes::new(&mut rng, broken).and_then(|mut nodes| nodes.life(&mut rng, &mut hash));
    if let Err(what) = lived {
        findings.add(Invariant::AllOrNothing, Nanos(0), what);
    }
    hash
}

/// A node as the others see it.
struct Member {
    number: u64,
    name: Name,
    node: Node,
    /// Commands of the log that it has heard of.
    heard: usize,
    /// What they lead to.
    cluster: Arc<Cluster>,
    /// It hears of nothing, and nobody hears of it.
    is_cut_off: bool,
}

/// The nodes, the log and the disks.
struct Nodes {
    log: Log,
    members: Vec<Member>,
    disks: Disks,
    /// Proposals that were agreed on, refused, and not answered, for a look at what a seed is worth.
    answers: [u64; 3],
}

impl Nodes {
    fn new(rng: &mut Rng, broken: Option<Break>) -> Result<Nodes, String> {
        let members = (0..rng.between(2, 4)).map(|number| {
            let name = name("node", number)?;
            let of_node = rng.split(name.as_str());
            Ok::<_, String>(Member {
                number,
                node: Node::new(name.clone(), of_node).with_unusable_devices(),
                name,
                heard: 0,
                cluster: Arc::new(Cluster::empty()),
                is_cut_off: false,
            })
        });
        Ok(Nodes {
            members: members.collect::<Result<_, _>>()?,
            log: Log::new(broken),
            disks: Disks::new(rng)?,
            answers: [0; 3],
        })
    }

    fn life(&mut self, rng: &mut Rng, hash: &mut RunHash) -> Result<(), String> {
        self.form(rng)?;
        for _ in 0..rng.between(40, 90) {
            self.operate(rng)?;
            for _ in 0..[0, 3, 40, 300][rng.index(4)] {
                let at = rng.index(self.members.len());
                self.turn(at, rng)?;
            }
            if rng.one_in(4) {
                let at = rng.index(self.members.len());
                self.restart(at, rng)?;
            }
            if rng.one_in(3) {
                let at = rng.index(self.members.len());
                let member = &mut self.members[at];
                member.is_cut_off = !member.is_cut_off;
            }
            hash.add([self.log.cluster().generation.0, rng.bits()]);
        }
        self.come_to_rest(rng)
    }

    /// The first node makes a cluster of itself, and the others are let in; not all of them, and not all at once.
    fn form(&mut self, rng: &mut Rng) -> Result<(), String> {
        let init = draw_for(rng, 0, 0)?;
        self.propose(0, &init, Fate::Answered)?;
        self.hear(0, usize::MAX);
        self.start_anew(0, Fate::Answered)?;
        // Nodes are let in to a cluster all of whose members know what that is.
        let raise = Command::RaiseFeatureLevel(RaiseFeatureLevel { to: FEATURE_LEVEL });
        self.propose(0, &raise, Fate::Answered)?;
        for at in 1..self.members.len() {
            if rng.one_in(5) {
                continue;
            }
            let add = self.let_in(at);
            self.propose(0, &add, Fate::Answered)?;
            self.hear(at, usize::MAX);
            self.tell_of_start(at, rng)?;
        }
        Ok(())
    }

    fn let_in(&self, at: usize) -> Command {
        let member = &self.members[at];
        Command::AddNode(AddNode {
            name: member.name.clone(),
            uuid: id_of(member.number),
            addresses: Vec::new(),
            failure_domain: None,
        })
    }

    /// An operator asks for something, at some node.
    fn operate(&mut self, rng: &mut Rng) -> Result<(), String> {
        let at = rng.index(self.members.len());
        // Mostly of the node that he asks, and now and then of another one.
        let of = if rng.one_in(5) {
            rng.index(self.members.len())
        } else {
            at
        };
        let seen = &self.members[at].cluster;
        let is_out = seen
            .nodes
            .get(&self.members[of].name)
            .is_some_and(|node| node.membership == Membership::Evicted);
        let command = match rng.below(8) {
            0 => self.let_in(of),
            // Out of the view of who proposes, which may be behind. Who was given up comes back before long.
            3 if is_out || rng.one_in(6) => draw_membership(rng, seen, self.members[of].number),
            1 => Command::ChangeNode(ChangeNode {
                name: self.members[of].name.clone(),
                addresses: None,
                failure_domain: None,
                role: Some([NodeRole::Learner, NodeRole::Voter][rng.index(2)]),
                expected: None,
            }),
            2 if rng.one_in(3) => Command::RemoveNode(RemoveNode {
                name: self.members[of].name.clone(),
                expected: None,
            }),
            _ => {
                // Disks that come and go, above all.
                let kind = [1, 1, 3][rng.index(3)];
                let kind = if rng.one_in(3) { kind } else { rng.between(1, 14) };
                let drawn = draw_for(rng, kind, self.members[of].number)?;
                self.where_its_disk_is(drawn, rng)
            }
        };
        if !self.is_let_in(at, &command) {
            return Ok(());
        }
        let fate = self.some_fate(rng);
        // Who got no answer asks once more.
        if self.propose(at, &command, fate)?.is_some() && rng.one_in(2) {
            self.propose(at, &command, Fate::Answered)?;
        }
        Ok(())
    }

    /// Mostly an operator names the node that has the disk of what he asks for.
    fn where_its_disk_is(&self, mut command: Command, rng: &mut Rng) -> Command {
        if rng.one_in(6) {
            return command;
        }
        let cluster = self.log.cluster();
        match &mut command {
            Command::CreateVolume(create) => {
                let known = cluster.disks.keys().nth(rng.index(cluster.disks.len().max(1)));
                if let Some((disk, found)) = known.and_then(|name| cluster.disks.get_key_value(name)) {
                    (create.node, create.disk) = (found.custodian().clone(), Some(disk.clone()));
                }
            }
            Command::CreateAttachment(create) => {
                let known = cluster
                    .volumes
                    .keys()
                    .nth(rng.index(cluster.volumes.len().max(1)));
                if let Some((volume, node)) = known.and_then(|name| Some((name, cluster.node_of(name)?))) {
                    (create.node, create.volume) = (node.clone(), volume.clone());
                }
            }
            // What holds volumes is not given up, so it is mostly asked for of others.
            Command::RemoveDisk(remove) => {
                let is_bare = |disk: &&Name| cluster.extents_on(disk).next().is_none();
                if let Some(bare) = cluster.disks.keys().find(is_bare) {
                    remove.name = bare.clone();
                }
            }
            _ => {}
        }
        command
    }

    fn some_fate(&self, rng: &mut Rng) -> Fate {
        match rng.below(12) {
            0 => Fate::NotLeader,
            1 => Fate::Lost,
            2 => Fate::Unheard,
            _ => Fate::Answered,
        }
    }

    /// What a daemon looks at before it proposes a disk: that its medium carries nothing and nobody has it open, which its
    /// lock tells.
    fn is_let_in(&mut self, at: usize, command: &Command) -> bool {
        let Command::AddDisk(add) = command else {
            return true;
        };
        if self.members[at].cluster.disks.contains_key(&add.name) {
            return true;
        }
        let mut members = self.members.iter();
        if members.any(|member| member.node.has_open(&add.name)) {
            return false;
        }
        let Some(drive) = self.disks.drives.get_mut(&add.name) else {
            return false;
        };
        let is_free = matches!(drive.read(), Err(DecodeError::NotOurs));
        if is_free {
            drive.take();
        }
        is_free
    }

    /// A node proposes something; what comes back is why it is not done, as far as the node is told. What it objects to is not
    /// proposed.
    fn propose(&mut self, at: usize, command: &Command, fate: Fate) -> Result<Option<String>, String> {
        let member = &self.members[at];
        if member.is_cut_off {
            return Ok(Some("no leader is heard of".into()));
        }
        if let Ok((after, _)) = member.cluster.apply(command)
            && member.node.objects(&member.cluster, &after)
        {
            return Ok(Some("the node objects".into()));
        }
        let before = self.log.cluster();
        self.log.next(fate);
        let answer = self.log.propose(command.clone());
        let after = self.log.cluster();
        check(&after).map_err(|broken| format!("after {command:?}: {broken:?}"))?;
        if after != before && after.generation <= before.generation {
            return Err(format!("{command:?} changed the cluster and not its generation"));
        }
        self.disks.note(&after);
        let is_unchanged = matches!(answer, Ok(Outcome::Unchanged { .. }));
        if is_unchanged && after != before {
            return Err(format!("{command:?} is told to have changed nothing, and has"));
        }
        let (kind, answer) = match answer {
            Ok(_) => (0, None),
            Err(ProposeError::OutcomeUnknown | ProposeError::NotLeader { .. }) => {
                (2, Some("the outcome is unknown".into()))
            }
            Err(refused) => (1, Some(format!("{refused:?}"))),
        };
        self.answers[kind] += 1;
        Ok(answer)
    }

    /// A node hears of more of the log.
    fn hear(&mut self, at: usize, commands: usize) {
        let member = &mut self.members[at];
        member.heard = self.log.commands().min(member.heard.saturating_add(commands));
        if let Some(cluster) = self.log.after(member.heard) {
            member.cluster = cluster;
        }
    }

    /// One turn of a node, with what it tells the cluster.
    fn turn(&mut self, at: usize, rng: &mut Rng) -> Result<(), String> {
        if !self.members[at].is_cut_off && rng.one_in(3) {
            self.hear(at, rng.between(1, 3) as usize);
        }
        let fate = self.some_fate(rng);
        self.turn_with(at, fate, rng)
    }

    fn turn_with(&mut self, at: usize, fate: Fate, rng: &mut Rng) -> Result<(), String> {
        let member = &mut self.members[at];
        let cluster = Arc::clone(&member.cluster);
        let proposed = member.node.turn(&cluster, &mut self.disks.drives, rng)?;
        for (command, task) in proposed {
            match self.propose(at, &command, fate)? {
                None => self.members[at].node.done(task),
                Some(why) => self.members[at].node.failed(task, why),
            }
        }
        self.disks_are_apart(at)?;
        self.guests_are_apart(at)
    }

    /// The check that nobody else keeps open what this node has: each disk has one custodian, and he has let go of it before
    /// another one is found. A node that has not heard yet that it was released may look at it once more, as after a crash;
    /// what it finds there keeps it from writing ([`Drive::is_of`](super::drive::Drive::is_of)).
    fn disks_are_apart(&self, at: usize) -> Result<(), String> {
        let keeps = |member: &Member, disk: &Name| {
            let found = member.cluster.disks.get(disk);
            let lets_go = found.is_some_and(|found| found.leaving && *found.custodian() == member.name);
            !lets_go && member.node.open_disks().any(|open| open == disk)
        };
        let member = &self.members[at];
        let kept = member.node.open_disks().filter(|disk| keeps(member, disk));
        for disk in kept {
            let mut others = self.members.iter().filter(|other| other.number != member.number);
            if let Some(other) = others.find(|other| keeps(other, disk)) {
                let (one, two) = (&member.name, &other.name);
                return Err(format!("{one} and {two} both have {disk} open"));
            }
        }
        Ok(())
    }

    /// The check that guests of this node use no sector that those of another one use.
    fn guests_are_apart(&self, at: usize) -> Result<(), String> {
        let own: Vec<&ServedRoute> = self.members[at].node.used().collect();
        for (other, member) in self.members.iter().enumerate() {
            let mut used = member.node.used().filter(|_| other != at);
            let shared =
                used.find_map(|theirs| own.iter().find(|own| own.shares(theirs)).map(|own| (own, theirs)));
            if let Some((own, theirs)) = shared {
                return Err(format!(
                    "{} serves volume {} and {} serves volume {} by the same sectors",
                    self.members[at].name, own.place.name, member.name, theirs.place.name
                ));
            }
        }
        Ok(())
    }

    /// The process of a node ends, alone or with its machine and the caches of the disks that it uses; the next one reads its
    /// own copy of the log, and tells which of its runs it is.
    fn restart(&mut self, at: usize, rng: &mut Rng) -> Result<(), String> {
        let member = &mut self.members[at];
        if rng.one_in(2) {
            for disk in member.node.open_disks() {
                if let Some(drive) = self.disks.drives.get_mut(disk) {
                    drive.medium.power_cut(rng);
                }
            }
        }
        member.node.restart(member.cluster.generation);
        self.log.read_again()?;
        self.disks.check(&self.log.cluster())?;
        self.tell_of_start(at, rng)
    }

    /// What a node that is let in says first. It may be that nobody hears of it.
    fn tell_of_start(&mut self, at: usize, rng: &mut Rng) -> Result<(), String> {
        let fate = self.some_fate(rng);
        self.start_anew(at, fate)
    }

    fn start_anew(&mut self, at: usize, fate: Fate) -> Result<(), String> {
        let member = &self.members[at];
        let id = id_of(member.number);
        let mut known = member.cluster.nodes.values();
        let Some(known) = known.find(|node| node.uuid == id).cloned() else {
            return Ok(());
        };
        let started = NodeStarted {
            node: id,
            incarnation: known.incarnation.next(),
            feature_level: FEATURE_LEVEL,
        };
        let told = self.propose(at, &Command::NodeStarted(started), fate)?;
        let log = self.log.cluster();
        let agreed = log.nodes.values().find(|node| node.uuid == id);
        match agreed {
            Some(agreed) if told.is_none() && agreed.incarnation <= known.incarnation => Err(format!(
                "a new run of {} is {:?}, as one before",
                self.members[at].name, agreed.incarnation
            )),
            _ => Ok(()),
        }
    }

    /// When all are heard again the disks say what the cluster says.
    fn come_to_rest(&mut self, rng: &mut Rng) -> Result<(), String> {
        for member in &mut self.members {
            member.is_cut_off = false;
        }
        let mut quiet = 0;
        for _ in 0..TURNS_AT_REST {
            let at = rng.index(self.members.len());
            self.hear(at, usize::MAX);
            self.turn_with(at, Fate::Answered, rng)?;
            let all = self.log.commands();
            let is_at_rest =
                |member: &Member| member.heard == all && member.node.has_no_steps(&member.cluster);
            quiet = match self.members.iter().all(is_at_rest) {
                true => quiet + 1,
                false => 0,
            };
            if quiet > TURNS_OF_REST {
                return self.disks.are_as_wanted(&self.log.cluster());
            }
        }
        Err("the nodes do not come to rest".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A scenario in which disks never change hands, or in which everything is refused, would prove nothing.
    #[test]
    fn disks_change_hands_nodes_come_and_go_and_all_of_them_serve() {
        let (mut changed_hands, mut serving) = (0, 0);
        let (mut done, mut answers) = (BTreeMap::new(), [0; 3]);
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let mut nodes = Nodes::new(&mut rng, None).unwrap();
            nodes.life(&mut rng, &mut RunHash::default()).unwrap();
            let mut owners = BTreeMap::<Name, BTreeSet<Name>>::new();
            for command in &nodes.log.entries() {
                let kind = std::mem::discriminant(command);
                *done.entry(format!("{kind:?}")).or_insert(0) += 1;
                if let Command::AddDisk(add) = command {
                    owners
                        .entry(add.name.clone())
                        .or_default()
                        .insert(add.node.clone());
                }
            }
            changed_hands += owners.values().filter(|nodes| nodes.len() > 1).count();
            let serves = |member: &&Member| member.node.used().next().is_some();
            serving += nodes.members.iter().filter(serves).count();
            for (all, one) in answers.iter_mut().zip(nodes.answers) {
                *all += one;
            }
        }
        assert!(changed_hands >= 12 && serving >= 8, "{changed_hands}, {serving}");
        let often = done.values().filter(|times| **times >= 20).count();
        assert!(often >= 11, "{done:?}");
        assert!(answers.iter().all(|times| *times > 300), "{answers:?}");
    }
}

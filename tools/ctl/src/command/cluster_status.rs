//! `palisade cluster status`: what matters first in sentences, then all nodes.

use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{ClusterMember, ClusterPart, ClusterStatus, MemberCondition, Membership};
use serde_json::Value;

/// Shows a cluster.
pub fn show(client: &Client, out: Output, value: &Value) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(value)?);
    }
    let cluster: ClusterStatus = client.typed(value)?;
    for sentence in sentences(&cluster) {
        out.line(sentence)?;
    }
    out.line("")?;
    let log = match cluster.applied >= cluster.agreed {
        true => format!("{} (applied)", cluster.agreed),
        false => format!("{} ({} applied)", cluster.agreed, cluster.applied),
    };
    out.facts(vec![
        ("Cluster", cluster.id.clone()),
        ("Asked", format!("node {}, {}", cluster.node, part(cluster.part))),
        ("Waits for others at", show::or_dash(cluster.waits_at.clone())),
        ("Term", cluster.term.to_string()),
        ("Agreed", log),
        ("Generation", cluster.generation.to_string()),
        ("Epoch", cluster.epoch.to_string()),
        ("Feature level", cluster.feature_level.to_string()),
    ])?;
    out.line("")?;
    let rows = cluster.members.iter().map(|member| row(&cluster, member));
    out.table(
        [
            "node",
            "member",
            "vote",
            "heard",
            "behind",
            "fails with",
            "reached at",
        ],
        rows.collect(),
        "It has no nodes.",
    )?;
    Ok(())
}

/// How the node that was asked takes part.
fn part(part: ClusterPart) -> &'static str {
    match part {
        ClusterPart::Alone => "which agrees with itself",
        ClusterPart::Leader => "which leads",
        ClusterPart::Follower => "which has a vote",
        ClusterPart::Candidate => "which asks to be elected",
        ClusterPart::Learner => "which has no vote",
    }
}

fn row(cluster: &ClusterStatus, member: &ClusterMember) -> [String; 7] {
    let role = show::word(&member.role);
    let heard = match (member.heard_ms, member.condition) {
        _ if member.name == cluster.node => "answers here".to_owned(),
        (Some(_), Some(MemberCondition::Alive)) => "well".to_owned(),
        (Some(ms), Some(MemberCondition::Silent)) => format!("{} ago", length(ms)),
        (Some(_), Some(MemberCondition::OneWay)) => "one way".to_owned(),
        (Some(_), Some(MemberCondition::Limping)) => "limps".to_owned(),
        (Some(ms), None) => format!("{} ago", length(ms)),
        (None, Some(_)) => "never".to_owned(),
        (None, None) => "-".to_owned(),
    };
    [
        member.name.clone(),
        match member.membership {
            Membership::Active => role,
            Membership::Joining => format!("joining as {role}"),
            Membership::Evicted => format!("evicted {role}"),
        },
        match (member.leads, member.votes) {
            (true, _) => "leads",
            (_, true) => "yes",
            _ => "no",
        }
        .to_owned(),
        heard,
        show::or_dash(member.behind.map(changes)),
        show::or_dash(member.failure_domain.clone()),
        show::list(&member.addresses),
    ]
}

/// What matters, most urgent first.
fn sentences(cluster: &ClusterStatus) -> Vec<String> {
    let node = &cluster.node;
    if cluster.part == ClusterPart::Alone {
        return vec![format!(
            "Node {node} is in no cluster of several, and agrees with itself. To make it the first of one: palisade cluster init \
             --address IP:PORT"
        )];
    }
    let mut said = vec![who_leads(cluster)];
    said.extend(who_may_fail(cluster));
    let named = |of: &dyn Fn(&&ClusterMember) -> bool| {
        let names: Vec<String> = cluster
            .members
            .iter()
            .filter(of)
            .map(|member| member.name.clone())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let unwell = cluster.members.iter().filter_map(|member| {
        let unwell = member.unwell.as_ref()?;
        Some(format!("Node {} {unwell}.", member.name))
    });
    said.extend(unwell);
    if let Some(evicted) = named(&|member| member.membership == Membership::Evicted) {
        said.push(format!(
            "Given up by the others, and taken back once heard again: {evicted}."
        ));
    }
    if let Some(joining) = named(&|member| member.membership == Membership::Joining) {
        said.push(format!("Let in, and not started as a member yet: {joining}."));
    }
    let waits_for_vote = |member: &&ClusterMember| {
        let is_member = member.membership == Membership::Active;
        is_member && member.role == palisade_api::NodeRole::Voter && !member.votes
    };
    if let Some(waiting) = named(&waits_for_vote) {
        said.push(format!(
            "Wanted as voters, and without a vote until three have caught up: {waiting}."
        ));
    }
    if cluster.applied < cluster.agreed {
        let behind = changes(cluster.agreed - cluster.applied);
        said.push(format!(
            "Node {node} is {behind} behind, and so is what it shows."
        ));
    }
    if cluster.waits_at.is_none() {
        said.push(format!(
            "Other nodes cannot reach node {node}, as it waits for them nowhere: palisade health tells why."
        ));
    }
    said
}

fn who_leads(cluster: &ClusterStatus) -> String {
    match (cluster.has_majority, &cluster.leader) {
        (true, Some(leader)) => format!("Node {leader} leads, and a majority of the voters answers."),
        (true, None) => {
            "No leader is known. A majority of the voters answers, and elects one within seconds; until then nothing can be changed."
                .to_owned()
        }
        (false, leader) => {
            let leader = match leader {
                Some(leader) => format!(" Node {leader} led last, as far as it knows."),
                None => String::new(),
            };
            format!(
                "No majority of the voters answers, as far as node {} can tell: nothing can be changed, and what is shown here may be \
                 behind.{leader}",
                cluster.node
            )
        }
    }
}

/// How many voters may fail, by what the node that is asked hears.
fn who_may_fail(cluster: &ClusterStatus) -> Option<String> {
    let voters: Vec<&ClusterMember> = cluster.members.iter().filter(|member| member.votes).collect();
    let count = voters.len();
    let silent = voters.iter().filter(|member| is_silent(member)).count();
    let needed = count / 2 + 1;
    let spare = (count - silent).saturating_sub(needed);
    Some(match (count, cluster.has_majority) {
        (0, _) => return None,
        (1, _) => "One node has a vote: while it does not run, nothing can be changed.".to_owned(),
        (_, false) => format!("{count} nodes have a vote, and {needed} of them must answer."),
        (_, true) if silent > 0 && spare == 0 => {
            format!(
                "{count} nodes have a vote, {silent} of them silent: no other may fail, or nothing can be changed."
            )
        }
        (_, true) if silent > 0 => {
            format!("{count} nodes have a vote, {silent} of them silent: {spare} more may fail.")
        }
        (_, true) if spare == 0 => {
            format!("{count} nodes have a vote, and none of them may fail, or nothing can be changed.")
        }
        (_, true) => format!("{count} nodes have a vote, and {spare} of them may fail."),
    })
}

/// Whether a node cannot take part, as it is not heard or does not hear.
fn is_silent(member: &ClusterMember) -> bool {
    matches!(
        member.condition,
        Some(MemberCondition::Silent | MemberCondition::OneWay)
    )
}

fn changes(count: u64) -> String {
    match count {
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    }
}

/// A length of time, short enough for a table.
fn length(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 if !ms.is_multiple_of(1000) => format!("{:.1} s", ms as f64 / 1e3),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::NodeRole;

    fn member(name: &str) -> ClusterMember {
        ClusterMember {
            name: name.to_owned(),
            id: name.to_owned(),
            membership: Membership::Active,
            role: NodeRole::Voter,
            votes: true,
            leads: name == "a",
            behind: None,
            heard_ms: (name != "a").then_some(30),
            condition: (name != "a").then_some(MemberCondition::Alive),
            unwell: None,
            addresses: vec![],
            failure_domain: None,
        }
    }

    /// Asked of node a, which leads.
    fn of(names: &[&str]) -> ClusterStatus {
        ClusterStatus {
            id: "c".to_owned(),
            node: "a".to_owned(),
            part: ClusterPart::Leader,
            leader: Some("a".to_owned()),
            has_majority: true,
            term: 1,
            applied: 10,
            agreed: 10,
            generation: 5,
            epoch: 1,
            feature_level: 4,
            waits_at: Some("192.0.2.7:7781".to_owned()),
            members: names.iter().map(|name| member(name)).collect(),
        }
    }

    #[test]
    fn it_is_said_how_many_may_fail() {
        for (names, said) in [
            (
                &["a"][..],
                "One node has a vote: while it does not run, nothing can be changed.",
            ),
            (
                &["a", "b"],
                "2 nodes have a vote, and none of them may fail, or nothing can be changed.",
            ),
            (&["a", "b", "c"], "3 nodes have a vote, and 1 of them may fail."),
            (
                &["a", "b", "c", "d"],
                "4 nodes have a vote, and 1 of them may fail.",
            ),
            (
                &["a", "b", "c", "d", "e"],
                "5 nodes have a vote, and 2 of them may fail.",
            ),
        ] {
            assert_eq!(who_may_fail(&of(names)).unwrap(), said);
        }
        // One that is silent has failed already.
        let mut three = of(&["a", "b", "c"]);
        three.members[2].heard_ms = Some(4000);
        three.members[2].condition = Some(MemberCondition::Silent);
        three.members[2].unwell = Some("has not been heard for 4 s".to_owned());
        three.members[2].membership = Membership::Evicted;
        assert_eq!(
            row(&three, &three.members[2])[1..4],
            ["evicted voter", "yes", "4 s ago"]
        );
        let told = sentences(&three);
        assert_eq!(
            told[1],
            "3 nodes have a vote, 1 of them silent: no other may fail, or nothing can be changed."
        );
        assert_eq!(told[2], "Node c has not been heard for 4 s.");
        assert_eq!(
            told[3],
            "Given up by the others, and taken back once heard again: c."
        );
        let mut five = of(&["a", "b", "c", "d", "e"]);
        five.members[1].condition = Some(MemberCondition::OneWay);
        assert_eq!(
            who_may_fail(&five).unwrap(),
            "5 nodes have a vote, 1 of them silent: 1 more may fail."
        );
        // A node that has only just started does not know who is heard, and calls nobody silent.
        five.members.iter_mut().for_each(|member| member.condition = None);
        assert_eq!(
            who_may_fail(&five).unwrap(),
            "5 nodes have a vote, and 2 of them may fail."
        );
        // Learners have no vote, so their failure hinders nobody.
        let mut witness = of(&["a", "b", "c"]);
        witness.members[2].votes = false;
        witness.members[2].role = NodeRole::Learner;
        assert!(
            who_may_fail(&witness)
                .unwrap()
                .starts_with("2 nodes have a vote, and none")
        );
    }

    #[test]
    fn what_may_be_behind_is_said_before_it_is_shown() {
        let mut cut_off = of(&["a", "b", "c"]);
        cut_off.part = ClusterPart::Candidate;
        cut_off.has_majority = false;
        cut_off.leader = None;
        let told = sentences(&cut_off);
        assert!(told[0].starts_with(
            "No majority of the voters answers, as far as node a can tell: nothing can be changed"
        ));
        assert!(told[0].ends_with("may be behind."), "{told:?}");
        assert_eq!(told[1], "3 nodes have a vote, and 2 of them must answer.");
        cut_off.leader = Some("b".to_owned());
        assert!(sentences(&cut_off)[0].ends_with("Node b led last, as far as it knows."));
        let mut electing = of(&["a", "b", "c"]);
        electing.leader = None;
        assert!(sentences(&electing)[0].starts_with("No leader is known."));
        assert_eq!(
            sentences(&of(&["a", "b", "c"]))[0],
            "Node a leads, and a majority of the voters answers."
        );
    }

    #[test]
    fn what_is_not_finished_is_said() {
        let mut growing = of(&["a", "b", "c"]);
        growing.members[1].votes = false;
        growing.members[2].votes = false;
        growing.members[2].membership = Membership::Joining;
        growing.members[2].heard_ms = None;
        growing.applied = 9;
        growing.waits_at = None;
        let told = sentences(&growing);
        for sentence in [
            "Let in, and not started as a member yet: c.",
            "Wanted as voters, and without a vote until three have caught up: b.",
            "Node a is 1 change behind, and so is what it shows.",
        ] {
            assert!(told.iter().any(|one| one == sentence), "{sentence}: {told:?}");
        }
        assert!(told.last().unwrap().contains("palisade health"), "{told:?}");
        assert!(!told.iter().any(|one| one.contains("heard")), "{told:?}");
        let mut alone = of(&["a"]);
        alone.part = ClusterPart::Alone;
        let told = sentences(&alone);
        assert!(
            told.len() == 1 && told[0].contains("palisade cluster init --address"),
            "{told:?}"
        );
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (1500, "1.5 s"),
            (61_234, "61 s"),
            (125_000, "2 min"),
            (7_200_000, "2 h"),
        ] {
            assert_eq!(length(ms), text);
        }
    }
}

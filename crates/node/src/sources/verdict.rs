//! What several answers about one block mean together.

use crate::{Fate, Submitted};

/// The answers of all nodes to a block, by the name of each node, as one.
///
/// Accepted by any is accepted. A block that one node refuses is not given up while another could not be asked or has not decided, since
/// losing a good block costs more than handing over a bad one again.
pub(super) fn submitted(answers: Vec<(String, Submitted)>) -> Submitted {
    let (mut known, mut undecided, mut refused, mut away) = (false, Vec::new(), Vec::new(), Vec::new());
    for (name, answer) in answers {
        match answer {
            Submitted::Accepted => return Submitted::Accepted,
            Submitted::AlreadyKnown => known = true,
            Submitted::Undecided(word) => undecided.push(format!("{name}: {word}")),
            Submitted::Disputed { word, refused: reason } => {
                undecided.push(format!("{name}: {word}"));
                refused.push(format!("{name}: {reason}"));
            }
            Submitted::Refused(reason) => refused.push(format!("{name}: {reason}")),
            Submitted::Unreachable(reason) => away.push(format!("{name}: {reason}")),
        }
    }
    if known {
        return Submitted::AlreadyKnown;
    }
    match (undecided.is_empty(), refused.is_empty()) {
        (false, true) => return Submitted::Undecided(undecided.join("; ")),
        (false, false) => {
            return Submitted::Disputed { word: undecided.join("; "), refused: refused.join("; ") };
        }
        (true, false) if away.is_empty() => return Submitted::Refused(refused.join("; ")),
        (true, _) => {}
    }
    away.extend(refused.into_iter().map(|reason| format!("refused by {reason}")));
    Submitted::Unreachable(away.join("; "))
}

/// The answers of all nodes about where a block is, as one. Each comes with whether its node knows the newest block; those that do
/// see further than the others, and are believed first.
pub(super) fn fate(answers: Vec<(bool, Fate)>) -> Fate {
    let (level, behind): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(level, _)| *level);
    let mut reasons = Vec::new();
    for group in [level, behind] {
        let fates: Vec<Fate> = group.into_iter().map(|(_, fate)| fate).collect();
        if let Some(known) =
            fates.iter().filter_map(|fate| rank(fate).map(|rank| (rank, fate))).max_by_key(|(rank, _)| *rank)
        {
            return known.1.clone();
        }
        reasons.extend(fates.into_iter().filter_map(|fate| match fate {
            Fate::Unreachable(reason) => Some(reason),
            Fate::InChain { .. } | Fate::Stale | Fate::Unknown => None,
        }));
    }
    Fate::Unreachable(reasons.join("; "))
}

/// How much an answer says; `None` when it says nothing.
fn rank(fate: &Fate) -> Option<u64> {
    match fate {
        Fate::InChain { confirmations } => Some(2 + u64::from(*confirmations)),
        Fate::Stale => Some(1),
        Fate::Unknown => Some(0),
        Fate::Unreachable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(answers: &[Submitted]) -> Submitted {
        submitted(
            answers
                .iter()
                .zip(["a", "b", "c"])
                .map(|(answer, name)| (name.to_owned(), answer.clone()))
                .collect(),
        )
    }

    #[test]
    fn accepted_by_any_is_accepted() {
        let [refused, away] =
            [Submitted::Refused("bad".to_owned()), Submitted::Unreachable("off".to_owned())];
        let undecided = Submitted::Undecided("inconclusive".to_owned());
        let others = [refused, away, undecided, Submitted::AlreadyKnown, Submitted::Accepted];
        for other in &others {
            assert_eq!(all(&[other.clone(), Submitted::Accepted]), Submitted::Accepted);
            assert_eq!(all(&[Submitted::Accepted, other.clone()]), Submitted::Accepted);
        }
        for other in &others[..4] {
            assert_eq!(all(&[other.clone(), Submitted::AlreadyKnown]), Submitted::AlreadyKnown);
        }
    }

    #[test]
    fn a_block_is_given_up_only_when_every_node_refuses_it() {
        let [refused, away] =
            [Submitted::Refused("bad".to_owned()), Submitted::Unreachable("off".to_owned())];
        let undecided = Submitted::Undecided("inconclusive".to_owned());
        assert_eq!(all(&[refused.clone(), refused.clone()]), Submitted::Refused("a: bad; b: bad".to_owned()));
        let kept = Submitted::Unreachable("b: off; refused by a: bad".to_owned());
        assert_eq!(all(&[refused.clone(), away.clone()]), kept);
        let (word, bad) = ("b: inconclusive".to_owned(), "a: bad".to_owned());
        let disputed = Submitted::Disputed { word, refused: bad };
        assert_eq!(all(&[refused.clone(), undecided.clone()]), disputed);
        assert_eq!(all(&[refused, undecided.clone(), away.clone()]), disputed);
        assert_eq!(all(&[away.clone(), undecided]), Submitted::Undecided("b: inconclusive".to_owned()));
        assert_eq!(all(&[away.clone(), away]), Submitted::Unreachable("a: off; b: off".to_owned()));
    }

    #[test]
    fn those_who_know_the_newest_block_tell_the_fate() {
        let in_chain = |confirmations| Fate::InChain { confirmations };
        let away = || Fate::Unreachable("off".to_owned());
        for (answers, together) in [
            (vec![(true, Fate::Stale), (false, in_chain(9))], Fate::Stale),
            (vec![(true, Fate::Unknown), (false, in_chain(9))], Fate::Unknown),
            (vec![(true, Fate::Stale), (true, in_chain(1))], in_chain(1)),
            (vec![(true, in_chain(2)), (true, in_chain(3))], in_chain(3)),
            (vec![(true, Fate::Unknown), (true, Fate::Stale)], Fate::Stale),
            (vec![(true, away()), (true, Fate::Stale)], Fate::Stale),
            (vec![(true, away()), (false, in_chain(2))], in_chain(2)),
            (vec![(true, away()), (false, away())], Fate::Unreachable("off; off".to_owned())),
        ] {
            assert_eq!(fate(answers.clone()), together, "{answers:?}");
        }
    }
}

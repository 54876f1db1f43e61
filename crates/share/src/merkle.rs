//! Merkle trees as Bitcoin builds them: the root from a coinbase and its path, the path from the other transactions.

use crate::sha256::{self, Block, PADDING_AFTER_ONE_BLOCK, State};

/// The parent of two nodes.
#[inline]
fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut node: Block = [0; 64];
    let (to_left, to_right) = node.split_at_mut(32);
    to_left.copy_from_slice(left);
    to_right.copy_from_slice(right);
    let mut state = State::INITIAL;
    state.compress(&[node, PADDING_AFTER_ONE_BLOCK]);
    state.hash_again()
}

/// The root above the leftmost leaf, whose neighbours on the way up are `path`, deepest first (spec 5.3.16).
#[inline]
pub(crate) fn fold(leaf: [u8; 32], path: &[[u8; 32]]) -> [u8; 32] {
    path.iter().fold(leaf, |left, right| parent(&left, right))
}

/// Two roots at once, as [`fold`] makes each of them; where one path is longer, its root goes on alone.
#[inline]
pub(crate) fn fold_two(leaves: [[u8; 32]; 2], [path, other]: [&[[u8; 32]]; 2]) -> [[u8; 32]; 2] {
    let both = path.len().min(other.len());
    let (paths, rests) =
        (path.iter().zip(other), [path, other].map(|path| path.get(both..).unwrap_or_default()));
    let [left, right] = paths.fold(leaves, |lefts, rights| parents_of_two(&lefts, rights));
    [fold(left, rests[0]), fold(right, rests[1])]
}

/// The parents of two times two nodes.
#[inline]
fn parents_of_two(lefts: &[[u8; 32]; 2], rights: (&[u8; 32], &[u8; 32])) -> [[u8; 32]; 2] {
    let ([left, other], (right, other_right)) = (lefts, rights);
    let parents = sha256::parents([left, other], [right, other_right]);
    parents.unwrap_or_else(|| [parent(left, right), parent(other, other_right)])
}

/// The path of the leftmost leaf, from all leaves to its right: the coinbase's neighbours up the tree from the ids of the other
/// transactions, deepest first, in raw byte order.
#[must_use]
pub fn path(leaves: impl IntoIterator<Item = [u8; 32]>) -> Vec<[u8; 32]> {
    // The leftmost node of each level depends on the leaf that is not known yet; its value never reaches the path.
    let mut level: Vec<[u8; 32]> = std::iter::once([0; 32]).chain(leaves).collect();
    let mut path = Vec::new();
    while let Some(&neighbour) = level.get(1) {
        path.push(neighbour);
        level = parents(&level);
    }
    path
}

/// The root above all `leaves`; all zeros when there are none.
pub(crate) fn root(leaves: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut level: Vec<[u8; 32]> = leaves.into_iter().collect();
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// The next level up; a node without a neighbour is paired with itself.
fn parents(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let (pairs, odd) = level.as_chunks::<2>();
    pairs
        .iter()
        .map(|[left, right]| parent(left, right))
        .chain(odd.iter().map(|alone| parent(alone, alone)))
        .collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash as _, sha256d};
    use bitcoin::merkle_tree;

    use super::*;

    #[test]
    fn trees_of_every_small_size_agree_with_rust_bitcoin() {
        for count in 1..=70_u8 {
            let leaves: Vec<[u8; 32]> = (0..count).map(|leaf| [leaf; 32]).collect();
            let naive =
                merkle_tree::calculate_root(leaves.iter().map(|leaf| sha256d::Hash::from_byte_array(*leaf)));
            let naive = naive.expect("there is a leaf").to_byte_array();
            assert_eq!(root(leaves.clone()), naive, "{count} leaves");
            let path = path(leaves[1..].iter().copied());
            assert_eq!(fold(leaves[0], &path), naive, "{count} leaves");
            assert_eq!(path.len(), usize::from(count).next_power_of_two().ilog2() as usize);
        }
    }

    #[test]
    fn two_roots_at_once_are_what_each_is_alone() {
        let nodes: Vec<[u8; 32]> = (1..=12).map(|node| [node; 32]).collect();
        for (len, other) in (0..=12).flat_map(|len| (0..=12).map(move |other| (len, other))) {
            let (leaves, paths) = ([[50; 32], [60; 32]], [&nodes[..len], &nodes[12 - other..]]);
            let alone = [fold(leaves[0], paths[0]), fold(leaves[1], paths[1])];
            assert_eq!(fold_two(leaves, paths), alone, "{len} and {other} steps");
        }
    }

    #[test]
    fn no_leaves_have_no_root() {
        assert_eq!(root([]), [0; 32]);
        assert!(path([]).is_empty());
    }
}

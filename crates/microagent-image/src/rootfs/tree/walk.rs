//! The reachable part of a tree, in the one order every image is written in.

use super::{NodeId, Tree};

/// Reachable nodes, directories before what is in them and names in byte order, each once; with how many names each has.
#[derive(Debug)]
pub(in crate::rootfs) struct Walk {
    order: Vec<NodeId>,
    link_counts: Vec<u32>,
    parents: Vec<NodeId>,
}

impl Walk {
    pub(in crate::rootfs) fn of(tree: &Tree) -> Self {
        let mut walk = Walk {
            order: Vec::new(),
            link_counts: vec![0; tree.node_count()],
            parents: vec![NodeId::ROOT; tree.node_count()],
        };
        let mut stack = vec![NodeId::ROOT];
        // A directory is named by its parent and by itself; the root is its own parent.
        walk.link_counts[NodeId::ROOT.index()] = 2;
        while let Some(id) = stack.pop() {
            walk.order.push(id);
            let Some(children) = tree.children(id) else {
                continue;
            };
            // Files are placed right behind their directory, together; directories go on the stack for later.
            for child in children.values().copied().filter(|child| tree.children(*child).is_none()) {
                let count = &mut walk.link_counts[child.index()];
                *count += 1;
                if *count == 1 {
                    walk.order.push(child);
                }
            }
            for child in children.values().copied().rev().filter(|child| tree.children(*child).is_some()) {
                walk.link_counts[child.index()] = 2;
                walk.link_counts[id.index()] += 1;
                walk.parents[child.index()] = id;
                stack.push(child);
            }
        }
        walk
    }

    pub(in crate::rootfs) fn order(&self) -> &[NodeId] {
        &self.order
    }

    pub(in crate::rootfs) fn link_count(&self, id: NodeId) -> u32 {
        self.link_counts[id.index()]
    }

    pub(in crate::rootfs) fn parent(&self, directory: NodeId) -> NodeId {
        self.parents[directory.index()]
    }

    /// One path of a node, for messages.
    pub(in crate::rootfs) fn path_of(&self, tree: &Tree, id: NodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut wanted = id;
        // Directories come before what is in them, so backwards each is met after all it holds.
        for directory in self.order.iter().rev() {
            let children = tree.children(*directory).into_iter().flatten();
            if let Some((name, _)) = children.into_iter().find(|(_, child)| **child == wanted) {
                names.push(&**name);
                wanted = *directory;
            }
        }
        names.reverse();
        names.join(&b'/')
    }
}

//! Hard links, whose targets may stand later in the same archive.
//!
//! A link whose target is known becomes a second name of it at once, as it would when unpacking in order. One whose target
//! is not known yet takes its place in the tree as a placeholder, so that later entries replace it or are replaced by it
//! as they should; when the archive has been read, the placeholders still in place are resolved.

use std::collections::HashMap;

use super::{Body, Node, NodeId, Tree};
use crate::rootfs::{Error, path};

/// The placeholders of one layer.
#[derive(Default)]
pub(super) struct PendingLinks(Vec<PendingLink>);

struct PendingLink {
    placeholder: NodeId,
    path: Box<[u8]>,
}

impl PendingLinks {
    pub(super) fn push(&mut self, placeholder: NodeId, path: &[u8]) {
        self.0.push(PendingLink { placeholder, path: path.into() });
    }
}

impl Tree {
    /// The node a hard link at `path` means: its target if that exists, else a new placeholder.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<NodeId, Error> {
        let names = path::split(target, &self.limits)
            .map_err(|_| Error::link(path, target, "the target is not a path inside the image"))?;
        if let Some(existing) = self.find(&names) {
            return match self.node(existing).body {
                Body::Directory(_) => Err(Error::link(path, target, "the target is a directory")),
                _ => Ok(existing),
            };
        }
        self.usage.add_metadata(target.len() + path.len(), &self.limits)?;
        Ok(self.add(Node { body: Body::PendingLink(target.into()), ..Node::implied_directory() }))
    }

    /// Replaces every placeholder still in place by what it stands for.
    pub(super) fn resolve(&mut self, pending: PendingLinks) -> Result<(), Error> {
        let mut resolved = HashMap::new();
        for link in pending.0 {
            let names = path::split(&link.path, &self.limits)?;
            let Some((name, parents)) = names.split_last() else {
                continue;
            };
            if self.find(&names) != Some(link.placeholder) {
                continue;
            }
            let target = self.follow(&link, &mut resolved)?;
            if let Some(parent) = self.find(parents) {
                self.place(parent, name, target)?;
            }
        }
        Ok(())
    }

    /// Follows a chain of placeholders to its end. Every link of the chain is remembered, so that a chain of any length is
    /// followed once, and one that meets itself is seen to.
    fn follow(&self, link: &PendingLink, resolved: &mut HashMap<NodeId, Option<NodeId>>) -> Result<NodeId, Error> {
        let mut chain = Vec::new();
        let mut id = link.placeholder;
        while let Body::PendingLink(target) = &self.node(id).body {
            let bad = |reason| Error::link(&link.path, target, reason);
            id = match resolved.insert(id, None) {
                Some(Some(end)) => {
                    resolved.insert(id, Some(end));
                    end
                }
                Some(None) => return Err(bad("the links lead back to themselves")),
                None => {
                    chain.push(id);
                    let names = path::split(target, &self.limits)?;
                    self.find(&names).ok_or_else(|| bad("the target does not exist"))?
                }
            };
            if self.children(id).is_some() {
                return Err(bad("the target is a directory"));
            }
        }
        resolved.extend(chain.into_iter().map(|step| (step, Some(id))));
        Ok(id)
    }
}

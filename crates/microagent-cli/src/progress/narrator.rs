//! From the library's events to phases a person can follow.

use crate::quantity;
use microagent::Event;
use microagent::image::{self, Digest};
use microagent::machine::kernel;
use std::collections::HashMap;

/// What changes for whoever watches.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Something else is being done now.
    Phase(String),
    /// More bytes of it are here.
    Bytes { done: u64, total: Option<u64> },
    /// The guest is up and may print.
    End,
}

/// Remembers what is needed to make sense of the next event.
#[derive(Default)]
pub(super) struct Narrator {
    reference: String,
    /// What is done with it: `pulling` or `pushing`.
    verb: &'static str,
    /// Bytes of each layer that are here.
    layers: HashMap<Digest, u64>,
    total: u64,
    phase: String,
}

impl Narrator {
    pub(super) fn hear(&mut self, event: &Event<'_>) -> Option<Change> {
        match event {
            Event::Image(event) => self.hear_image(event),
            Event::Kernel(progress) => self.hear_kernel(progress),
            Event::Booting => self.enter("booting".to_owned()),
            Event::Booted => Some(Change::End),
            _ => None,
        }
    }

    fn hear_image(&mut self, event: &image::Event<'_>) -> Option<Change> {
        match event {
            image::Event::Resolving { reference } => {
                self.reference = reference.familiar();
                self.verb = "pulling";
                self.enter(format!("resolving {}", self.reference))
            }
            image::Event::Resolved { layers, bytes, .. } => {
                self.total = *bytes;
                let plural = if *layers == 1 { "" } else { "s" };
                let size = quantity::bytes(*bytes);
                self.enter(format!("pulling {} ({layers} layer{plural}, {size})", self.reference))
            }
            image::Event::Waiting { .. } => self.enter(format!("waiting for another pull of {}", self.reference)),
            image::Event::Layer { digest, done, .. } | image::Event::Uploaded { digest, done, .. } => {
                self.layers.insert((*digest).clone(), *done);
                let done = self.layers.values().sum();
                Some(Change::Bytes { done, total: Some(self.total.max(done)) })
            }
            image::Event::Retrying { attempt, .. } => {
                self.enter(format!("{} {} (attempt {attempt})", self.verb, self.reference))
            }
            image::Event::Pushing { reference, layers, bytes } => {
                self.reference = reference.familiar();
                self.verb = "pushing";
                self.total = *bytes;
                let plural = if *layers == 1 { "" } else { "s" };
                let size = quantity::bytes(*bytes);
                self.enter(format!("pushing {} ({layers} layer{plural}, {size})", self.reference))
            }
            image::Event::Compressing { bytes } => {
                let entered = self.enter("compressing what was changed".to_owned());
                entered.or(Some(Change::Bytes { done: *bytes, total: None }))
            }
            image::Event::Building { bytes } => {
                self.enter(format!("building the base image ({} unpacked)", quantity::bytes(*bytes)))
            }
            _ => None,
        }
    }

    fn hear_kernel(&mut self, progress: &kernel::Progress) -> Option<Change> {
        match progress {
            kernel::Progress::Waiting => self.enter("waiting for another installation of a kernel".to_owned()),
            kernel::Progress::Resolving => self.enter("looking for the kernel package".to_owned()),
            kernel::Progress::Downloading { what, received, total } => {
                let entered = self.enter(format!("downloading kernel {what}"));
                entered.or(Some(Change::Bytes { done: *received, total: *total }))
            }
            kernel::Progress::Unpacking { what } => self.enter(format!("unpacking kernel {what}")),
            _ => None,
        }
    }

    /// A phase is announced once, however often its event comes.
    fn enter(&mut self, phase: String) -> Option<Change> {
        if self.phase == phase {
            return None;
        }
        self.phase.clone_from(&phase);
        Some(Change::Phase(phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fill: char) -> Digest {
        format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap()
    }

    #[test]
    fn a_pull_is_told_with_its_size_and_the_sum_of_its_layers() {
        let reference = "docker.io/library/alpine:3.20".parse().unwrap();
        let (manifest, one, two) = (digest('0'), digest('1'), digest('2'));
        let mut narrator = Narrator::default();
        let mut hear = |event| narrator.hear(&Event::Image(event));
        assert_eq!(
            hear(image::Event::Resolving { reference: &reference }),
            Some(Change::Phase("resolving alpine:3.20".to_owned()))
        );
        assert_eq!(
            hear(image::Event::Resolved { manifest_digest: &manifest, layers: 2, bytes: 3_400_000 }),
            Some(Change::Phase("pulling alpine:3.20 (2 layers, 3.4 MB)".to_owned()))
        );
        hear(image::Event::Layer { digest: &one, done: 100, total: 1_400_000 });
        hear(image::Event::Layer { digest: &two, done: 50, total: 2_000_000 });
        assert_eq!(
            hear(image::Event::Layer { digest: &one, done: 200, total: 1_400_000 }),
            Some(Change::Bytes { done: 250, total: Some(3_400_000) })
        );
    }

    #[test]
    fn a_push_counts_what_arrives_and_says_when_it_begins_again() {
        let reference = "example.org/app:1".parse().unwrap();
        let blob = digest('1');
        let mut narrator = Narrator::default();
        let mut hear = |event| narrator.hear(&Event::Image(event));
        let begun = hear(image::Event::Pushing { reference: &reference, layers: 1, bytes: 1000 });
        assert_eq!(begun, Some(Change::Phase("pushing example.org/app:1 (1 layer, 1.0 kB)".to_owned())));
        let sent = hear(image::Event::Uploaded { digest: &blob, done: 600, total: 1000 });
        assert_eq!(sent, Some(Change::Bytes { done: 600, total: Some(1000) }));
        let again = hear(image::Event::Retrying { digest: &blob, attempt: 2 });
        assert_eq!(again, Some(Change::Phase("pushing example.org/app:1 (attempt 2)".to_owned())));
    }

    #[test]
    fn a_download_is_announced_once_and_then_counted() {
        let mut narrator = Narrator::default();
        let mut hear = |received| {
            let what = "linux-image-cloud-amd64".to_owned();
            narrator.hear(&Event::Kernel(kernel::Progress::Downloading { what, received, total: None }))
        };
        assert_eq!(hear(0), Some(Change::Phase("downloading kernel linux-image-cloud-amd64".to_owned())));
        assert_eq!(hear(10), Some(Change::Bytes { done: 10, total: None }));
    }

    #[test]
    fn nothing_is_shown_once_the_guest_may_print() {
        let mut narrator = Narrator::default();
        assert_eq!(narrator.hear(&Event::Booting), Some(Change::Phase("booting".to_owned())));
        assert_eq!(narrator.hear(&Event::Booted), Some(Change::End));
        assert_eq!(narrator.hear(&Event::Setup { step: 1, steps: 1 }), None);
        assert_eq!(narrator.hear(&Event::Running), None);
    }
}

//! What a call tells its caller while it works.

use microagent_image as image;
use microagent_machine::kernel;

/// Something that happened on the way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// About the image: resolving, pulling, building its base.
    Image(image::Event<'a>),
    /// About the kernel: downloading, unpacking.
    Kernel(kernel::Progress),
    /// Something about templates that makes this run, or the next, slower than it could be.
    Template {
        /// What.
        note: &'a str,
    },
    /// The machine starts.
    Booting,
    /// The guest answers; the command is next.
    Booted,
    /// A set-up step runs.
    Setup {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
    },
    /// The command runs: from here on output may come at any moment.
    Running,
}

/// Hears what happens. Called from several threads at once; it should return quickly.
pub trait Progress: Send + Sync {
    /// Takes note of `event`.
    fn event(&self, event: Event<'_>);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Passes the image crate's events on.
pub(crate) struct ImageEvents<'a>(pub(crate) &'a dyn Progress);

impl image::Progress for ImageEvents<'_> {
    fn event(&self, event: image::Event<'_>) {
        self.0.event(Event::Image(event));
    }
}
